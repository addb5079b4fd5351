package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// keys is what a server takes for valid at a time, and what it saw.
type keys struct {
	mu      sync.Mutex // guards what follows
	valid   map[string]bool
	seen    map[string]int
	invalid []string
}

func (k *keys) check(h http.Header) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := h.Get("X-Key")
	k.seen[key]++
	if !k.valid[key] {
		k.invalid = append(k.invalid, key)
	}
	return k.valid[key]
}

func (k *keys) set(key string, valid bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.valid[key] = valid
}

func (k *keys) used(key string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen[key]
}

// rate asks 50 requests per second; drained waits for those that were under way.
type rate struct {
	agent *harness.Agent
	stop  context.CancelFunc
	done  chan struct{}

	mu       sync.Mutex // guards what follows
	current  *sync.WaitGroup
	asked    int
	failures []error
}

func startRate(ctx context.Context, a *harness.Agent) *rate {
	ctx, stop := context.WithCancel(ctx)
	r := &rate{agent: a, stop: stop, done: make(chan struct{}), current: &sync.WaitGroup{}}
	go func() {
		defer close(r.done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				r.ask(context.WithoutCancel(ctx))
			}
		}
	}()
	return r
}

func (r *rate) ask(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	r.current.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		ans, err := r.agent.Chat(ctx, "", "req")
		if err == nil && !strings.HasPrefix(ans.Text, "done") {
			err = fmt.Errorf("answered %q", ans.Text)
		}
		if err != nil {
			r.mu.Lock()
			r.failures = append(r.failures, err)
			r.mu.Unlock()
		}
	})
}

// drained waits until every request that is under way now has ended.
func (r *rate) drained() {
	r.mu.Lock()
	old := r.current
	r.current = &sync.WaitGroup{}
	r.mu.Unlock()
	old.Wait()
}

func (r *rate) end() (int, []error) {
	r.stop()
	<-r.done
	r.drained()
	return r.asked, r.failures
}

