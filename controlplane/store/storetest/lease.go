package storetest

import (
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// holdTTL is long against everything that the suite does but waiting.
const holdTTL = 5 * time.Second

// leases gives the store's other half.
func (t env) leases() store.Leases {
	t.Helper()
	l, ok := t.store.(store.Leases)
	if !ok {
		t.Fatalf("%T has no leases", t.store)
	}
	return l
}

func (t env) hold(key, value string, conds ...store.Cond) store.Held {
	t.Helper()
	h, err := t.leases().Hold(t.Context(), store.KV{Key: key, Value: []byte(value)}, holdTTL, conds...)
	if err != nil {
		t.Fatalf("hold %s: %v", key, err)
	}
	return h
}

func (t env) release(h store.Held) {
	t.Helper()
	if err := h.Release(t.Context()); err != nil {
		t.Fatalf("release: %v", err)
	}
}

func isLost(h store.Held) bool {
	select {
	case <-h.Lost():
		return true
	default:
		return false
	}
}

func awaitLost(tb testing.TB, h store.Held) {
	tb.Helper()
	select {
	case <-h.Lost():
	case <-time.After(patience):
		tb.Fatal("the holder doesn't hear that its key is gone")
	}
}

func holdAndRelease(t env) {
	start := put(t, t.store, "other", "")
	w := startTail(t, t.store, "h", start)
	h := t.hold("h", "mine")
	got, err := t.store.Get(t.Context(), "h")
	if err != nil {
		t.Fatal(err)
	}
	same(t, store.KV{Key: "h", Value: []byte("mine"), CreateRevision: h.Revision(), ModRevision: h.Revision()}, got)
	if isLost(h) {
		t.Error("lost while it is held")
	}
	t.release(h)
	_, err = t.store.Get(t.Context(), "h")
	mustKind(t, err, errs.NotFound)
	t.release(h) // twice is safe
	events := w.events(t, 2)
	if events[0].Deleted || !events[1].Deleted || events[1].ModRevision <= h.Revision() {
		t.Errorf("watchers saw %v", events)
	}
	t.release(t.hold("h", "again"))
}

func holdConditions(t env) {
	first := t.hold("h", "1", store.Cond{Key: "h"})
	_, err := t.leases().Hold(t.Context(), store.KV{Key: "h", Value: []byte("2")}, holdTTL, store.Cond{Key: "h"})
	mustKind(t, err, errs.Conflict)
	if isLost(first) {
		t.Error("a failed try took the key away")
	}
	t.release(first)
	second := t.hold("h", "2", store.Cond{Key: "h"})
	// The first holder is none any more, and can't take the second's key away.
	t.release(first)
	got, err := t.store.Get(t.Context(), "h")
	if err != nil || string(got.Value) != "2" {
		t.Errorf("value %q, error %v", got.Value, err)
	}
	t.release(second)
	_, err = t.leases().Hold(t.Context(), store.KV{Key: "h"}, 0)
	mustKind(t, err, errs.Invalid)
	_, err = t.leases().Hold(t.Context(), store.KV{}, holdTTL)
	mustKind(t, err, errs.Invalid)
}

func holdUpdates(t env) {
	h := t.hold("h", "1")
	before := h.Revision()
	if err := h.Update(t.Context(), []byte("2")); err != nil {
		t.Fatal(err)
	}
	if h.Revision() <= before || isLost(h) {
		t.Errorf("revision %d after %d, lost: %v", h.Revision(), before, isLost(h))
	}
	got, err := t.store.Get(t.Context(), "h")
	if err != nil {
		t.Fatal(err)
	}
	same(t, store.KV{Key: "h", Value: []byte("2"), CreateRevision: before, ModRevision: h.Revision()}, got)
	t.release(h)
	mustKind(t, h.Update(t.Context(), []byte("3")), errs.Conflict)
	_, err = t.store.Get(t.Context(), "h")
	mustKind(t, err, errs.NotFound)
}

// holdFences shows that who lost a key writes nothing under the condition that it is as he wrote it, even where another holds it now.
func holdFences(t env) {
	fenced := func(h store.Held) error {
		_, err := t.store.Commit(t.Context(), store.Txn{If: []store.Cond{{Key: "h", ModRevision: h.Revision()}}, Puts: []store.KV{{Key: "w"}}})
		return err
	}
	first := t.hold("h", "same")
	if err := fenced(first); err != nil {
		t.Fatal(err)
	}
	t.release(first)
	mustKind(t, fenced(first), errs.Conflict)
	second := t.hold("h", "same")
	mustKind(t, fenced(first), errs.Conflict)
	if err := fenced(second); err != nil {
		t.Fatal(err)
	}
	t.release(second)
}

// holdTakenAway is about a key that somebody else removes or overwrites.
func holdTakenAway(t env) {
	removed := t.hold("h/1", "")
	overwritten := t.hold("h/2", "")
	kept := t.hold("h/3", "")
	if _, err := t.store.Commit(t.Context(), store.Txn{Deletes: []string{"h/1"}, Puts: []store.KV{{Key: "h/2"}}}); err != nil {
		t.Fatal(err)
	}
	awaitLost(t, removed)
	awaitLost(t, overwritten)
	t.release(removed)
	t.release(overwritten)
	if _, err := t.store.Get(t.Context(), "h/2"); err != nil {
		t.Errorf("what the other wrote is gone with the lease: %v", err)
	}
	if isLost(kept) {
		t.Error("the third key is lost too")
	}
	t.release(kept)
}

// holdOutlivesTTL shows that a holder that lives keeps its key.
func holdOutlivesTTL(t env) {
	const ttl = 2 * time.Second
	h, err := t.leases().Hold(t.Context(), store.KV{Key: "h"}, ttl)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.Lost():
		t.Error("lost")
	case <-time.After(2 * ttl): // what is shown is that nothing happens in a time
	}
	if got, err := t.store.Get(t.Context(), "h"); err != nil || got.ModRevision != h.Revision() {
		t.Errorf("%v, error %v", got, err)
	}
	t.release(h)
}

func holdEndsWithClose(t env) {
	h := t.hold("h", "")
	if err := t.store.Close(); err != nil {
		t.Fatal(err)
	}
	awaitLost(t, h)
	_, err := t.leases().Hold(t.Context(), store.KV{Key: "h"}, holdTTL)
	mustKind(t, err, errs.Unavailable)
}
