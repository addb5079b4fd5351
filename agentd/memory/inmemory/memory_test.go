package inmemory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/memory/memorytest"
	"github.com/agentry/agentry/agentd/memory/strategy"
)

func open(t *testing.T, sc inmemory.StoreConfig, c strategy.Config) (*strategy.Memory, *inmemory.Store) {
	t.Helper()
	s, err := inmemory.NewStore(sc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := inmemory.New(inmemory.Config{Store: s, Strategy: c})
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, c := range []strategy.Compression{strategy.None, strategy.Window, strategy.TokenBudget, strategy.Summarize, "default"} {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			memorytest.Run(t, func(t *testing.T) memory.Memory {
				t.Helper()
				m, _ := open(t, inmemory.StoreConfig{}, strategy.Config{Compression: c})
				return m
			})
			memorytest.RunSessions(t, func(t *testing.T) memorytest.Both {
				t.Helper()
				m, _ := open(t, inmemory.StoreConfig{}, strategy.Config{Compression: c})
				return m
			})
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	turn := []memory.Turn{{Role: "user", Text: strings.Repeat("x", 1000)}}
	m, s := open(t, inmemory.StoreConfig{MaxSessions: 3, MaxSessionTurns: 2, MaxBytes: 1 << 20}, strategy.Config{Compression: strategy.None})
	for i := range 5 {
		for range 4 {
			_ = m.Remember(t.Context(), memory.Key{Session: fmt.Sprint(i)}, memory.Exchange{Turns: turn})
		}
	}
	if s.Sessions() != 3 {
		t.Errorf("%d sessions, want 3", s.Sessions())
	}
	if r, _ := m.Recall(t.Context(), memory.Key{Session: "4"}, memory.Query{}); len(r.Turns) != 2 {
		t.Errorf("%d turns, want 2", len(r.Turns))
	}
	if r, _ := m.Recall(t.Context(), memory.Key{Session: "0"}, memory.Query{}); r.Turns != nil {
		t.Errorf("the session unused for longest is still there")
	}
	small, held := open(t, inmemory.StoreConfig{MaxBytes: 6000}, strategy.Config{Compression: strategy.None})
	for i := range 50 {
		_ = small.Remember(t.Context(), memory.Key{Session: fmt.Sprint(i)}, memory.Exchange{Turns: turn})
	}
	if held.Sessions() != 3 {
		t.Errorf("%d sessions in 6000 bytes, want 3", held.Sessions())
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	m, s := open(t, inmemory.StoreConfig{Now: func() time.Time { return now }}, strategy.Config{TTL: time.Minute})
	k := memory.Key{Session: "s"}
	_ = m.Remember(t.Context(), k, memory.Exchange{Turns: []memory.Turn{{Role: "user", Text: "q"}}})
	now = now.Add(59 * time.Second)
	if r, _ := m.Recall(t.Context(), k, memory.Query{}); len(r.Turns) != 1 {
		t.Errorf("gone before its time")
	}
	now = now.Add(2 * time.Second)
	if r, _ := m.Recall(t.Context(), k, memory.Query{}); r.Turns != nil || s.Sessions() != 0 {
		t.Errorf("still there after its time")
	}
}

func TestViewsShareSessions(t *testing.T) {
	t.Parallel()
	m, s := open(t, inmemory.StoreConfig{}, strategy.Config{})
	other, err := inmemory.New(inmemory.Config{Store: s, Strategy: strategy.Config{Compression: strategy.Window, MaxTurns: 2}})
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Remember(t.Context(), memory.Key{Session: "s"}, memory.Exchange{Turns: []memory.Turn{{Role: "user", Text: "q", Config: "1-a"}}})
	if r, _ := other.Recall(t.Context(), memory.Key{Session: "s"}, memory.Query{}); len(r.Turns) != 1 || r.Config != "1-a" {
		t.Errorf("a config change lost the session")
	}
}