// A credential is rotated 20 times under load: nothing fails, only values that are valid at that time are seen, and an old one
// is gone once the requests that had it have ended.
func TestRotationUnderLoad(t *testing.T) {
	w := newWorld(t, insistScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)
	k := &keys{valid: map[string]bool{"key-value-number-0": true}, seen: map[string]int{}}
	stub.Guard(k.check)
	value := func(n int) string {
		path := filepath.Join(w.Dir, "value.txt")
		if err := os.WriteFile(path, fmt.Appendf(nil, "key-value-number-%d\n", n), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	w.ctl(t, "credential", "create", "tools-key", "--from-file", value(0))
	files := helper(stub.URL, `"alpha"`)
	files["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "tools-key"}}}]}`
	files["mcp/tools.json"] = fmt.Sprintf(`{"name": "tools", "endpoint": %q, "parameters": {"headers": {"X-Key": {"required": true}}}}`, stub.URL)
	w.apply(t, files)
	a := w.agent(t, "helper")

	load := startRate(t.Context(), a)
	for n := 1; n <= 20; n++ {
		before := w.status(t, "helper").Config
		k.set(fmt.Sprintf("key-value-number-%d", n), true)
		w.ctl(t, "credential", "rotate", "tools-key", "--from-file", value(n))
		eventually(t, 10*time.Second, func(ctx context.Context) error {
			st, err := w.Status(ctx, w.cp, "helper")
			if err != nil {
				return err
			}
			if st.Config == before || st.Condition != "Synced" || st.Instances[0].Running.Config != st.Config {
				return fmt.Errorf("status %+v", st)
			}
			return nil
		})
		load.drained()
		k.set(fmt.Sprintf("key-value-number-%d", n-1), false)
	}
	last := k.used("key-value-number-20")
	eventually(t, 10*time.Second, func(context.Context) error {
		if n := k.used("key-value-number-20"); n < last+20 {
			return fmt.Errorf("%d uses of the newest value", n)
		}
		return nil
	})
	asked, failures := load.end()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first: %v", len(failures), asked, failures[0])
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.invalid) > 0 {
		t.Errorf("%d uses of values that were not valid: %v", len(k.invalid), k.invalid)
	}
	for n := range 21 {
		if k.seen[fmt.Sprintf("key-value-number-%d", n)] == 0 {
			t.Errorf("value %d was never used", n)
		}
	}
	if st := w.status(t, "helper"); st.Revision.Desired != 1 || st.LastRefusal != nil {
		t.Errorf("rotations made revisions or refusals: %+v", st)
	}
	for _, p := range []*harness.Proc{w.cp.Proc, a.Proc} {
		if strings.Contains(p.Output(), "key-value-number") {
			t.Errorf("%s printed a value", p.Name)
		}
	}
	t.Logf("%d requests, uses by value %v", asked, k.seen)
}

// With a required server down, what has nothing to do with it still gets through.
func TestAnOutageBlocksNothingElse(t *testing.T) {
	w := newWorld(t, insistScript)
	good, bad := harness.NewMCPStub("tools", "alpha", "beta"), harness.NewMCPStub("other", "gamma")
	t.Cleanup(good.Close)
	t.Cleanup(bad.Close)
	k := &keys{valid: map[string]bool{"first-key-value": true, "second-key-value": true}, seen: map[string]int{}}
	good.Guard(k.check)
	value := filepath.Join(w.Dir, "value.txt")
	write := func(text string) {
		if err := os.WriteFile(value, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first-key-value")
	w.ctl(t, "credential", "create", "tools-key", "--from-file", value)
	files := helper(good.URL, `"alpha", "beta"`)
	files["helper/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": {"credentialRef": "tools-key"}}}, {"mcpServerName": "other", "required": true}]}`
	files["mcp/tools.json"] = fmt.Sprintf(`{"name": "tools", "endpoint": %q, "parameters": {"headers": {"X-Key": {}}}}`, good.URL)
	files["mcp/other.json"] = fmt.Sprintf(`{"name": "other", "endpoint": %q}`, bad.URL)
	w.apply(t, files)
	a := w.agent(t, "helper")
	bad.Close()
	degraded := func(not string) func(context.Context) error {
		return func(ctx context.Context) error {
			st, err := w.Status(ctx, w.cp, "helper")
			if err != nil {
				return err
			}
			if st.Condition != "Degraded" || st.Config == not || st.Instances[0].Phase != "DEGRADED" || st.Instances[0].Running.Config != st.Config {
				return fmt.Errorf("status %+v", st)
			}
			return nil
		}
	}
	eventually(t, 45*time.Second, degraded(""))

	before := w.status(t, "helper").Config
	w.apply(t, harness.Files{"prompts/helper.json": `{"promptKey": "helper", "version": "1.0.1", "template": "be very helpful"}`})
	eventually(t, 10*time.Second, degraded(before))
	if ans, err := a.Chat(t.Context(), "", "hello"); err != nil || !strings.HasPrefix(ans.Text, "be very helpful | tools__alpha, tools__beta") {
		t.Errorf("the prompt's fix: %+v, %v", ans, err)
	}

	w.ctl(t, "mcp", "disable", "tools", "beta")
	eventually(t, 5*time.Second, func(ctx context.Context) error {
		ans, err := a.Chat(ctx, "", "hello")
		if err == nil && !strings.HasSuffix(ans.Text, "| tools__alpha") {
			err = fmt.Errorf("offered: %q", ans.Text)
		}
		return err
	})

	before = w.status(t, "helper").Config
	write("second-key-value")
	w.ctl(t, "credential", "rotate", "tools-key", "--from-file", value)
	eventually(t, 10*time.Second, degraded(before))
	k.set("first-key-value", false)
	if ans, err := a.Chat(t.Context(), "", "req"); err != nil || !strings.HasPrefix(ans.Text, "done") {
		t.Errorf("after the rotation: %+v, %v", ans, err)
	}
	calls := good.Calls()
	if len(calls) == 0 || calls[len(calls)-1].Headers.Get("X-Key") != "second-key-value" {
		t.Error("the call didn't carry the new value")
	}
	if st := w.status(t, "helper"); st.LastRefusal != nil {
		t.Errorf("something was refused: %+v", st.LastRefusal)
	}
}
