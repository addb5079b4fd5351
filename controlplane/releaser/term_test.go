package releaser

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/agentry/agentry/controlplane/leader"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// stopping is a store before which the sender of a move record stands still: the test does something, then it goes on.
type stopping struct {
	store.Store

	once  sync.Once
	still func()
}

func (s *stopping) Commit(ctx context.Context, t store.Txn) (int64, error) {
	for _, kv := range t.Puts {
		if strings.HasPrefix(kv.Key, view.MovePrefix) {
			s.once.Do(s.still)
		}
	}
	return s.Store.Commit(ctx, t)
}

// TestTheLeaseEndsInTheMiddleOfADecision has the leader judge a refusal and lose its lease before the decision arrives, as one that was
// stopped does. What it decided isn't written, not even while nobody else leads; who leads next judges the same once.
func TestTheLeaseEndsInTheMiddleOfADecision(t *testing.T) {
	var first store.Held
	hold := func(r *rig, who string) store.Held {
		r.t.Helper()
		h, err := r.store.Hold(r.t.Context(), store.KV{Key: view.LeaderKey, Value: []byte(who)}, leader.DefaultTTL, store.Cond{Key: view.LeaderKey})
		if err != nil {
			r.t.Fatal(err)
		}
		return h
	}
	stopped := 0
	within(t, func(r *rig) {
		r.proven()
		r.apply("two")
		r.answer(phase.Rejected, bad)
		if stopped != 1 {
			t.Fatalf("stood still %d times", stopped)
		}
		r.want("stable 1 proven 1 candidate 2")
		if n := len(r.view.Moves("d", manifest.KindAgent, "a")); n != 0 {
			t.Fatalf("%d moves by who leads no more", n)
		}

		second := hold(r, "b")
		cfg := Config{View: r.view, Fleet: r.table, Drops: r, Logger: slog.New(slog.DiscardHandler), Term: second.Revision()}
		cfg.Store = leader.Fence(r.store, leader.NewTerm(second.Revision()))
		next, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(r.t.Context())
		done := make(chan error, 1)
		go func() { done <- next.Run(ctx) }()
		synctest.Wait()
		r.want("stable 1 proven 1 refusal 2 rolled_back")
		r.pass(conflictWait * 100) // the first goes on trying
		moves := r.view.Moves("d", manifest.KindAgent, "a")
		if len(moves) != 1 || moves[0].Term != second.Revision() || second.Revision() <= first.Revision() {
			t.Errorf("moves %+v, terms %d and %d", moves, first.Revision(), second.Revision())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}, func(r *rig, cfg *Config) {
		first = hold(r, "a")
		cfg.Term = first.Revision()
		cfg.Store = leader.Fence(&stopping{Store: r.store, still: func() {
			stopped++
			if _, err := r.store.Expire(view.LeaderKey); err != nil {
				r.t.Error(err)
			}
		}}, leader.NewTerm(first.Revision()))
	})
}
