package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/test/harness"
)

const echoScript = `
rules:
  - name: end
    when: {toolResult: true}
    reply: {text: "tool said {{toolResult}}"}
  - name: call
    when: {user: "/^call/"}
    reply: {toolCalls: [{name: alpha, arguments: {q: x}}]}
default: {text: "{{system}} | {{user}}"}
`

// helper is a small agent with one MCP server.
func helper(url, allow string) harness.Files {
	return harness.Files{
		"helper/agent-base.json":  `{"promptKey": "helper"}`,
		"helper/model.json":       `{"model": "scripted", "temperature": 0}`,
		"helper/mcp-servers.json": fmt.Sprintf(`{"mcpServers": [{"mcpServerName": "tools", "tools": {"allow": [%s]}}]}`, allow),
		"prompts/helper.json":     `{"promptKey": "helper", "version": "1.0.0", "template": "be helpful"}`,
		"mcp/tools.json":          fmt.Sprintf(`{"name": "tools", "endpoint": %q}`, url),
	}
}

// A refusal that is not retryable: an allow list that names a missing tool.
func TestRefusalIsShownAndRolledBackByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha", "beta")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	a := w.agent(t, "helper")

	applied := time.Now()
	w.apply(t, helper(stub.URL, `"alpha", "gamma"`))
	var st harness.Status
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		var err error
		if st, err = w.Status(ctx, w.cp, "helper"); err != nil {
			return err
		}
		if st.LastRefusal == nil {
			return errors.New("no refusal in status yet")
		}
		return nil
	})
	t.Logf("refusal in status after %s", time.Since(applied))
	r := st.LastRefusal
	if r.Revision != 2 || r.Instance != "helper" || r.Action != "rolled_back" || r.RolledBackTo != 1 || len(r.Faults) != 1 {
		t.Fatalf("lastRefusal %+v", r)
	}
	if f := r.Faults[0]; f.Resource != "agent/helper" || f.Field != "mcpServers[0].tools.allow[1]" || f.Code != "tool_missing" || f.Message == "" || f.Severity != "ERROR" || f.Retryable {
		t.Errorf("fault %+v", f)
	}
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err != nil {
			return err
		}
		if st.Condition != "Synced" || st.Revision.Desired != 1 || st.Revision.Stable != 1 || st.LastRefusal == nil {
			return fmt.Errorf("status %+v", st)
		}
		return nil
	})
	history, err := w.History(t.Context(), w.cp, "helper")
	if err != nil {
		t.Fatal(err)
	}
	states := map[int64]string{}
	back := false
	for _, h := range history {
		if h.Kind == "revision" && h.State != nil {
			states[h.Revision] = *h.State
		}
		back = back || (h.Kind == "move" && h.From == "2" && h.To == "1" && h.State == nil)
	}
	if states[1] != "stable" || states[2] != "refused" || !back {
		t.Errorf("history: states %v, move back from 2 to 1: %v\n%+v", states, back, history)
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "1" {
		t.Errorf("answer %+v, %v", ans, err)
	}
	// The same files again resolve to the refused manifest: refused, exit 4.
	dir := t.TempDir()
	if err := helper(stub.URL, `"alpha", "gamma"`).WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	out, err := w.Ctl(t.Context(), w.cp, "apply", "-f", dir)
	if err != nil || out.Code != 4 {
		t.Errorf("the refused set again: exit %d (%v)\n%s%s", out.Code, err, out.Stdout, out.Stderr)
	}
}

