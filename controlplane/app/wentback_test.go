package app

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// TestAStoreThatWentBackIsFound: also when what was written since made its revision greater than any that was seen.
func TestAStoreThatWentBackIsFound(t *testing.T) {
	move := func(id string) store.KV {
		return store.KV{Key: view.MoveKey("default", id), Value: view.Encode(view.MoveRecord{Heads: []view.HeadMove{{Kind: manifest.KindAgent, Namespace: "default", Name: "a"}}})}
	}
	filled := func(ids ...string) *memstore.Store {
		s := memstore.New()
		if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(view.Cluster{ID: "c", Epoch: 1})}}}); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if _, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{move(id)}}); err != nil {
				t.Fatal(err)
			}
		}
		return s
	}
	for name, tc := range map[string]struct {
		now  []string // moves of the store that takes the first one's place
		back bool
	}{
		"the same":                   {[]string{"1", "2", "3"}, false},
		"the same, and written on":   {[]string{"1", "2", "3", "4"}, false},
		"went back":                  {[]string{"1", "2"}, true},
		"went back, written again":   {[]string{"1", "2", "x"}, true},
		"went back, written further": {[]string{"1", "2", "x", "y", "z"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &swapped{}
			s.now.Store(filled("1", "2", "3"))
			v, err := view.Open(t.Context(), view.Config{Store: s, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			before, ok := v.Witness()
			if !ok {
				t.Fatal("no witness")
			}
			s.now.Store(filled(tc.now...))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = v.Run(ctx) }()
			defer func() { cancel(); <-done }()
			if newest, err := s.Commit(ctx, store.Txn{}); err != nil || newest > v.Revision() && v.WaitFor(ctx, newest) != nil {
				t.Fatal(err)
			}
			now, _ := v.Witness()
			if err := wentBack(ctx, s, v, before, now); errs.Is(err, errs.Precondition) != tc.back {
				t.Errorf("%v", err)
			}
		})
	}
}

// swapped is a store that another takes the place of.
type swapped struct {
	now atomic.Pointer[memstore.Store]
}

// Get asks the present one, as do the others.
func (s *swapped) Get(ctx context.Context, key string) (store.KV, error) {
	return s.now.Load().Get(ctx, key)
}

// List lists.
func (s *swapped) List(ctx context.Context, prefix string, o store.ListOptions) (store.Page, error) {
	return s.now.Load().List(ctx, prefix, o)
}

// Commit writes.
func (s *swapped) Commit(ctx context.Context, t store.Txn) (int64, error) {
	return s.now.Load().Commit(ctx, t)
}

// Watch follows.
func (s *swapped) Watch(ctx context.Context, prefix string, after int64, emit func(store.Batch) error) error {
	return s.now.Load().Watch(ctx, prefix, after, emit)
}

// Close closes nothing.
func (*swapped) Close() error { return nil }
