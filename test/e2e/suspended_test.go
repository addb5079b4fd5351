package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

const askScript = `rules:
  - {name: after the tool, when: {toolResult: true}, reply: {text: "{{system}} {{toolResult}}"}}
  - {name: the tool, when: {tools: [alpha]}, reply: {toolCalls: [{name: alpha, arguments: {q: "{{user}}"}}]}}
`

// approvalLine is what `agentctl approvals list -o json` says of a run.
type approvalLine struct {
	ID, State, Config, ResumedConfig string
	Revision, ResumedRevision        int64
	Calls                            []struct{ Tool, Why string }
	Result                           *struct{ Text, Code string }
}

func (w *world) approvals(ctx context.Context, all ...string) ([]approvalLine, error) {
	text, err := w.CtlOK(ctx, w.cp, append([]string{"approvals", "list", "-o", "json"}, all...)...)
	if err != nil {
		return nil, err
	}
	var out []approvalLine
	return out, json.Unmarshal([]byte(text), &out)
}

// A run that waits for consent outlives every instance of its agent where memory is shared, and goes on, on another instance, with the config
// that is current then. Its call is made once, after the consent and not before.
func TestASuspendedRunOutlivesItsInstances(t *testing.T) {
	t.Parallel()
	w := newWorld(t, askScript)
	redis := harness.StartRedis(t, harness.RedisOptions{})
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	set := helper(stub.URL, `"alpha"`)
	set["helper/agent-base.json"] = `{"promptKey": "helper", "approval": {"tools": [{"tool": "tools/alpha", "when": "args.q.startsWith(\"danger\")"}]}}`
	set["helper/memory.json"] = fmt.Sprintf(`{"storageType": "redis", "address": %q}`, redis.URL)
	w.apply(t, set)
	first := w.agent(t, "helper")

	if got, err := first.Chat(t.Context(), "s", "harmless"); err != nil || !strings.HasPrefix(got.Text, "be helpful ") {
		t.Fatalf("%q %v", got.Text, err)
	}
	if got, err := first.Chat(t.Context(), "s", "dangerous"); err != nil || !strings.Contains(got.Text, `args.q.startsWith("danger")`) {
		t.Fatalf("%q %v", got.Text, err)
	}
	if calls := stub.TakeCalls(); len(calls) != 1 || calls[0].Args["q"] != "harmless" {
		t.Fatalf("calls before the consent: %v", calls)
	}
	if _, err := first.Chat(t.Context(), "s", "and now?"); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("a session with a run that waits took another message: %v", err)
	}
	first.Kill()
	set["prompts/helper.json"] = `{"promptKey": "helper", "version": "1.0.1", "template": "be brief"}`
	w.apply(t, set)
	second, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: "helper-2", ModelBaseURL: w.url})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, func(ctx context.Context) error { return ready(ctx, second.Addr) })

	var waiting []approvalLine
	eventually(t, 20*time.Second, func(ctx context.Context) error {
		if waiting, err = w.approvals(ctx); err == nil && len(waiting) != 1 {
			err = fmt.Errorf("%+v wait", waiting)
		}
		return err
	})
	run := waiting[0]
	if run.State != "waiting" || len(run.Calls) != 1 || run.Calls[0].Tool != "tools/alpha" || run.ResumedConfig != "" {
		t.Errorf("%+v", run)
	}
	answer, err := w.CtlOK(t.Context(), w.cp, "approvals", "approve", run.ID, "--wait")
	if err != nil || !strings.HasPrefix(answer, "be brief ") {
		t.Fatalf("%q %v", answer, err)
	}
	if calls := stub.TakeCalls(); len(calls) != 1 || calls[0].Args["q"] != "dangerous" {
		t.Errorf("calls after the consent: %v", calls)
	}
	out, err := w.Ctl(t.Context(), w.cp, "approvals", "deny", run.ID)
	if err != nil || out.Code != 4 {
		t.Errorf("a second decision: %d %s %v", out.Code, out.Stderr, err)
	}
	done, err := w.approvals(t.Context(), "--all")
	if err != nil || len(done) != 1 {
		t.Fatalf("%+v %v", done, err)
	}
	if d := done[0]; d.State != "done" || d.Config == "" || d.ResumedConfig == "" || d.Config == d.ResumedConfig || d.Result == nil || !strings.HasPrefix(d.Result.Text, "be brief ") {
		t.Errorf("%+v", d)
	}
	turns := history(t, second.Addr, "s")
	if len(turns) != 4 || turns[2].Text != "dangerous" || !strings.HasPrefix(turns[3].Text, "be brief ") {
		t.Errorf("the session: %+v", turns)
	}
}
