package inmemory_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/memory/memorytest"
)

func open(t *testing.T, sc inmemory.StoreConfig, c inmemory.Config) (*inmemory.Memory, *inmemory.Store) {
	t.Helper()
	s, err := inmemory.NewStore(sc)
	if err != nil {
		t.Fatal(err)
	}
	c.Store = s
	m, err := inmemory.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m, s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for _, strategy := range []inmemory.Strategy{inmemory.None, inmemory.Window, inmemory.TokenBudget, "default"} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			memorytest.Run(t, func(t *testing.T) memory.Memory {
				t.Helper()
				m, _ := open(t, inmemory.StoreConfig{}, inmemory.Config{Strategy: strategy})
				return m
			})
		})
	}
}

func TestCompression(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  inmemory.Config
		want []string
	}{
		"none keeps all":                     {inmemory.Config{Strategy: inmemory.None}, []string{"q0", "a0", "q1", "a1", "q2", "a2"}},
		"window":                             {inmemory.Config{Strategy: inmemory.Window, MaxTurns: 4}, []string{"q1", "a1", "q2", "a2"}},
		"window never starts with an answer": {inmemory.Config{Strategy: inmemory.Window, MaxTurns: 3}, []string{"q2", "a2"}},
		"token budget":                       {inmemory.Config{MaxTokens: 21}, []string{"q1", "a1", "q2", "a2"}},
		"token budget too small for one":     {inmemory.Config{MaxTokens: 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, _ := open(t, inmemory.StoreConfig{}, tc.cfg)
			k := memory.Key{Session: "s"}
			for i := range 3 {
				_ = m.Remember(t.Context(), k, "1-a", []memory.Turn{{Role: "user", Text: fmt.Sprint("q", i)}, {Role: "assistant", Text: fmt.Sprint("a", i)}})
			}
			turns, _, _ := m.Recall(t.Context(), k)
			var got []string
			for _, turn := range turns {
				got = append(got, turn.Text)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	turn := []memory.Turn{{Role: "user", Text: strings.Repeat("x", 1000)}}
	m, s := open(t, inmemory.StoreConfig{MaxSessions: 3, MaxSessionTurns: 2, MaxBytes: 1 << 20}, inmemory.Config{Strategy: inmemory.None})
	for i := range 5 {
		for range 4 {
			_ = m.Remember(t.Context(), memory.Key{Session: fmt.Sprint(i)}, "1-a", turn)
		}
	}
	if s.Sessions() != 3 {
		t.Errorf("%d sessions, want 3", s.Sessions())
	}
	if turns, _, _ := m.Recall(t.Context(), memory.Key{Session: "4"}); len(turns) != 2 {
		t.Errorf("%d turns, want 2", len(turns))
	}
	if turns, _, _ := m.Recall(t.Context(), memory.Key{Session: "0"}); turns != nil {
		t.Errorf("the session unused for longest is still there")
	}
	small, held := open(t, inmemory.StoreConfig{MaxBytes: 5000}, inmemory.Config{Strategy: inmemory.None})
	for i := range 50 {
		_ = small.Remember(t.Context(), memory.Key{Session: fmt.Sprint(i)}, "1-a", turn)
	}
	if held.Sessions() != 3 {
		t.Errorf("%d sessions in 5000 bytes, want 3", held.Sessions())
	}
}

func TestTTL(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	m, s := open(t, inmemory.StoreConfig{Now: func() time.Time { return now }}, inmemory.Config{TTL: time.Minute})
	k := memory.Key{Session: "s"}
	_ = m.Remember(t.Context(), k, "1-a", []memory.Turn{{Role: "user", Text: "q"}})
	now = now.Add(59 * time.Second)
	if turns, _, _ := m.Recall(t.Context(), k); len(turns) != 1 {
		t.Errorf("gone before its time")
	}
	now = now.Add(2 * time.Second)
	if turns, _, _ := m.Recall(t.Context(), k); turns != nil || s.Sessions() != 0 {
		t.Errorf("still there after its time")
	}
}

func TestViewsShareSessions(t *testing.T) {
	t.Parallel()
	m, s := open(t, inmemory.StoreConfig{}, inmemory.Config{})
	other, err := inmemory.New(inmemory.Config{Store: s, Strategy: inmemory.Window, MaxTurns: 2})
	if err != nil {
		t.Fatal(err)
	}
	_ = m.Remember(t.Context(), memory.Key{Session: "s"}, "1-a", []memory.Turn{{Role: "user", Text: "q"}})
	if turns, config, _ := other.Recall(t.Context(), memory.Key{Session: "s"}); len(turns) != 1 || config != "1-a" {
		t.Errorf("a config change lost the session")
	}
}
