package view_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

func TestRelistAfterCompaction(t *testing.T) {
	w := newWorld(t)
	s := agentSpec(t, "a", "p", "c")
	w.put(blob(s), agentKV("default", agentHead("a", 1, 0, s)), agentKV("default", view.AgentHead{Name: "gone"}), agentKV("default", view.AgentHead{Name: "still"}))
	w.put(promptKV("default", "p", "1"))
	sub := w.view.Subscribe()
	t.Cleanup(sub.Close)

	// While the watch is broken, a head changes, one goes, one comes, and all of it is compacted.
	w.store.BreakWatches(errs.New(errs.OutOfRange, "compacted"))
	last, err := w.store.Commit(t.Context(), store.Txn{
		Puts:    []store.KV{promptKV("default", "p", "1", "2"), agentKV("default", view.AgentHead{Name: "new"})},
		Deletes: []string{view.HeadKey("agent", "default", "gone")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.Compact(last); err != nil {
		t.Fatal(err)
	}
	w.wait(last)
	same(t, keys("a", "gone", "new"), w.touched(sub))
	if h, _ := w.view.Heads("default", "a"); h.Prompts["p"].Labels["latest"] != "2" {
		t.Errorf("prompts %v", h.Prompts)
	}
	if _, _, ok := w.view.Agent("default", "gone"); ok {
		t.Error("the deleted head is there")
	}
	// The watch goes on after it.
	w.put(promptKV("default", "p", "1", "2", "3"))
	same(t, keys("a"), w.touched(sub))
	if s := w.view.Stats(); s.Relists < 2 || s.Breaks == 0 {
		t.Errorf("stats %+v: want more than the first listing", s)
	}
}

func TestOutageThenMore(t *testing.T) {
	w := newWorld(t)
	w.store.BreakWatches(errs.New(errs.Unavailable, "down"))
	w.put(agentKV("default", view.AgentHead{Name: "a"}))
	if _, _, ok := w.view.Agent("default", "a"); !ok {
		t.Error("a is missing")
	}
}

// wentBack is a store that answers with an older one's listing after a restore.
type wentBack struct {
	store.Store

	restored *memstore.Store
	back     atomic.Bool
}

func (s *wentBack) List(ctx context.Context, prefix string, opts store.ListOptions) (store.Page, error) {
	if s.back.Load() {
		return s.restored.List(ctx, prefix, opts)
	}
	return s.Store.List(ctx, prefix, opts)
}

func TestStoreWentBack(t *testing.T) {
	full := memstore.New()
	for range 5 {
		if _, err := full.Commit(t.Context(), store.Txn{Puts: []store.KV{agentKV("default", view.AgentHead{Name: "a"})}}); err != nil {
			t.Fatal(err)
		}
	}
	restored := &wentBack{Store: full, restored: memstore.New()}
	v, err := view.Open(t.Context(), view.Config{Store: restored, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	restored.back.Store(true)
	if _, err := full.Commit(t.Context(), store.Txn{Puts: []store.KV{agentKV("default", view.AgentHead{Name: "b"})}}); err != nil {
		t.Fatal(err)
	}
	if err := full.Compact(v.Revision() + 1); err != nil {
		t.Fatal(err)
	}
	if err := v.Run(t.Context()); !errs.Is(err, errs.Precondition) {
		t.Errorf("error %v, want Precondition", err)
	}
}

// TestHeadsUnderConcurrentWrites: whatever writers, outages and compactions do, what one call of Heads shows was written
// at one revision, and an agent's generation never falls.
func TestHeadsUnderConcurrentWrites(t *testing.T) {
	w := newWorld(t)
	specs := [][]byte{
		agentSpec(t, "a", "p", "key", "m"), agentSpec(t, "a", "p2", "key"), agentSpec(t, "a", "p", "key2", "m", "m2"),
	}
	w.put(blob(specs[0]), blob(specs[1]), blob(specs[2]))
	// pair is written whole, so its two heads always show one ModRevision.
	pair := func(n int64) []store.KV {
		return []store.KV{promptKV("default", "p", fmt.Sprint(n)), mcpKV("default", view.MCPHead{Name: "m", Current: fmt.Sprint(n)})}
	}
	w.put(append(pair(0), agentKV("default", agentHead("a", 1, 0, specs...)))...)
	sub := w.view.Subscribe()
	t.Cleanup(sub.Close)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var writers, readers sync.WaitGroup
	write := func(seed uint64, txn func(r *rand.Rand, i int) store.Txn) {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(seed, 2))
			for i := range 300 {
				if _, err := w.store.Commit(ctx, txn(r, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	write(1, func(_ *rand.Rand, i int) store.Txn { return store.Txn{Puts: pair(int64(i))} })
	write(2, func(r *rand.Rand, _ int) store.Txn {
		return store.Txn{Puts: []store.KV{agentKV("default", agentHead("a", 1+r.Int64N(3), r.Int64N(4), specs...))}}
	})
	write(3, func(r *rand.Rand, i int) store.Txn {
		return store.Txn{Puts: []store.KV{credentialKV("default", []string{"key", "key2"}[r.IntN(2)], int64(i)), promptKV("default", "p2", fmt.Sprint(i))}}
	})
	writers.Go(func() {
		for i := range 5 {
			at, err := w.store.Commit(ctx, store.Txn{})
			if err != nil || w.store.Compact(at) != nil || w.view.WaitFor(ctx, at) != nil {
				t.Errorf("round %d: %v", i, err)
				return
			}
			w.store.BreakWatches(errs.New([]errs.Kind{errs.OutOfRange, errs.Unavailable}[i%2], "broken"))
		}
	})
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for last := int64(0); ; {
				h, _ := w.view.Heads("default", "a")
				g := generation(h)
				if g < last {
					t.Errorf("generation fell from %d to %d", last, g)
					return
				}
				last = g
				p, okP := h.Prompts["p"]
				if m, okM := h.MCP["m"]; okP && okM && p.ModRevision != m.ModRevision {
					t.Errorf("prompt of revision %d beside mcp of %d", p.ModRevision, m.ModRevision)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	at, err := w.store.Commit(ctx, store.Txn{})
	if err != nil {
		t.Fatal(err)
	}
	w.wait(at)
	close(stop)
	readers.Wait()

	// What the view shows in the end is what a fresh one reads.
	fresh, err := view.Open(t.Context(), view.Config{Store: w.store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	want, _ := fresh.Heads("default", "a")
	got, _ := w.view.Heads("default", "a")
	same(t, want, got)
	for _, p := range []string{"p", "p2"} {
		same(t, fresh.Dependents("prompt", "default", p), w.view.Dependents("prompt", "default", p))
	}
	same(t, fresh.Stats().Keys, w.view.Stats().Keys)
	same(t, keys("a"), w.touched(sub))
}

func generation(h snapshot.Heads) int64 {
	g := h.Agent.ModRevision
	for _, p := range h.Prompts {
		g = max(g, p.ModRevision)
	}
	for _, m := range h.MCP {
		g = max(g, m.ModRevision)
	}
	for _, c := range h.Credentials {
		g = max(g, c.ModRevision)
	}
	return g
}

// TestTenThousandAgents prints what loading costs and checks that the index is whole.
func TestTenThousandAgents(t *testing.T) {
	const agents, prompts = 10_000, 100
	s := memstore.New()
	var puts []store.KV
	flush := func(atLeast int) {
		if len(puts) < atLeast {
			return
		}
		if _, err := s.Commit(t.Context(), store.Txn{Puts: puts}); err != nil {
			t.Fatal(err)
		}
		puts = nil
	}
	for i := range prompts {
		puts = append(puts, promptKV("default", fmt.Sprintf("p%d", i), "1"))
	}
	for i := range agents {
		spec := agentSpec(t, name(i), fmt.Sprintf("p%d", i%prompts), "key", "nacos", "search")
		puts = append(puts, blob(spec), agentKV("default", agentHead(name(i), 1, 0, spec)))
		flush(1000)
	}
	flush(1)
	begin := time.Now()
	v := openView(t, s)
	loaded := time.Since(begin)
	same(t, agents, v.Stats().Agents)
	same(t, agents/prompts, len(v.Dependents("prompt", "default", "p7")))
	same(t, agents, len(v.Dependents("mcp", "default", "nacos")))

	sub := v.Subscribe()
	t.Cleanup(sub.Close)
	begin = time.Now()
	rev, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{mcpKV("default", view.MCPHead{Name: "nacos", Current: "2"})}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	touched, _ := sub.Take()
	moved := time.Since(begin)
	same(t, agents, len(touched))
	begin = time.Now()
	for _, a := range touched {
		v.Heads(a.Namespace, a.Name)
	}
	t.Logf("load %d agents: %v; a shared head moves for all: %v; their heads: %v", agents, loaded, moved, time.Since(begin))
}
