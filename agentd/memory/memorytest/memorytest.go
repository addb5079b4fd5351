// Package memorytest is the conformance suite of memory.Memory. Each adapter's tests run it; it is never linked into a binary.
package memorytest

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/agentry/agentry/agentd/memory"
)

// Run holds an adapter against the contract. open gives an empty memory that keeps everything of a few short turns.
func Run(t *testing.T, open func(t *testing.T) memory.Memory) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, memory.Memory){
		"a new session is empty":         testEmpty,
		"turns come back in order":       testOrder,
		"sessions are apart":             testApart,
		"forget drops one session":       testForget,
		"the last config is known":       testConfig,
		"one request's turns stay whole": testAtomic,
		"what was recalled stays":        testImmutable,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

func key(session string) memory.Key {
	return memory.Key{Namespace: "default", Agent: "a", Principal: "p", Session: session}
}

func exchange(n int) []memory.Turn {
	return []memory.Turn{{Role: "user", Text: fmt.Sprintf("q%d", n)}, {Role: "assistant", Text: fmt.Sprintf("a%d", n)}}
}

func remember(t *testing.T, m memory.Memory, k memory.Key, config string, turns []memory.Turn) {
	t.Helper()
	turns = slices.Clone(turns)
	for i := range turns {
		if turns[i].Role == "assistant" {
			turns[i].Config = config
		}
	}
	if err := m.Remember(t.Context(), k, memory.Exchange{Turns: turns}); err != nil {
		t.Fatalf("Remember: %v", err)
	}
}

func wantTurns(t *testing.T, m memory.Memory, k memory.Key, want []memory.Turn) {
	t.Helper()
	got, err := m.Recall(t.Context(), k, memory.Query{})
	if err != nil {
		t.Fatalf("Recall: %v", err)
	}
	if diff := cmp.Diff(want, got.Turns, cmpopts.IgnoreFields(memory.Turn{}, "Config")); diff != "" {
		t.Errorf("Recall(%v) (-want +got):\n%s", k, diff)
	}
}

func testEmpty(t *testing.T, m memory.Memory) {
	t.Helper()
	wantTurns(t, m, key("new"), nil)
	if r, _ := m.Recall(t.Context(), key("new"), memory.Query{}); r.Config != "" {
		t.Errorf("config of a new session = %q, want none", r.Config)
	}
}

func testOrder(t *testing.T, m memory.Memory) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	remember(t, m, key("s"), "1-a", exchange(2))
	wantTurns(t, m, key("s"), append(exchange(1), exchange(2)...))
}

func testApart(t *testing.T, m memory.Memory) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	for _, other := range []memory.Key{
		key("t"),
		{Namespace: "default", Agent: "a", Principal: "q", Session: "s"},
		{Namespace: "default", Agent: "b", Principal: "p", Session: "s"},
		{Namespace: "prod", Agent: "a", Principal: "p", Session: "s"},
	} {
		wantTurns(t, m, other, nil)
	}
}

func testForget(t *testing.T, m memory.Memory) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	remember(t, m, key("t"), "1-a", exchange(2))
	for range 2 { // an unknown session is no error
		if err := m.Forget(t.Context(), key("s")); err != nil {
			t.Fatalf("Forget: %v", err)
		}
	}
	wantTurns(t, m, key("s"), nil)
	wantTurns(t, m, key("t"), exchange(2))
}

func testConfig(t *testing.T, m memory.Memory) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	remember(t, m, key("s"), "2-b", exchange(2))
	if r, _ := m.Recall(t.Context(), key("s"), memory.Query{}); r.Config != "2-b" {
		t.Errorf("config = %q, want 2-b", r.Config)
	}
}

func testAtomic(t *testing.T, m memory.Memory) {
	t.Helper()
	const n = 8
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := m.Remember(t.Context(), key("s"), memory.Exchange{Turns: exchange(i)}); err != nil {
				t.Errorf("Remember: %v", err)
			}
		})
	}
	wg.Wait()
	r, err := m.Recall(t.Context(), key("s"), memory.Query{})
	turns := r.Turns
	if err != nil || len(turns) != 2*n {
		t.Fatalf("Recall = %d turns, %v; want %d", len(turns), err, 2*n)
	}
	for i := 0; i < len(turns); i += 2 {
		if turns[i].Role != "user" || turns[i+1].Text != "a"+turns[i].Text[1:] {
			t.Errorf("turns %d and %d are of two requests: %v %v", i, i+1, turns[i], turns[i+1])
		}
	}
}

func testImmutable(t *testing.T, m memory.Memory) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	first, err := m.Recall(t.Context(), key("s"), memory.Query{})
	if err != nil {
		t.Fatal(err)
	}
	remember(t, m, key("s"), "1-a", exchange(2))
	_ = append(first.Turns, memory.Turn{Role: "user", Text: "mine"})
	wantTurns(t, m, key("s"), append(exchange(1), exchange(2)...))
}
