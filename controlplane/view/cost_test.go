package view_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

const (
	manyAgents  = 2000
	manyPrompts = 500
)

// newLargeWorld has manyAgents agents of two revisions each, of which four share a prompt, and one applied config each.
func newLargeWorld(t *testing.T) (w *world, old []byte) {
	t.Helper()
	s := memstore.New()
	if _, err := view.Init(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	var puts []store.KV
	for i := range manyPrompts {
		one, two := promptBlob(i, "1"), promptBlob(i, "2")
		puts = append(puts, blob(one), blob(two), promptKV("default", fmt.Sprintf("p%d", i), "1", "2"))
	}
	for i := range manyAgents {
		first, second := agentSpec(t, name(i), "before", "key"), agentSpec(t, name(i), fmt.Sprintf("p%d", i%manyPrompts), "key", "m")
		if i == 0 {
			old = first
		}
		line := manifest.Line{Kind: "agent", Name: name(i), Version: "-", SHA256: manifest.Sum(second)}
		puts = append(puts, blob(first), blob(second), agentKV("default", agentHead(name(i), 2, 0, first, second)),
			kv(view.AppliedKey("default", name(i), manifest.Sum(second)), view.Encode(view.Applied{Revision: 2, Lines: []manifest.Line{line}})))
	}
	for len(puts) > 0 {
		n := min(len(puts), store.MaxOps)
		if _, err := s.Commit(t.Context(), store.Txn{Puts: puts[:n]}); err != nil {
			t.Fatal(err)
		}
		puts = puts[n:]
	}
	w = &world{T: t, store: s}
	w.view = openView(t, s)
	return w, old
}

func promptBlob(i int, version string) []byte { return fmt.Appendf(nil, "p%d%s", i, version) }

// spent is what a step cost.
type spent struct{ Decoded, Parsed, Fetched, Touched, Events int64 }

func (w *world) cost(f func()) spent {
	w.Helper()
	before := w.view.Stats()
	f()
	after := w.view.Stats()
	return spent{
		Decoded: after.Decoded - before.Decoded, Parsed: after.Parsed - before.Parsed, Fetched: after.Fetched - before.Fetched,
		Touched: after.Touched - before.Touched, Events: after.Events - before.Events,
	}
}

// TestAChangeCostsWhatItTouches counts, among many agents, what each kind of change makes the view do.
func TestAChangeCostsWhatItTouches(t *testing.T) {
	w, old := newLargeWorld(t)
	if s := w.view.Stats(); s.Agents != manyAgents || s.Applied != manyAgents || s.Parsed != manyAgents || s.Fetched != 0 {
		t.Fatalf("loaded: %+v", s)
	}
	sub := w.view.Subscribe()
	t.Cleanup(sub.Close)
	third := agentSpec(t, name(0), "p7", "key", "m")
	head := func(stable int64) store.KV {
		return agentKV("default", agentHead(name(0), stable, 0, old, agentSpec(t, name(0), "p0", "key", "m"), third))
	}
	// The steps stand on each other.
	for _, step := range []struct {
		name string
		do   func()
		want spent
	}{
		{"a prompt's label goes back to a version that isn't in memory", func() { w.put(promptKV("default", "p3", "2", "1")) }, spent{Decoded: 1, Fetched: 1, Events: 1, Touched: manyAgents / manyPrompts}},
		{"an agent is applied", func() { w.put(blob(third), head(3)) }, spent{Decoded: 1, Parsed: 1, Events: 2, Touched: 1}},
		{"it goes back to its first revision", func() { w.put(head(1)) }, spent{Decoded: 1, Parsed: 1, Fetched: 1, Events: 1, Touched: 1}},
		{"an instance applied a known line", func() {
			line := manifest.Line{Kind: "agent", Name: name(5), Version: "-", SHA256: manifest.Sum(agentSpec(t, name(5), "p5", "key", "m"))}
			w.put(kv(view.AppliedKey("default", name(5), manifest.Sum(nil)), view.Encode(view.Applied{Lines: []manifest.Line{line}})))
		}, spent{Decoded: 1, Events: 1}},
		{"an entry that all refer to moves", func() { w.put(mcpKV("default", view.MCPHead{Name: "m"})) }, spent{Decoded: 1, Events: 1, Touched: manyAgents - 1}},
		{"the watch breaks and all is listed again", func() {
			w.store.BreakWatches(errs.New(errs.OutOfRange, "compacted"))
			last, err := w.store.Commit(t.Context(), store.Txn{Puts: []store.KV{promptKV("default", "p4", "2")}})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.store.Compact(last); err != nil {
				t.Fatal(err)
			}
			w.wait(last)
		}, spent{Decoded: 1, Events: 1, Touched: manyAgents / manyPrompts}},
	} {
		t.Run(step.name, func(t *testing.T) { same(t, step.want, w.cost(step.do)) })
	}
	if s := w.view.Stats(); s.Relists != 2 {
		t.Errorf("%d listings, want the first and one more", s.Relists)
	}
}

// TestOldContentIsReadOnDemand: bytes that no head names now are in the store only, until somebody asks.
func TestOldContentIsReadOnDemand(t *testing.T) {
	w, old := newLargeWorld(t)
	sum := manifest.Sum(old)
	read := func() {
		b, err := w.view.ReadBlob(t.Context(), sum)
		if err != nil || string(b) != string(old) {
			t.Errorf("%q, %v", b, err)
		}
	}
	same(t, spent{Fetched: 1}, w.cost(read))
	same(t, spent{}, w.cost(read))
	if b, ok := w.view.Blob(sum); !ok || string(b) != string(old) {
		t.Errorf("%q, %v", b, ok)
	}
	unknown := manifest.Sum([]byte("nobody wrote it"))
	same(t, spent{}, w.cost(func() {
		if _, err := w.view.ReadBlob(t.Context(), unknown); !errs.Is(err, errs.NotFound) {
			t.Errorf("error %v, want NotFound", err)
		}
	}))
	if w.view.Knows(unknown) || !w.view.Knows(sum) {
		t.Error("the wrong blobs are known")
	}
	other := manifest.Sum(agentSpec(t, name(1), "before", "key"))
	w.store.FailNext(errs.New(errs.Unavailable, "down"))
	if _, err := w.view.ReadBlob(t.Context(), other); !errs.Is(err, errs.Unavailable) {
		t.Errorf("error %v, want Unavailable", err)
	}
	if _, err := w.view.ReadBlob(t.Context(), other); err != nil {
		t.Errorf("after the outage: %v", err)
	}
	w.commit(store.Txn{Deletes: []string{view.BlobKey(sum)}})
	if _, err := w.view.ReadBlob(t.Context(), sum); !errs.Is(err, errs.NotFound) {
		t.Errorf("a collected blob: %v, want NotFound", err)
	}
}

// awayStore fails a number of reads of single keys.
type awayStore struct {
	store.Store

	failures atomic.Int64
}

func (s *awayStore) Get(ctx context.Context, key string) (store.KV, error) {
	if s.failures.Add(-1) >= 0 {
		return store.KV{}, errs.New(errs.Unavailable, "away")
	}
	return s.Store.Get(ctx, key)
}

// TestAHeadGoesBackWhileTheStoreIsAway: the view shows the head only with the content that it names.
func TestAHeadGoesBackWhileTheStoreIsAway(t *testing.T) {
	w, old := newLargeWorld(t)
	away := &awayStore{Store: w.store}
	w.view = openView(t, away)
	away.failures.Store(2)
	w.put(agentKV("default", agentHead(name(0), 1, 0, old, agentSpec(t, name(0), "p0", "key", "m"))))
	if left := away.failures.Load(); left >= 0 {
		t.Errorf("%d failures are left: nothing was read", left)
	}
	_, immutables := w.view.Heads("default", name(0))
	if raw, _, ok := immutables.Spec(1); !ok || string(raw) != string(old) {
		t.Errorf("spec 1: %q, %v", raw, ok)
	}
	same(t, []view.AgentKey{{Namespace: "default", Name: name(0)}}, w.view.Dependents("prompt", "default", "before"))
}

func TestPagesOfAListing(t *testing.T) {
	w, _ := newLargeWorld(t)
	w.put(agentKV("other", view.AgentHead{Name: "Zed"}), agentKV("default", view.AgentHead{Name: "AGENT-00000a"}))
	var got []string
	page := view.Page{Namespace: "default", Limit: 300}
	for {
		entries := w.view.AgentPage(page)
		for _, e := range entries {
			got = append(got, e.Head.Name)
			page.AfterNamespace, page.AfterName = e.Namespace, e.Head.Name
		}
		if len(entries) < page.Limit {
			break
		}
	}
	var want []string
	for _, e := range w.view.Agents("default") {
		want = append(want, e.Head.Name)
	}
	same(t, want, got)
	same(t, manyAgents+1, len(got))
	same(t, "AGENT-00000a", got[1])
	same(t, manyAgents+2, len(w.view.Agents("")))
	same(t, 1, len(w.view.AgentPage(view.Page{AfterNamespace: "default", AfterName: "zzz"})))
	same(t, 0, len(w.view.AgentPage(view.Page{Namespace: "defaul"})))
	w.commit(store.Txn{Deletes: []string{view.HeadKey("agent", "default", "AGENT-00000a")}})
	same(t, manyAgents, len(w.view.Agents("default")))
	if labels, ok := w.view.Labels("default", name(1), manifest.Hash{}); ok {
		t.Errorf("labels %v of no spec", labels)
	}
}
