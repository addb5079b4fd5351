package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// agentd restarted 20 times with the control plane dead and its MCP server dead is ready, DEGRADED, each time in under 2 s.
func TestRestartsFromLastGoodWithEverythingElseDead(t *testing.T) {
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	w.apply(t, helper(stub.URL, `"alpha"`))
	a := w.agent(t, "helper")
	w.cp.Kill()
	stub.Close()
	var slowest time.Duration
	for i := range 20 {
		a.Kill()
		began := time.Now()
		if err := a.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 5*time.Second); err != nil {
			t.Fatalf("restart %d: %v\n%s", i, err, a.Output())
		}
		took := time.Since(began)
		slowest = max(slowest, took)
		if took > 2*time.Second {
			t.Errorf("restart %d was ready after %s, want under 2 s", i, took)
		}
		ans, err := a.Chat(t.Context(), "", "hello")
		if err != nil || ans.Text != "be helpful | hello" || ans.Revision != "1" {
			t.Fatalf("restart %d answered %+v, %v", i, ans, err)
		}
		eventually(t, 5*time.Second, func(ctx context.Context) error {
			code, body, err := harness.Get(ctx, a.URL()+"/admin/config")
			if err == nil && (code != 200 || !strings.Contains(body, `"phase": "DEGRADED"`) || !strings.Contains(body, `"configState": "last_good"`)) {
				err = fmt.Errorf("restart %d: /admin/config %d: want DEGRADED on last_good in:\n%s", i, code, body)
			}
			return err
		})
	}
	t.Logf("slowest of 20 restarts: %s", slowest)
}

// A damaged last good file is never half a snapshot: the previous generation serves, else the agent is not ready and says why.
func TestCorruptLastGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	first := helper(stub.URL, `"alpha"`)
	w.apply(t, first)
	a := w.agent(t, "helper")
	second := helper(stub.URL, `"alpha"`)
	second["prompts/helper.json"] = `{"promptKey": "helper", "version": "2.0.0", "template": "second"}`
	w.apply(t, second)
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err == nil && ans.Text != "second | hello" {
			err = fmt.Errorf("answer %q", ans.Text)
		}
		return err
	})
	w.cp.Kill()
	a.Kill()
	files, err := filepath.Glob(filepath.Join(a.StateDir, "*good*"))
	if err != nil || len(files) < 2 {
		t.Fatalf("want two generations of the last good file in the state directory, have %v (%v)", files, err)
	}
	newest := files[0]
	for _, f := range files {
		if modified(t, f).After(modified(t, newest)) {
			newest = f
		}
	}
	good, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	flipped := append([]byte{}, good...)
	flipped[len(flipped)/2] ^= 0x40
	for name, damage := range map[string][]byte{"truncated": good[:len(good)/2], "bit flip": flipped, "zero length": {}} {
		write(t, newest, damage)
		if err := a.Restart(); err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 5*time.Second); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, a.Output())
		}
		ans, err := a.Chat(t.Context(), "", "hello")
		if err != nil || ans.Text != "be helpful | hello" {
			t.Errorf("%s: the previous generation should answer; got %+v, %v", name, ans, err)
		}
		a.Kill()
		write(t, newest, good)
	}
	for _, f := range files {
		write(t, f, []byte("not a snapshot"))
	}
	if err := a.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		code, body, err := harness.Get(ctx, a.URL()+"/readyz")
		if err == nil && (code != 503 || !strings.Contains(body, "last good")) {
			err = fmt.Errorf("readyz %d %q, want 503 that says why", code, body)
		}
		return err
	})
}

func modified(t *testing.T, file string) time.Time {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.ModTime()
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
