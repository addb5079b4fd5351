package inpending_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/pending/pendingtest"
	"github.com/agentry/agentry/internal/errs"
)

func open(t *testing.T, cfg inpending.Config) *inpending.Store {
	t.Helper()
	s, err := inpending.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	pendingtest.Run(t, func(t *testing.T) pending.Store {
		t.Helper()
		return open(t, inpending.Config{})
	})
}

func run(i int, state pending.State, at time.Time, bytes int) pending.Run {
	return pending.Run{ID: fmt.Sprint(i), State: state, CreatedAt: at.Add(time.Duration(i) * time.Second), ExpiresAt: at.Add(time.Hour), Engine: json.RawMessage(strings.Repeat("x", bytes))}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	at := time.Now()
	for name, cfg := range map[string]inpending.Config{"runs": {MaxRuns: 3}, "bytes": {MaxBytes: 3 * 2_500}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, cfg)
			for i, state := range []pending.State{pending.Waiting, pending.Done, pending.Expired} {
				if err := s.Put(t.Context(), run(i, state, at, 1_000)); err != nil {
					t.Fatal(err)
				}
			}
			for i := 3; i < 5; i++ { // the final ones go, the older one first
				if err := s.Put(t.Context(), run(i, pending.Waiting, at, 1_500)); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Get(t.Context(), pending.Ref{ID: fmt.Sprint(i - 2)}); !errs.Is(err, errs.NotFound) {
					t.Errorf("run %d: %v", i-2, err)
				}
			}
			if err := s.Put(t.Context(), run(5, pending.Waiting, at, 1_500)); !errs.Is(err, errs.Exhausted) {
				t.Errorf("a full store takes another run: %v", err)
			}
			if err := s.Delete(t.Context(), pending.Ref{ID: "0"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Put(t.Context(), run(5, pending.Waiting, at, 1_500)); err != nil {
				t.Errorf("there is room again: %v", err)
			}
		})
	}
	if _, err := inpending.New(inpending.Config{MaxRuns: -1}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a negative bound: %v", err)
	}
}