func TestARepairIsServedAtOnceWhileTheInstanceRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	a := w.agent(t, "helper")

	dead, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	broken := helper(stub.URL, `"alpha"`)
	broken["mcp/dead.json"] = fmt.Sprintf(`{"name": "dead", "endpoint": "http://%s/mcp"}`, dead)
	broken["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools"}, {"mcpServerName": "dead"}]}`
	w.apply(t, broken)
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err != nil {
			return err
		}
		if len(st.Instances) != 1 || st.Instances[0].Phase != "RECEIVED" || !slices.ContainsFunc(st.Instances[0].Faults, func(f harness.Fault) bool { return f.Retryable }) {
			return fmt.Errorf("instances %+v, want RECEIVED with a retryable fault", st.Instances)
		}
		return nil
	})
	repaired := helper(stub.URL, `"alpha"`)
	repaired["prompts/helper.json"] = `{"promptKey": "helper", "version": "1.0.1", "template": "repaired"}`
	repaired["helper/agent-base.json"] = `{"promptKey": "helper", "description": "repaired"}`
	began := time.Now()
	w.apply(t, repaired)
	eventually(t, 3*time.Second, func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err != nil {
			return err
		}
		if ans.Text != "repaired | hello" || ans.Revision != "3" {
			return fmt.Errorf("answer %+v", ans)
		}
		return nil
	})
	t.Logf("the repair was served after %s", time.Since(began))
}

// The dead server comes back while the instance retries: it applies by itself, from the bytes it holds.
func TestARetryingInstanceAppliesWhenTheServerComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	w.agent(t, "helper")
	proxy, err := newSwitch(stub.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.close)
	set := helper(stub.URL, `"alpha"`)
	set["mcp/late.json"] = fmt.Sprintf(`{"name": "late", "endpoint": "http://%s/mcp"}`, proxy.addr)
	set["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools"}, {"mcpServerName": "late"}]}`
	w.apply(t, set)
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && (len(st.Instances) != 1 || st.Instances[0].Phase != "RECEIVED") {
			err = fmt.Errorf("instances %+v", st.Instances)
		}
		return err
	})
	if err := proxy.open(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		st, err := w.Status(ctx, w.cp, "helper")
		if err == nil && (st.Condition != "Synced" || st.Revision.Stable != 2) {
			err = fmt.Errorf("status %+v", st)
		}
		return err
	})
}

// portSwitch is a loopback address that is closed until open, then forwards to the server behind target.
type portSwitch struct {
	addr   string
	target string
	ln     *harness.Forward
}

func newSwitch(target string) (*portSwitch, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	addr, err := harness.FreeAddr()
	return &portSwitch{addr: addr, target: u.Host}, err
}

func (p *portSwitch) open() (err error) {
	p.ln, err = harness.NewForward(p.addr, p.target)
	return err
}

func (p *portSwitch) close() {
	if p.ln != nil {
		p.ln.Close()
	}
}

// A raw client that refuses, reconnects twice and waits counts exactly one snapshot of that hash.
func TestARefusedConfigIsOfferedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	w.apply(t, helper("http://127.0.0.1:9/mcp", `"alpha"`))
	hello := &pushv1.Hello{Namespace: "default", Agent: "helper", Instance: "raw", AgentdVersion: "test", Phase: pushv1.Phase_PHASE_UNSPECIFIED}
	c, err := w.cp.DialPush(t.Context(), hello)
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := c.NextSnapshot(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	hash := string(s.GetToken().GetHash())
	refusal := []*pushv1.Fault{{Resource: "mcp/tools", Field: "tools.allow[0]", Code: "tool_missing", Message: "no such tool", Severity: pushv1.Severity_SEVERITY_ERROR}}
	if err := c.Report(&pushv1.Report{Nonce: s.GetNonce(), Phase: pushv1.Phase_PHASE_REJECTED, Desired: s.GetToken(), Faults: refusal}); err != nil {
		t.Fatal(err)
	}
	count := 1
	add := func(msgs []*pushv1.StreamResponse) {
		for _, m := range msgs {
			if sn := m.GetSnapshot(); sn != nil && string(sn.GetToken().GetHash()) == hash {
				count++
			}
		}
	}
	add(c.Collect(2 * time.Second))
	hello.Refusals = []*pushv1.Refusal{{Hash: s.GetToken().GetHash(), Epoch: s.GetToken().GetEpoch(), Generation: s.GetToken().GetGeneration(), AgentdVersion: "test", Faults: refusal}}
	for range 2 {
		c.Close()
		if c, err = w.cp.DialPush(t.Context(), hello); err != nil {
			t.Fatal(err)
		}
		add(c.Collect(3 * time.Second))
	}
	add(c.Collect(60 * time.Second))
	c.Close()
	if count != 1 {
		t.Errorf("the refused hash was sent %d times, want exactly once", count)
	}
	if st := w.status(t, "helper"); st.LastRefusal == nil || st.LastRefusal.Instance != "raw" {
		t.Errorf("status does not show the refusal: %+v", st)
	}
}
