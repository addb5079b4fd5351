package epoch_test

import (
	"context"
	"errors"
	"testing"

	"github.com/agentry/agentry/controlplane/epoch"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

type world struct {
	*testing.T

	store *memstore.Store
	fence *epoch.Fence
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := memstore.New()
	w := &world{T: t, store: s, fence: epoch.Wrap(s)}
	if _, err := view.Init(t.Context(), w.fence); err != nil {
		t.Fatal(err)
	}
	return w
}

// set changes the cluster record behind the fence's back, as another replica does.
func (w *world) set(change func(c *view.Cluster)) {
	w.Helper()
	kv, err := w.store.Get(w.Context(), view.ClusterKey)
	if err != nil {
		w.Fatal(err)
	}
	c, err := view.Decode[view.Cluster](kv.Value)
	if err != nil {
		w.Fatal(err)
	}
	change(&c)
	if _, err := w.store.Commit(w.Context(), store.Txn{Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(c)}}}); err != nil {
		w.Fatal(err)
	}
}

func (w *world) put(ctx context.Context, key string, conds ...store.Cond) error {
	_, err := w.fence.Commit(ctx, store.Txn{If: conds, Puts: []store.KV{{Key: key}}})
	return err
}

func (w *world) wantRefused(err error) {
	w.Helper()
	var refused *epoch.RefusedError
	if !errors.As(err, &refused) || !errs.Is(err, errs.Unavailable) {
		w.Fatalf("error %v, want a refusal", err)
	}
}

func (w *world) has(key string) bool {
	w.Helper()
	_, err := w.store.Get(w.Context(), key)
	return err == nil
}

func TestAnotherEpochRefusesWhatWasJudgedBefore(t *testing.T) {
	w := newWorld(t)
	if err := w.put(t.Context(), view.Root+"a"); err != nil {
		t.Fatal(err)
	}
	w.set(func(c *view.Cluster) { c.Epoch = 7 })
	w.wantRefused(w.put(t.Context(), view.Root+"b")) // by what this replica knew
	if w.has(view.Root + "b") {
		t.Fatal("written")
	}
	if err := w.put(t.Context(), view.Root+"b"); err != nil { // it knows now
		t.Fatal(err)
	}
	w.wantRefused(w.put(epoch.Pin(t.Context(), 1), view.Root+"c"))
	if err := w.put(epoch.Pin(t.Context(), 7), view.Root+"c"); err != nil {
		t.Fatal(err)
	}
	w.set(func(c *view.Cluster) { c.Epoch = 8 })
	if err := w.put(epoch.Pin(t.Context(), 8), view.Root+"d"); err != nil {
		t.Fatalf("judged in the new epoch, while the fence knows the old one: %v", err)
	}
}

func TestTheFirstHelloRefusesNothing(t *testing.T) {
	w := newWorld(t)
	if err := w.put(t.Context(), view.Root+"a"); err != nil {
		t.Fatal(err)
	}
	w.set(func(c *view.Cluster) { c.Greeted = true })
	if err := w.put(t.Context(), view.Root+"b"); err != nil {
		t.Fatal(err)
	}
	// A condition of the writer's own stays a conflict.
	if err := w.put(t.Context(), view.Root+"b", store.Cond{Key: view.Root + "b"}); !errs.Is(err, errs.Conflict) {
		t.Fatalf("error %v", err)
	}
	w.set(func(c *view.Cluster) { c.Greeted = false })
	if err := w.put(t.Context(), view.Root+"b", store.Cond{Key: view.Root + "b"}); !errs.Is(err, errs.Conflict) {
		t.Fatalf("error %v", err)
	}
}

func TestWhileRestoring(t *testing.T) {
	w := newWorld(t)
	w.set(func(c *view.Cluster) { c.Restoring = &view.Restoring{ID: "r", By: "ops"} })
	for range 2 {
		w.wantRefused(w.put(t.Context(), view.Root+"a"))
	}
	w.wantRefused(w.put(t.Context(), view.ClusterKey)) // a Hello
	for _, key := range []string{view.AuditPrefix + "1", view.ReplicaPrefix + "r", view.LeaderKey, view.OncePrefix + "k/0"} {
		if err := w.put(t.Context(), key); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if _, err := w.fence.Commit(t.Context(), store.Txn{}); err != nil {
		t.Errorf("a read: %v", err)
	}
	if err := w.put(epoch.WithRestore(t.Context()), view.Root+"a"); err != nil {
		t.Errorf("who restores: %v", err)
	}
	w.set(func(c *view.Cluster) { c.Restoring, c.Epoch = nil, 9 })
	if err := w.put(t.Context(), view.Root+"a"); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// TestInFlight is about a write that was judged and sent before the restore began and arrives after.
func TestInFlight(t *testing.T) {
	w := newWorld(t)
	slow := &before{Store: w.store}
	w.fence = epoch.Wrap(slow)
	if err := w.put(t.Context(), view.Root+"a"); err != nil {
		t.Fatal(err)
	}
	slow.commit = func() { w.set(func(c *view.Cluster) { c.Restoring = &view.Restoring{ID: "r"} }) }
	w.wantRefused(w.put(t.Context(), view.Root+"late"))
	slow.commit = nil
	if w.has(view.Root + "late") {
		t.Fatal("written into the restore")
	}
}

// before calls something before a transaction arrives.
type before struct {
	store.Store

	commit func()
}

func (b *before) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if b.commit != nil {
		b.commit()
	}
	return b.Store.Commit(ctx, t)
}
