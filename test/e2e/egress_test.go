package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// An internal address that the process isn't allowed to connect to refuses the config for good, and status says what to do. The
// instance goes on with what it had; the control plane's own probe doesn't go there either.
func TestInternalAddressesAreRefusedAndShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	w.apply(t, helper(stub.URL, `"alpha"`))
	a := w.agent(t, "helper")
	// What it may be told to allow (the harness allows the loopback); of a cloud's metadata nobody is told how.
	for revision, host := range []string{"169.254.169.254", "10.255.255.1"} {
		says := func(text string) bool {
			return strings.Contains(text, "egress to "+host) && strings.Contains(text, "--egress-allow "+host) == (host == "10.255.255.1")
		}
		inner := helper(stub.URL, `"alpha"`)
		inner["mcp/inner.json"] = fmt.Sprintf(`{"name": "inner", "version": "1.0.%d", "endpoint": "http://%s/mcp"}`, revision, host)
		inner["helper/mcp-servers.json"] = fmt.Sprintf(`{"mcpServers": [{"mcpServerName": "tools"}, {"mcpServerName": "inner", "version": "1.0.%d"}]}`, revision)
		w.apply(t, inner)
		var r harness.LastRefusal
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, w.cp, "helper")
			if err != nil {
				return err
			}
			if st.LastRefusal == nil || st.LastRefusal.Revision != int64(revision)+2 {
				return errors.New("no refusal in status yet")
			}
			r = *st.LastRefusal
			return nil
		})
		if r.Action != "rolled_back" || r.RolledBackTo != 1 || len(r.Faults) != 1 {
			t.Fatalf("%s: lastRefusal %+v", host, r)
		}
		if f := r.Faults[0]; f.Resource != "mcp/inner" || f.Code != "invalid" || f.Retryable || !says(f.Message) {
			t.Errorf("%s: fault %+v", host, f)
		}
		if out, err := w.Ctl(t.Context(), w.cp, "mcp", "probe", "inner"); err != nil || out.Code == 0 || !says(out.Stdout+out.Stderr) {
			t.Errorf("%s: probe: exit %d (%v) %s%s", host, out.Code, err, out.Stdout, out.Stderr)
		}
	}
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || ans.Revision != "1" {
		t.Errorf("answer %+v, %v", ans, err)
	}
}

// A credential that is bound to an origin goes there, and a set that would send it elsewhere is refused whole.
func TestABoundCredentialStaysAtItsOrigin(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	mine, other := harness.NewMCPStub("tools", "alpha"), harness.NewMCPStub("tools", "alpha")
	t.Cleanup(mine.Close)
	t.Cleanup(other.Close)
	set := helper(mine.URL, `"alpha"`)
	set["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "key"}}}]}`
	set["key.yaml"] = fmt.Sprintf("kind: Credential\nmetadata: {name: key}\nspec: {value: canary-bound-e2e, allowedOrigins: [%q]}\n", strings.TrimSuffix(mine.URL, "/mcp"))
	w.apply(t, set)
	a := w.agent(t, "helper")
	if ans, err := a.Chat(t.Context(), "", "call"); err != nil {
		t.Errorf("answer %+v, %v", ans, err)
	}
	if calls := mine.Calls(); len(calls) != 1 || calls[0].Headers.Get("X-Key") != "canary-bound-e2e" {
		t.Errorf("the tool's server saw %+v", calls)
	}
	set["mcp/tools.json"] = fmt.Sprintf(`{"name": "tools", "endpoint": %q}`, other.URL)
	_, err := w.api.Apply(t.Context(), set)
	if err == nil || !strings.Contains(err.Error(), "credential key may not be sent to "+strings.TrimSuffix(other.URL, "/mcp")) {
		t.Errorf("apply: %v", err)
	}
	// The entry alone neither: somebody else's agent would send its key there.
	_, err = w.api.Apply(t.Context(), harness.Files{"mcp/tools.json": set["mcp/tools.json"]})
	if err == nil || !strings.Contains(err.Error(), "credential key may not be sent to "+strings.TrimSuffix(other.URL, "/mcp")) {
		t.Errorf("apply of the entry: %v", err)
	}
	if n := other.Requests(); n != 0 {
		t.Errorf("the other server was asked %d times: %+v", n, other.Calls())
	}
}
