package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/test/harness"
)

// insistScript asks for the same tool again and again, whatever it is told.
const insistScript = `
rules:
  - name: insist again
    when: {user: "/insist/", toolResult: true}
    reply: {toolCalls: [{name: tools__alpha, arguments: {q: x}}], delay: 40ms}
  - name: insist
    when: {user: "/insist/"}
    reply: {toolCalls: [{name: tools__alpha, arguments: {q: x}}], delay: 40ms}
  - name: end
    when: {toolResult: true}
    reply: {text: "done | {{system}}"}
  - name: call
    when: {user: "/^req/"}
    reply: {toolCalls: [{name: tools__alpha, arguments: {q: x}}]}
default: {text: "{{system}} | {{tools}}"}
`

// pass lets d go by.
func pass(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

// ctl runs agentctl and wants exit code 0.
func (w *world) ctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.CtlOK(t.Context(), w.cp, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// instances starts n instances of an agent and waits until all are ready.
func (w *world) instances(t *testing.T, agent string, n int) []*harness.Agent {
	t.Helper()
	var out []*harness.Agent
	for i := range n {
		a, err := w.StartAgent(w.cp, agent, harness.AgentOptions{Instance: fmt.Sprintf("%s-%d", agent, i), ModelBaseURL: w.url})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	for _, a := range out {
		if err := a.WaitReady(t.Context(), 60*time.Second); err != nil {
			t.Fatalf("%v\nagentd:\n%s", err, a.Output())
		}
	}
	return out
}

// since counts the calls of a stub after a moment.
func since(stub *harness.MCPStub, at time.Time) int {
	n := 0
	for _, c := range stub.Calls() {
		if c.At.After(at) {
			n++
		}
	}
	return n
}

// A tool that is switched off is called by nobody a second later, though the model insists, in requests that were running.
func TestToolOffReachesRunningRequests(t *testing.T) {
	w := newWorld(t, insistScript)
	stub := harness.NewMCPStub("tools", "alpha", "beta")
	t.Cleanup(stub.Close)
	files := helper(stub.URL, `"alpha", "beta"`)
	files["helper/agent-base.json"] = `{"promptKey": "helper", "maxIterations": 2000, "limits": {"toolCalls": 2000}}`
	w.apply(t, files)
	agents := w.instances(t, "helper", 3)

	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var mu sync.Mutex
	ended := map[string]error{}
	for _, a := range agents {
		running.Go(func() {
			_, err := a.Chat(ctx, "", "insist")
			if ctx.Err() == nil {
				mu.Lock()
				ended[a.Instance] = err
				mu.Unlock()
			}
		})
	}
	defer running.Wait()
	defer stop()
	calling := func(context.Context) error {
		if n := since(stub, time.Now().Add(-300*time.Millisecond)); n < len(agents) {
			return fmt.Errorf("%d calls in the last 300 ms", n)
		}
		return nil
	}
	eventually(t, 10*time.Second, calling)

	for _, off := range [][]string{{"tools", "alpha"}, {"tools"}} {
		w.ctl(t, append([]string{"mcp", "disable", "--message", "it deletes too much"}, off...)...)
		at := time.Now()
		pass(t, 3*time.Second)
		if n := since(stub, at.Add(time.Second)); n > 0 {
			t.Errorf("%v off: %d calls reached the server later than a second after", off, n)
		}
		insisted := 0
		for _, r := range w.model.Requests() {
			if r.Time.After(at.Add(time.Second)) {
				insisted++
				if off[len(off)-1] == "alpha" && slices.Contains(r.ToolNames(), "tools__alpha") {
					t.Error("the tool is still offered to the model")
				}
			}
		}
		if insisted < len(agents)*10 {
			t.Errorf("%v off: the model insisted %d times only", off, insisted)
		}
		w.ctl(t, append([]string{"mcp", "enable"}, off...)...)
		eventually(t, 10*time.Second, calling)
	}
	mu.Lock()
	defer mu.Unlock()
	for instance, err := range ended {
		t.Errorf("the request on %s ended before its time: %v", instance, err)
	}
	if st := w.status(t, "helper"); st.Revision.Desired != 1 || st.Condition != "Synced" {
		t.Errorf("switches made revisions: %+v", st)
	}
	history := w.ctl(t, "history", "helper")
	if !strings.Contains(history, "tool alpha=off") || !strings.Contains(history, "it deletes too much") {
		t.Errorf("history doesn't tell:\n%s", history)
	}
}

// storeRevision is what the control plane's view shows.
func (w *world) storeRevision(t *testing.T) int64 {
	t.Helper()
	resp, err := w.api.Status.Info(t.Context(), connect.NewRequest(&releasev1.InfoRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return resp.Msg.GetViewRevision()
}

// A label is moved: one store revision, and every instance of every agent that refers to it follows.
func TestLabelMoveIsOneStoreRevision(t *testing.T) {
	const agents, each = 10, 2
	w := newWorld(t, insistScript)
	files := harness.Files{}
	for _, v := range []string{"1.0.0", "1.0.1"} {
		files["prompts/shared.json"] = fmt.Sprintf(`{"promptKey": "shared", "version": %q, "template": "shared %s"}`, v, v)
		w.apply(t, files)
	}
	w.ctl(t, "prompt", "label", "set", "shared", "prod", "1.0.0")
	files = harness.Files{}
	for i := range agents {
		files[fmt.Sprintf("a%d/agent-base.json", i)] = `{"promptKey": "shared", "promptLabel": "prod"}`
		files[fmt.Sprintf("a%d/model.json", i)] = `{"model": "scripted"}`
	}
	w.apply(t, files)
	var all []*harness.Agent
	for i := range agents {
		all = append(all, w.instances(t, fmt.Sprintf("a%d", i), each)...)
	}
	on := func(version string) func(context.Context) error {
		return func(ctx context.Context) error {
			resp, err := w.api.Status.ListStatus(ctx, connect.NewRequest(&releasev1.ListStatusRequest{}))
			if err != nil {
				return err
			}
			n := 0
			for _, s := range resp.Msg.GetStatuses() {
				for _, i := range s.GetInstances() {
					if s.GetCondition() == "Synced" && i.GetPhase() == "APPLIED" && i.GetRunning().GetConfig() == s.GetConfig() {
						n++
					}
				}
			}
			if n != agents*each {
				return fmt.Errorf("%d of %d instances are on %s", n, agents*each, version)
			}
			return nil
		}
	}
	eventually(t, 30*time.Second, on("1.0.0"))
	// What they applied first is still being recorded: wait until the store is quiet.
	before := w.storeRevision(t)
	quiet := time.Now()
	eventually(t, 60*time.Second, func(context.Context) error {
		if now := w.storeRevision(t); now != before {
			before, quiet = now, time.Now()
		}
		if time.Since(quiet) < 5*time.Second {
			return errors.New("the store is not quiet")
		}
		return nil
	})
	began := time.Now()
	var moved struct {
		Agents        []string `json:"agents"`
		StoreRevision int64    `json:"storeRevision"`
	}
	if err := json.Unmarshal([]byte(w.ctl(t, "prompt", "label", "set", "shared", "prod", "1.0.1", "--message", "better", "-o", "json")), &moved); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, on("1.0.1"))
	took := time.Since(began)
	if now := w.storeRevision(t); now != before+1 || moved.StoreRevision != now || len(moved.Agents) != agents {
		t.Errorf("store went from %d to %d (%+v), want exactly 1 more", before, now, moved)
	}
	for _, a := range all {
		ans, err := a.Chat(t.Context(), "", "hello")
		if err != nil || !strings.HasPrefix(ans.Text, "shared 1.0.1 ") || ans.Revision != "1" {
			t.Errorf("%s: %+v, %v", a.Instance, ans, err)
		}
	}
	if out := w.ctl(t, "prompt", "label", "history", "shared", "prod"); !strings.Contains(out, "1.0.0") || !strings.Contains(out, "better") {
		t.Errorf("label history:\n%s", out)
	}
	t.Logf("20 instances on the new version after %s", took.Round(time.Millisecond))
}

// Definitions are pinned from a probe: a changed tool is withdrawn until it is approved again. And a refused revision is offered
// again by a person.
func TestApprovalsProbesAndRetry(t *testing.T) {
	w := newWorld(t, insistScript)
	stub := harness.NewMCPStub("tools", "alpha", "beta")
	t.Cleanup(stub.Close)
	w.ctl(t, "mcp", "register", "tools", "--endpoint", stub.URL)
	files := helper(stub.URL, `"alpha", "beta"`)
	delete(files, "mcp/tools.json")
	w.apply(t, files)
	a := w.agent(t, "helper")
	if out := w.ctl(t, "mcp", "probe", "tools"); !strings.Contains(out, "unpinned") {
		t.Errorf("probe:\n%s", out)
	}
	w.ctl(t, "mcp", "approve", "tools")
	if out := w.ctl(t, "mcp", "tools", "tools"); strings.Count(out, "approved") != 2 {
		t.Errorf("tools:\n%s", out)
	}
	offered := func(want string) func(context.Context) error {
		return func(ctx context.Context) error {
			ans, err := a.Chat(ctx, "", "hello")
			if err == nil && ans.Text != "be helpful | "+want {
				err = fmt.Errorf("offered: %q", ans.Text)
			}
			return err
		}
	}
	eventually(t, 10*time.Second, offered("tools__alpha, tools__beta"))
	stub.Redefine("beta", "does something else now")
	eventually(t, 45*time.Second, offered("tools__alpha"))
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		out, err := w.CtlOK(ctx, w.cp, "mcp", "probe", "tools")
		if err == nil && !strings.Contains(out, "changed") {
			err = errors.New(out)
		}
		return err
	})
	// The instance may still report the old definition: name the new one.
	var shown struct {
		Tools []struct {
			Name        string `json:"name"`
			Definitions []struct {
				Digest string   `json:"digest"`
				SeenBy []string `json:"seenBy"`
			} `json:"definitions"`
		} `json:"tools"`
	}
	if err := json.Unmarshal([]byte(w.ctl(t, "mcp", "tools", "tools", "-o", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	digest := ""
	for _, tool := range shown.Tools {
		for _, d := range tool.Definitions {
			if tool.Name == "beta" && slices.Contains(d.SeenBy, "probe") {
				digest = d.Digest
			}
		}
	}
	w.ctl(t, "mcp", "approve", "tools", "beta", "--digest", digest)
	eventually(t, 10*time.Second, offered("tools__alpha, tools__beta"))

	// A refused revision: refused by record when applied again, offered again by retry.
	w.apply(t, helper(stub.URL, `"alpha", "later"`))
	eventually(t, 10*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && (st.LastRefusal == nil || st.Condition != "Synced") {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})
	stub.AddTool("later")
	dir := filepath.Join(w.Dir, "again")
	if err := helper(stub.URL, `"alpha", "later"`).WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	out, err := w.Ctl(t.Context(), w.cp, "apply", "-f", dir)
	if err != nil || out.Code != 4 || !strings.Contains(out.Stderr, "agentctl rollout retry") {
		t.Fatalf("the same again: %+v, %v", out, err)
	}
	if out := w.ctl(t, "rollout", "status", "helper"); !strings.Contains(out, "settled") {
		t.Errorf("rollout status: %s", out)
	}
	// The instance lists tools every 30 s unless told of a change, which this server does.
	w.ctl(t, "rollout", "retry", "helper", "--message", "the tool is there now")
	w.ctl(t, "rollout", "status", "helper", "-w", "--timeout", "30s")
	eventually(t, 10*time.Second, offered("tools__alpha, tools__later"))
	if st := w.status(t, "helper"); st.Revision.Stable != 2 || st.Condition != "Synced" {
		t.Errorf("status %+v", st)
	}
	if out, err := w.Ctl(t.Context(), w.cp, "rollout", "abort", "helper"); err != nil || out.Code != 4 {
		t.Errorf("nothing to abort: %+v, %v", out, err)
	}
}
