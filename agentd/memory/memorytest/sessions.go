package memorytest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
)

// Both is what an adapter implements.
type Both interface {
	memory.Memory
	memory.Sessions
}

// RunSessions holds an adapter against the contract of memory.Sessions, and of memory.Memory where it shows there.
func RunSessions(t *testing.T, open func(t *testing.T) Both) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, Both){
		"an exchange is added once":      testOnce,
		"history":                        testHistory,
		"tools and times come back":      testWhole,
		"lists of sessions":              testList,
		"lists are the owner's":          testListApart,
		"one at a time, in order":        testEnterOrder,
		"sessions don't wait for others": testEnterApart,
		"waiting ends with its context":  testEnterContext,
		"waiting is bounded":             testEnterBound,
		"leaving twice is leaving once":  testLeaveTwice,
		"search gives the best":          testSearch,
	} {
		t.Run(name, func(t *testing.T) { check(t, open(t)) })
	}
}

func testOnce(t *testing.T, m Both) {
	t.Helper()
	for range 3 {
		if err := m.Remember(t.Context(), key("s"), memory.Exchange{ID: "one request", Turns: exchange(1)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Remember(t.Context(), key("s"), memory.Exchange{ID: "another", Turns: exchange(2)}); err != nil {
		t.Fatal(err)
	}
	wantTurns(t, m, key("s"), append(exchange(1), exchange(2)...))
}

func testHistory(t *testing.T, m Both) {
	t.Helper()
	if _, err := m.History(t.Context(), key("s"), 0); !errs.Is(err, errs.NotFound) {
		t.Errorf("an unknown session: %v", err)
	}
	for i := range 3 {
		remember(t, m, key("s"), "1-a", exchange(i))
	}
	for limit, want := range map[int][]string{0: {"q0", "a0", "q1", "a1", "q2", "a2"}, 3: {"a1", "q2", "a2"}, 99: {"q0", "a0", "q1", "a1", "q2", "a2"}} {
		turns, err := m.History(t.Context(), key("s"), limit)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, texts(turns)); diff != "" {
			t.Errorf("limit %d (-want +got):\n%s", limit, diff)
		}
	}
	if err := m.Forget(t.Context(), key("s")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.History(t.Context(), key("s"), 0); !errs.Is(err, errs.NotFound) {
		t.Errorf("a forgotten session: %v", err)
	}
}

func texts(turns []memory.Turn) []string {
	var out []string
	for _, t := range turns {
		out = append(out, t.Text)
	}
	return out
}

func testWhole(t *testing.T, m Both) {
	t.Helper()
	at := time.Date(2026, 3, 4, 5, 6, 7, 89_000_000, time.UTC)
	want := []memory.Turn{
		{Role: "user", Text: "q\n\x00é\"<>&\u2028", At: at},
		{Role: "assistant", Text: "", At: at.Add(time.Second), Config: "8-3f2a91c4", Tools: []memory.ToolUse{
			{Name: "shop__find", Arguments: `{"a":"\u0000"}`, Result: "r\n1", IsError: true}, {Name: "b"},
		}},
	}
	if err := m.Remember(t.Context(), key("s"), memory.Exchange{ID: "a\nb {}", Turns: want}); err != nil {
		t.Fatal(err)
	}
	got, err := m.History(t.Context(), key("s"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func testList(t *testing.T, m Both) {
	t.Helper()
	o := key("").Owner()
	if got, err := m.List(t.Context(), o, 0); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	before := time.Now().Add(-time.Minute)
	for i, s := range []string{"a", "b", "c", "a"} {
		remember(t, m, key(s), "1-a", exchange(i))
		tick(t)
	}
	if err := m.Forget(t.Context(), key("b")); err != nil {
		t.Fatal(err)
	}
	got, err := m.List(t.Context(), o, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range got {
		names = append(names, fmt.Sprint(i.Session, " ", i.Turns))
		if i.Updated.Before(before) || i.Updated.After(time.Now().Add(time.Minute)) {
			t.Errorf("%s updated %v", i.Session, i.Updated)
		}
	}
	if diff := cmp.Diff([]string{"a 4", "c 2"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, _ := m.List(t.Context(), o, 1); len(got) != 1 || got[0].Session != "a" {
		t.Errorf("limit 1: %v", got)
	}
}

// tick waits until a millisecond has passed: stores keep no finer time.
func tick(t *testing.T) {
	t.Helper()
	for start := time.Now().UnixMilli(); time.Now().UnixMilli() < start+2; {
		select {
		case <-t.Context().Done():
		case <-time.After(time.Millisecond):
		}
	}
}

func testListApart(t *testing.T, m Both) {
	t.Helper()
	remember(t, m, key("s"), "1-a", exchange(1))
	for _, o := range []memory.Owner{
		{Namespace: "default", Agent: "a", Principal: "q"},
		{Namespace: "default", Agent: "b", Principal: "p"},
		{Namespace: "prod", Agent: "a", Principal: "p"},
		{Namespace: "default", Agent: "a"},
	} {
		if got, err := m.List(t.Context(), o, 0); err != nil || len(got) != 0 {
			t.Errorf("%v sees %v, %v", o, got, err)
		}
	}
}

func testEnterOrder(t *testing.T, m Both) {
	t.Helper()
	const n = 12
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	var inside atomic.Int32
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range n {
		entered := make(chan struct{})
		wg.Go(func() {
			close(entered)
			leave, err := m.Enter(t.Context(), key("s"))
			if err != nil {
				t.Errorf("enter: %v", err)
				return
			}
			defer leave()
			if inside.Add(1) != 1 {
				t.Error("two requests of a session are in")
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := m.Remember(t.Context(), key("s"), memory.Exchange{Turns: exchange(i)}); err != nil {
				t.Errorf("remember: %v", err)
			}
			inside.Add(-1)
		})
		<-entered
	}
	leave()
	wg.Wait()
	turns, err := m.History(t.Context(), key("s"), 0)
	if err != nil || len(turns) != 2*n {
		t.Fatalf("%d turns, %v", len(turns), err)
	}
	for i, who := range order {
		if turns[2*i].Text != fmt.Sprint("q", who) {
			t.Fatalf("the history is in another order than the requests were in: %v, %v", order, texts(turns))
		}
	}
}

func testEnterApart(t *testing.T, m Both) {
	t.Helper()
	for _, k := range []memory.Key{key("s"), key("t"), {Namespace: "default", Agent: "a", Principal: "q", Session: "s"}, {Namespace: "prod", Agent: "a", Principal: "p", Session: "s"}} {
		leave, err := m.Enter(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		defer leave()
	}
}

func testEnterContext(t *testing.T, m Both) {
	t.Helper()
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := m.Enter(ctx, key("s")); !errs.Is(err, errs.Timeout) {
		t.Errorf("error %v, want a timeout", err)
	}
	leave()
	again, err := m.Enter(t.Context(), key("s")) // who gave up holds nobody up
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func testEnterBound(t *testing.T, m Both) {
	t.Helper()
	leave, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var refused, ended atomic.Int32
	full := make(chan struct{}, 2*memory.MaxWaiting)
	for range memory.MaxWaiting + 5 {
		wg.Go(func() {
			leave, err := m.Enter(ctx, key("s"))
			switch {
			case err == nil:
				leave()
				t.Error("let in")
			case errs.Is(err, errs.Exhausted):
				refused.Add(1)
				full <- struct{}{}
			default:
				ended.Add(1)
			}
		})
	}
	for range 5 {
		<-full
	}
	cancel()
	wg.Wait()
	leave()
	if refused.Load() != 5 || ended.Load() != memory.MaxWaiting {
		t.Errorf("%d refused, %d waited", refused.Load(), ended.Load())
	}
}

func testLeaveTwice(t *testing.T, m Both) {
	t.Helper()
	first, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	first()
	second, err := m.Enter(t.Context(), key("s"))
	if err != nil {
		t.Fatal(err)
	}
	defer second()
	first() // ends nobody else's turn
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if leave, err := m.Enter(ctx, key("s")); err == nil {
		leave()
		t.Error("a second leave let somebody in")
	}
}

// testSearch is about recency, which needs no embeddings.
func testSearch(t *testing.T, m Both) {
	t.Helper()
	for i := range 3 {
		remember(t, m, key("s"), "1-a", exchange(i))
	}
	got, err := m.Search(t.Context(), key("s"), "anything", 3)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a2", "q2", "a1"}, texts(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := m.Search(t.Context(), key("nobody"), "anything", 3); err != nil || len(got) != 0 {
		t.Errorf("an unknown session: %v, %v", got, err)
	}
}
