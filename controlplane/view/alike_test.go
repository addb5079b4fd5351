package view_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
)

// Agents that refer to the same heads are given the same maps, until one of the heads changes, and others aren't.
func TestAgentsAlikeShareHeads(t *testing.T) {
	w := newWorld(t)
	first, second, other := agentSpec(t, "first", "p", "key"), agentSpec(t, "second", "p", "key"), agentSpec(t, "other", "q", "key")
	w.put(blob(first), blob(second), blob(other), blob([]byte("1")), blob([]byte("2")), sealedKV("key", 1), labelledKV("p", "1"),
		agentKV("default", agentHead("first", 1, 0, first)), agentKV("default", agentHead("second", 1, 0, second)),
		agentKV("default", agentHead("other", 1, 0, other)))
	check := func(prompt string, key int64) {
		t.Helper()
		a, _ := w.view.Heads("default", "first")
		b, _ := w.view.Heads("default", "second")
		c, _ := w.view.Heads("default", "other")
		for _, shared := range []func(int) any{
			func(i int) any { return []any{a.Prompts, b.Prompts, c.Prompts}[i] },
			func(i int) any { return []any{a.Credentials, b.Credentials, c.Credentials}[i] },
		} {
			at := func(i int) uintptr { return reflect.ValueOf(shared(i)).Pointer() }
			if at(0) != at(1) || at(0) == at(2) {
				t.Error("those alike don't share, or others do")
			}
		}
		if got := a.Prompts["p"].Labels["latest"]; got != prompt {
			t.Errorf("prompt %q, want %q", got, prompt)
		}
		if a.Credentials["key"].Version != key || c.Credentials["key"].Version != key {
			t.Errorf("key %d and %d, want %d", a.Credentials["key"].Version, c.Credentials["key"].Version, key)
		}
		if _, there := c.Prompts["p"]; there || len(c.Prompts) > 1 {
			t.Errorf("the other agent's prompts are %v", slices.Collect(maps.Keys(c.Prompts)))
		}
	}
	check("1", 1)
	before, _ := w.view.Heads("default", "first")
	w.put(labelledKV("p", "2"))
	check("2", 1)
	if before.Prompts["p"].Labels["latest"] != "1" {
		t.Error("what was handed out changed")
	}
	w.put(sealedKV("key", 2))
	check("2", 2)
	w.put(labelledKV("q", "1")) // is there only now
	check("2", 2)
	if c, _ := w.view.Heads("default", "other"); c.Prompts["q"].Labels["latest"] != "1" {
		t.Error("a head that came later isn't there")
	}
	w.commit(store.Txn{Deletes: []string{view.HeadKey("prompt", "default", "p")}})
	check("", 2)
	// An agent that refers to something else from now on leaves those alike as they are.
	now := agentSpec(t, "first", "q", "key")
	w.put(blob(now), agentKV("default", agentHead("first", 2, 0, first, now)))
	if a, _ := w.view.Heads("default", "first"); a.Prompts["q"].Labels["latest"] != "1" {
		t.Error("its new prompt isn't there")
	}
	if b, _ := w.view.Heads("default", "second"); len(b.Prompts) != 0 {
		t.Error("the other's heads changed")
	}
	same(t, []view.AgentKey{{Namespace: "default", Name: "second"}}, w.view.Dependents("prompt", "default", "p"))
}

// An agent whose spec isn't there, or refers to nothing, is held by what its head names, also when it is the first that is read.
func TestTheFirstAgentMayReferToNothing(t *testing.T) {
	w := newWorld(t)
	h := agentHead("helper", 1, 0, agentSpec(t, "helper", "p", "key"))
	h.State.Vetoes = []release.Veto{{Kind: "prompt", Name: "p", Refused: []string{"2"}, Use: "1"}}
	w.put(agentKV("default", h))
	same(t, []view.AgentKey{{Namespace: "default", Name: "helper"}}, w.view.Dependents("prompt", "default", "p"))
	w.put(agentKV("default", agentHead("other", 1, 0, agentSpec(t, "other", "p", "key"))))
	same(t, []view.AgentKey{{Namespace: "default", Name: "helper"}}, w.view.Dependents("prompt", "default", "p"))
}
