package leader_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/leader"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// replica is one candidate that notes its terms.
type replica struct {
	election *leader.Election
	stop     func() // waits for the end
	terms    chan leader.Term
	ended    chan int64
}

func start(t *testing.T, s *memstore.Store, name string) *replica {
	t.Helper()
	e, err := leader.New(leader.Config{Store: s, Leases: s, Replica: name, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{election: e, terms: make(chan leader.Term, 10), ended: make(chan int64, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := e.Run(ctx, func(ctx context.Context, term leader.Term) error {
			r.terms <- term
			<-ctx.Done()
			r.ended <- term.Number()
			return ctx.Err()
		})
		if err != nil {
			t.Error(err)
		}
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(r.stop)
	return r
}

func TestOneLeadsAndHandsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		first := start(t, s, "a")
		one := <-first.terms
		second, third := start(t, s, "b"), start(t, s, "c")
		synctest.Wait()
		if len(second.terms)+len(third.terms) > 0 {
			t.Fatal("two lead")
		}
		for _, r := range []*replica{first, second, third} {
			if got := r.election.Leader(); got != "a" {
				t.Errorf("leader %q", got)
			}
		}
		if first.election.Term() != one.Number() || second.election.Term() != 0 {
			t.Errorf("terms %d and %d", first.election.Term(), second.election.Term())
		}
		at := time.Now()
		first.stop()
		var two leader.Term
		select {
		case two = <-second.terms:
		case two = <-third.terms:
		}
		if took := time.Since(at); took > time.Second {
			t.Errorf("the lead that was given back is taken after %s", took)
		}
		if two.Number() <= one.Number() {
			t.Errorf("term %d after %d", two.Number(), one.Number())
		}
		synctest.Wait()
		if first.election.Term() != 0 || second.election.Leader() != third.election.Leader() {
			t.Errorf("term %d, leaders %q and %q", first.election.Term(), second.election.Leader(), third.election.Leader())
		}
		second.stop()
		third.stop()
	})
}

// TestLostLeaseEndsTheTerm is about a leader that stood still past its lease: it stops when it sees that, by its clock or by the store.
func TestLostLeaseEndsTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		only := start(t, s, "a")
		one := <-only.terms
		if _, err := s.Expire(view.LeaderKey); err != nil { // and never told: the watch shows it
			t.Fatal(err)
		}
		if ended := <-only.ended; ended != one.Number() {
			t.Errorf("term %d ended", ended)
		}
		two := <-only.terms // nobody else was there
		if two.Number() <= one.Number() {
			t.Errorf("term %d after %d", two.Number(), one.Number())
		}
		only.stop()
	})
}

// TestAPausedLeaderWritesNothing shows the fence: a decision that was made within a term and is sent after it isn't written, whether
// anybody leads by then or not, and the sender's term ends.
func TestAPausedLeaderWritesNothing(t *testing.T) {
	for name, another := range map[string]bool{"nobody leads": false, "another leads": true} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New()
			held, err := s.Hold(t.Context(), store.KV{Key: view.LeaderKey, Value: []byte("a")}, leader.DefaultTTL)
			if err != nil {
				t.Fatal(err)
			}
			f := leader.Fence(s, leader.NewTerm(held.Revision()))
			if _, err := f.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "w", Value: []byte("1")}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Expire(view.LeaderKey); err != nil {
				t.Fatal(err)
			}
			if another {
				if _, err := s.Hold(t.Context(), store.KV{Key: view.LeaderKey, Value: []byte("b")}, leader.DefaultTTL); err != nil {
					t.Fatal(err)
				}
			}
			for _, txn := range []store.Txn{{Puts: []store.KV{{Key: "w", Value: []byte("2")}}}, {Deletes: []string{"w"}}} {
				if _, err := f.Commit(t.Context(), txn); !errs.Is(err, errs.Unavailable) {
					t.Fatalf("error %v, want Unavailable", err)
				}
			}
			if kv, err := s.Get(t.Context(), "w"); err != nil || string(kv.Value) != "1" {
				t.Errorf("%q, error %v", kv.Value, err)
			}
			if _, err := f.Commit(t.Context(), store.Txn{}); err != nil {
				t.Errorf("a read: %v", err)
			}
		})
	}
}

// TestAFencedWriteEndsTheTerm is about a leader that hears of its end from its own write.
func TestAFencedWriteEndsTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		deaf := &deafStore{Store: s}
		e, err := leader.New(leader.Config{Store: deaf, Leases: s, Replica: "a", Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		terms := 0
		err = e.Run(ctx, func(ctx context.Context, term leader.Term) error {
			if terms++; terms == 2 {
				cancel()
				return nil
			}
			if _, err := s.Expire(view.LeaderKey); err != nil {
				return err
			}
			if _, err := leader.Fence(s, term).Commit(ctx, store.Txn{Puts: []store.KV{{Key: "w"}}}); !errs.Is(err, errs.Unavailable) {
				return fmt.Errorf("written after the term: %w", err)
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err != nil || terms != 2 {
			t.Errorf("%d terms, error %v", terms, err)
		}
	})
}

// deafStore has watches that show nothing.
type deafStore struct{ store.Store }

func (*deafStore) Watch(ctx context.Context, _ string, _ int64, _ func(store.Batch) error) error {
	<-ctx.Done()
	return nil
}

func TestWhatIsLedBreaks(t *testing.T) {
	s := memstore.New()
	e, err := leader.New(leader.Config{Store: s, Leases: s, Replica: "a", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	want := errs.New(errs.Internal, "broken")
	if err := e.Run(t.Context(), func(context.Context, leader.Term) error { return want }); !errs.Is(err, errs.Internal) || err.Error() != "broken" {
		t.Errorf("error %v", err)
	}
	if err := e.Run(t.Context(), func(context.Context, leader.Term) error { return nil }); err == nil {
		t.Error("what ends by itself is no fault")
	}
	if _, err := s.Get(t.Context(), view.LeaderKey); !errs.Is(err, errs.NotFound) {
		t.Errorf("the lead is kept: %v", err)
	}
	if _, err := leader.New(leader.Config{}); !errs.Is(err, errs.Invalid) {
		t.Errorf("nothing given: %v", err)
	}
}

// TestStoreAwayMeanwhile shows that an election outlives a store that fails.
func TestStoreAwayMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		down := errs.New(errs.Unavailable, "down")
		for range 5 {
			s.FailNext(down)
		}
		r := start(t, s, "a")
		one := <-r.terms
		s.BreakWatches(down)
		<-time.After(3 * time.Second) // in the bubble
		if tell, err := s.Expire(view.LeaderKey); err != nil {
			t.Fatal(err)
		} else {
			tell()
		}
		if two := <-r.terms; two.Number() <= one.Number() {
			t.Errorf("term %d after %d", two.Number(), one.Number())
		}
		r.stop()
	})
}
