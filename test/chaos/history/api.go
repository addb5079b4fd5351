package history

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/chaos/world"
)

// kinds are what the API's watches are followed for.
func kinds() []string { return []string{"agent", "prompt", "mcp"} }

// APIWatches follow the API's watches: one of each kind at every replica. A watch that breaks goes on at the next replica.
type APIWatches struct {
	store *Store
	list  []*apiWatch
}

// apiWatch is one client that watches one kind.
type apiWatch struct {
	store *Store
	kind  string
	name  string
	doors []*world.Door
	at    int // door

	mu     sync.Mutex // guards what follows
	after  int64      // what came last; 0: nothing yet
	waited []headEvent
	part   []headEvent // of a revision of which more is to come
	came   int64       // how far what came was judged
}

// NewAPIWatches makes them.
func (s *Store) NewAPIWatches() *APIWatches {
	a := &APIWatches{store: s}
	for i, n := range s.world.Planes {
		for _, kind := range kinds() {
			a.list = append(a.list, &apiWatch{store: s, kind: kind, name: fmt.Sprintf("the watch of %ss that began at %s", kind, n.Name), doors: s.world.Doors(), at: i})
		}
	}
	return a
}

// Follow watches until ctx ends.
func (a *APIWatches) Follow(ctx context.Context) {
	var wg sync.WaitGroup
	for _, w := range a.list {
		wg.Go(func() { w.follow(ctx) })
	}
	wg.Wait()
}

func (w *apiWatch) follow(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		if !first {
			w.store.count(func(s *Stats) { s.APIResumed++ })
			w.at++
		}
		err := w.watch(ctx, w.doors[w.at%len(w.doors)])
		if ctx.Err() != nil {
			return
		}
		switch connect.CodeOf(err) {
		case connect.CodeOutOfRange:
			w.store.count(func(s *Stats) { s.APIRelisted++ })
			w.mu.Lock()
			w.after = 0
			w.mu.Unlock()
		case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown, connect.CodeInternal, connect.CodeAborted:
		default:
			if err != nil {
				w.store.findings.Violate("watch", "%s at %s: %v", w.name, w.doors[w.at%len(w.doors)].Node.Name, err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func (w *apiWatch) watch(ctx context.Context, d *world.Door) error {
	w.mu.Lock()
	since := w.after
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := w.guard(ctx, cancel, d)
	defer stop()
	stream, err := d.Spec.Watch(ctx, connect.NewRequest(&specv1.WatchRequest{Namespace: "default", Kind: w.kind, SinceRevision: since}))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		m := stream.Msg()
		switch m.GetType() {
		case "present":
		case "bookmark":
			w.mu.Lock()
			w.after, w.came, w.waited = m.GetStoreRevision(), m.GetStoreRevision(), nil
			w.mu.Unlock()
		default:
			w.take(d, m)
		}
	}
	return stream.Err()
}

// guard ends a watch at a replica that stands still: one whose connection stays, and which answers nothing for 6 s.
func (w *apiWatch) guard(ctx context.Context, cancel func(), d *world.Door) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		silent := time.Now()
		for ctx.Err() == nil {
			one, end := context.WithTimeout(ctx, 2*time.Second)
			if err := d.Node.Ready(one); err == nil {
				silent = time.Now()
			}
			end()
			if time.Since(silent) > 6*time.Second {
				cancel()
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second):
			}
		}
	}()
	return func() { cancel(); <-done }
}

// take takes one change.
func (w *apiWatch) take(d *world.Door, m *specv1.WatchResponse) {
	o, r := m.GetObject(), m.GetStoreRevision()
	w.store.count(func(s *Stats) { s.APIEvents++ })
	if o.GetKind() != w.kind {
		w.store.findings.Violate("watch", "%s got a %s", w.name, o.GetKind())
	}
	if o.GetStoreRevision() != 0 && o.GetStoreRevision() < r {
		w.store.findings.Violate("watch", "%s got %s of revision %d at its change of %d", w.name, o.GetName(), o.GetStoreRevision(), r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r < w.after {
		w.store.findings.Violate("watch", "%s got revision %d after %d, from %s", w.name, r, w.after, d.Node.Name)
	}
	change := headEvent{r, view.HeadKey(w.kind, "default", o.GetName())}
	if len(w.part) > 0 && w.part[0].revision == r && slices.Contains(w.part, change) {
		return // taken up in the middle of a revision: its changes come again
	}
	w.waited = append(w.waited, change)
	if m.GetMore() {
		w.part = append(w.part, change)
		r--
	} else {
		w.part = nil
	}
	w.after = max(w.after, r)
}

// Settle judges what came against what the store holds, as far as that is known. With end, every watch must have shown everything by
// then, within limit.
func (a *APIWatches) Settle(ctx context.Context, end bool, limit time.Duration) {
	until := a.store.newestHeads()
	deadline := time.Now().Add(limit)
	for _, w := range a.list {
		for end && ctx.Err() == nil && time.Now().Before(deadline) && w.reached() < until[w.kind] {
			pause(ctx)
		}
		if got := w.reached(); end && got < until[w.kind] {
			a.store.findings.Violate("watch", "%s stands at revision %d after %s; the last change is of %d", w.name, got, limit, until[w.kind])
		}
		w.judge()
	}
}

func (s *Store) newestHeads() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int64{}
	for kind, list := range s.heads {
		out[kind] = list[len(list)-1].revision
	}
	return out
}

func (w *apiWatch) reached() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.after
}

// judge compares what came with the store's history up to the last whole revision of both.
func (w *apiWatch) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	frontier := w.store.Frontier()
	// The last revision that came may have more changes on their way, unless it is followed by another one.
	limit := min(frontier, w.after-1)
	var got []headEvent
	rest := w.waited[:0:0]
	for _, e := range w.waited {
		if e.revision <= limit {
			got = append(got, e)
		} else {
			rest = append(rest, e)
		}
	}
	w.waited = rest
	if limit <= w.came {
		return
	}
	want := w.store.headsBetween(w.kind, w.came, limit)
	byRevision := func(a, b headEvent) int {
		if a.revision != b.revision {
			return int(a.revision - b.revision)
		}
		return slices.Compare([]byte(a.key), []byte(b.key))
	}
	slices.SortFunc(want, byRevision)
	slices.SortStableFunc(got, byRevision)
	for _, e := range want {
		if _, ok := slices.BinarySearchFunc(got, e, byRevision); !ok {
			w.store.findings.Violate("watch", "%s didn't get %s of revision %d", w.name, e.key, e.revision)
		}
	}
	for i, e := range got {
		if i > 0 && got[i-1] == e {
			w.store.findings.Violate("watch", "%s got %s of revision %d twice", w.name, e.key, e.revision)
		}
		if _, ok := slices.BinarySearchFunc(want, e, byRevision); !ok {
			w.store.findings.Violate("watch", "%s got %s of revision %d, which nobody wrote", w.name, e.key, e.revision)
		}
	}
	w.came = limit
}

// headsBetween gives the changes of a kind's heads above a and up to b.
func (s *Store) headsBetween(kind string, a, b int64) []headEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []headEvent
	for _, e := range s.heads[kind] {
		if e.revision > a && e.revision <= b {
			out = append(out, e)
		}
	}
	return out
}

func (s *Store) count(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.stats)
}
