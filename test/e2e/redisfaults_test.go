package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// What Redis does wrong ends a request of a session by a typed error, or has it answered without memory, as the spec says; requests without
// a session never notice, nothing waits for long, and what comes back is used by itself.
func TestWhatRedisDoesWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "rules:\n  - {name: answer, reply: {text: \"answer to {{user}}\"}}\n")
	redis := harness.StartRedis(t, harness.RedisOptions{Password: "first"})
	files := harness.Files{}
	for _, name := range []string{"fail", "stateless"} {
		files[name+"/agent-base.json"] = fmt.Sprintf(`{"promptKey": %q}`, name)
		files[name+"/model.json"] = `{"model": "m"}`
		files[name+"/memory.json"] = fmt.Sprintf(`{"storageType": "redis", "address": %q, "credential": "first", "onUnavailable": %q}`, redis.URL, name)
		files["prompts/"+name+".json"] = fmt.Sprintf(`{"promptKey": %q, "version": "1.0.0", "template": "Answer."}`, name)
	}
	w.apply(t, files)
	agents := map[string]*harness.Agent{}
	for _, name := range []string{"fail", "stateless"} {
		agents[name] = w.agent(t, name)
	}
	// well waits until sessions of both are kept again.
	n := 0
	well := func(after string) {
		t.Helper()
		for name, a := range agents {
			eventually(t, 30*time.Second, func(ctx context.Context) error {
				n++
				session := fmt.Sprintf("well-%d", n)
				if _, err := a.Chat(ctx, session, "one"); err != nil {
					return fmt.Errorf("%s after %s: %w", name, after, err)
				}
				code, body, err := harness.Get(ctx, a.URL()+"/api/v1/sessions/"+session+"/messages")
				if err == nil && (code != http.StatusOK || !strings.Contains(body, "answer to one")) {
					err = fmt.Errorf("%s after %s: history %d %s", name, after, code, body)
				}
				return err
			})
		}
	}
	well("the start")
	check := func(fault string) {
		t.Helper()
		for name, a := range agents {
			if ans, err := a.Chat(t.Context(), "", "plain"); err != nil || ans.Text != "answer to plain" {
				t.Errorf("%s, %s: without a session: %q, %v", fault, name, ans.Text, err)
			}
			for range 3 {
				began := time.Now()
				ans, err := a.Chat(t.Context(), "s", "kept?")
				took := time.Since(began)
				t.Logf("%s, %s: %d %v (%s)", fault, name, ans.Status, err, took.Round(time.Millisecond))
				switch {
				case name == "stateless" && (err != nil || ans.Text != "answer to kept?"):
					t.Errorf("%s, stateless: %q, %v", fault, ans.Text, err)
				case name == "fail" && (err == nil || ans.Status != http.StatusServiceUnavailable || !strings.Contains(ans.Body, "memory_unavailable")):
					t.Errorf("%s, fail: %d %q %v, want 503 memory_unavailable", fault, ans.Status, ans.Body, err)
				}
				if took > 15*time.Second {
					t.Errorf("%s, %s: took %s", fault, name, took)
				}
			}
		}
	}

	redis.Kill()
	check("killed")
	if err := redis.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	well("a restart, empty")

	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	check("paused")
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	well("a pause")

	if err := redis.ReadOnly(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	check("read-only")
	if err := redis.ReadOnly(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	well("being read-only")

	if err := redis.SetPassword(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	if err := redis.DropClients(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("another password")
	if err := redis.SetPassword(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	well("the right password")
}
