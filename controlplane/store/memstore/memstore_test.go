package memstore_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/store/storetest"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store { return memstore.New() })
}

func TestFailNext(t *testing.T) {
	s := memstore.New()
	down := errs.New(errs.Unavailable, "down")
	s.FailNext(down)
	s.FailNext(down)
	txn := store.Txn{Puts: []store.KV{{Key: "a", Value: []byte("1")}}}
	for range 2 {
		if _, err := s.Commit(t.Context(), txn); !errors.Is(err, down) {
			t.Fatalf("error %v, want the planned one", err)
		}
	}
	if _, err := s.Get(t.Context(), "a"); !errs.Is(err, errs.NotFound) {
		t.Fatalf("error %v, want NotFound: a failed commit writes nothing", err)
	}
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
}

func TestBreakWatches(t *testing.T) {
	s := memstore.New()
	first := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Watch(t.Context(), "", 1, func(store.Batch) error { close(first); return nil })
	}()
	if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "a"}}}); err != nil {
		t.Fatal(err)
	}
	<-first
	want := errs.New(errs.OutOfRange, "compacted")
	s.BreakWatches(want)
	if err := <-done; !errors.Is(err, want) {
		t.Fatalf("watch answered %v", err)
	}
}

func TestCompact(t *testing.T) {
	s := memstore.New()
	var last int64
	for range 5 {
		var err error
		if last, err = s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "a"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Compact(last - 1); err != nil {
		t.Fatal(err)
	}
	if _, err := s.List(t.Context(), "", store.ListOptions{Revision: last - 2}); !errs.Is(err, errs.OutOfRange) {
		t.Errorf("list: error %v, want OutOfRange", err)
	}
	emit := func(store.Batch) error { return errors.New("enough") }
	if err := s.Watch(t.Context(), "", 1, emit); !errs.Is(err, errs.OutOfRange) {
		t.Errorf("watch: error %v, want OutOfRange", err)
	}
	if page, err := s.List(t.Context(), "", store.ListOptions{Revision: last - 1}); err != nil || page.KVs[0].ModRevision != last-1 {
		t.Errorf("page %v, error %v", page, err)
	}
}
