package view_test

import (
	"testing"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

func TestSubscriptionGetsWhatAChangeTouches(t *testing.T) {
	w := newWorld(t)
	ab, c, cc := agentSpec(t, "x", "p", "key", "m"), agentSpec(t, "x", "q", "key"), agentSpec(t, "x", "q", "other")
	w.put(blob(ab), blob(c), blob(cc))
	w.put(promptKV("default", "p"), promptKV("default", "q"))
	sub := w.view.Subscribe()
	t.Cleanup(sub.Close)
	line := manifest.Line{Kind: "prompt", Name: "p", Version: "1"}
	applied := view.Encode(view.Applied{Lines: []manifest.Line{line}})
	late := []byte("q2")
	// The steps stand on each other.
	steps := []struct {
		name string
		puts []store.KV
		want []view.AgentKey
	}{
		{"agents appear", []store.KV{agentKV("default", agentHead("A", 1, 0, ab)), agentKV("default", agentHead("b", 1, 0, ab)), agentKV("default", agentHead("c", 1, 0, c))}, keys("A", "b", "c")},
		{"a prompt moves", []store.KV{promptKV("default", "p", "1")}, keys("A", "b")},
		{"the same name elsewhere", []store.KV{promptKV("other", "p", "1")}, nil},
		{"an mcp entry moves", []store.KV{mcpKV("default", view.MCPHead{Name: "m"})}, keys("A", "b")},
		{"a credential turns", []store.KV{credentialKV("default", "key", 2)}, keys("A", "b", "c")},
		{"a candidate opens", []store.KV{agentKV("default", agentHead("c", 1, 2, c, cc))}, keys("c")},
		{"what the candidate needs moves", []store.KV{credentialKV("default", "other", 1)}, keys("c")},
		{"the candidate becomes stable", []store.KV{agentKV("default", agentHead("c", 2, 0, c, cc))}, keys("c")},
		{"what stable needed before moves", []store.KV{credentialKV("default", "key", 3)}, keys("A", "b")},
		{"lines are proven", []store.KV{kv(view.AppliedKey("default", "A", manifest.Sum(nil)), applied)}, keys("A")},
		{"lines that were proven", []store.KV{kv(view.AppliedKey("default", "A", manifest.Sum(late)), applied)}, nil},
		{"a blob that nobody waits for", []store.KV{blob([]byte("new"))}, nil},
		{"a prompt version without its blob", []store.KV{promptKV("default", "q", "2")}, keys("c")},
		{"that blob", []store.KV{blob(late)}, keys("c")},
		{"a record that touches nobody", []store.KV{kv(view.MoveKey("default", "1"), view.Encode(view.MoveRecord{}))}, nil},
		{"a new epoch", []store.KV{kv(view.ClusterKey, view.Encode(view.Cluster{ID: w.view.Cluster().ID, Epoch: 2}))}, keys("A", "b", "c")},
	}
	for _, step := range steps {
		w.put(step.puts...)
		got := w.touched(sub)
		if len(got) == 0 && len(step.want) == 0 {
			continue
		}
		t.Run(step.name, func(t *testing.T) { same(t, step.want, got) })
	}
	same(t, keys("A", "b"), w.view.Dependents("prompt", "default", "p"))
	same(t, keys("c"), w.view.Dependents("credential", "default", "other"))
	same(t, keys(), w.view.Dependents("credential", "elsewhere", "key"))
}

func TestSubscriptionsAreIndependent(t *testing.T) {
	w := newWorld(t)
	slow, fast, closed := w.view.Subscribe(), w.view.Subscribe(), w.view.Subscribe()
	closed.Close()
	closed.Close()
	for _, n := range []string{"a", "b", "a"} {
		w.put(agentKV("default", view.AgentHead{Name: n}))
		same(t, keys(n), w.touched(fast))
	}
	same(t, keys("a", "b"), w.touched(slow)) // merged
	same(t, keys(), w.touched(slow))
	same(t, keys(), w.touched(closed))
	slow.Close()
	fast.Close()
}

func TestAgentBeforeItsSpec(t *testing.T) {
	w := newWorld(t)
	s := agentSpec(t, "a", "p", "c")
	w.put(promptKV("default", "p", "1"))
	w.put(agentKV("default", agentHead("a", 1, 0, s)))
	same(t, keys(), w.view.Dependents("prompt", "default", "p"))
	sub := w.view.Subscribe()
	t.Cleanup(sub.Close)
	w.put(blob(s))
	same(t, keys("a"), w.touched(sub))
	same(t, keys("a"), w.view.Dependents("prompt", "default", "p"))
	if h, _ := w.view.Heads("default", "a"); len(h.Prompts) != 1 {
		t.Errorf("prompts %v", h.Prompts)
	}
}
