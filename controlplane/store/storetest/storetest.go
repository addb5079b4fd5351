// Package storetest is the conformance suite of store.Store and store.Leases: what every implementation must do alike. Implementations'
// tests call Run; nothing else does.
package storetest

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// patience bounds a wait for something that must happen; it is a limit for broken stores, not a measure.
const patience = 20 * time.Second

// Run runs the suite. open gives an empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Helper()
	tests := map[string]func(env){
		"get what was put":               getPut,
		"create only":                    createOnly,
		"compare and swap":               compareAndSwap,
		"all or nothing":                 allOrNothing,
		"concurrent counters":            concurrentCounters,
		"deletes":                        deletes,
		"an empty transaction":           emptyTxn,
		"transactions nobody takes":      badTxns,
		"large values":                   largeValues,
		"pages at one revision":          pages,
		"listing bounds":                 listBounds,
		"a future revision":              futureRevision,
		"a context that has ended":       endedContext,
		"watch order without gaps":       watchOrder,
		"watch resumes":                  watchResume,
		"watch keeps revisions whole":    watchWhole,
		"watch shows deletes":            watchDeletes,
		"watch sees its prefix only":     watchPrefix,
		"watch ends with its context":    watchCancel,
		"watch ends with emit's error":   watchEmitError,
		"watch tells progress":           watchProgress,
		"close ends watches, and twice":  closeTwice,
		"values are the reader's own":    ownValues,
		"watchers and writers at a time": watchUnderLoad,
		"hold and release":               holdAndRelease,
		"hold under conditions":          holdConditions,
		"hold updates":                   holdUpdates,
		"hold fences":                    holdFences,
		"hold what is taken away":        holdTakenAway,
		"hold outlives its ttl":          holdOutlivesTTL,
		"hold ends with close":           holdEndsWithClose,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test(env{T: t, store: s})
		})
	}
}

// env is one case: its test and an empty store.
type env struct {
	*testing.T

	store store.Store
}

// put writes one key and gives its revision.
func put(tb testing.TB, s store.Store, key, value string) int64 {
	tb.Helper()
	rev, err := s.Commit(tb.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte(value)}}})
	if err != nil {
		tb.Fatalf("put %s: %v", key, err)
	}
	return rev
}

func mustKind(tb testing.TB, err error, want errs.Kind) {
	tb.Helper()
	if err == nil || errs.KindOf(err) != want {
		tb.Fatalf("error %v of kind %d, want kind %d", err, errs.KindOf(err), want)
	}
}

func same(tb testing.TB, want, got any) {
	tb.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		tb.Fatalf("(-want +got)\n%s", diff)
	}
}

// tail is a watch that runs beside a test and hands over its batches one by one.
type tail struct {
	batches chan store.Batch
	done    chan error
	cancel  context.CancelFunc
}

func startTail(tb testing.TB, s store.Store, prefix string, after int64) *tail {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	w := &tail{batches: make(chan store.Batch), done: make(chan error, 1), cancel: cancel}
	go func() {
		w.done <- s.Watch(ctx, prefix, after, func(b store.Batch) error {
			select {
			case w.batches <- b:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	tb.Cleanup(func() { w.stop(tb) })
	return w
}

// stop ends the watch and gives what it answered; only the first call does.
func (w *tail) stop(tb testing.TB) {
	tb.Helper()
	w.cancel()
	select {
	case err, ok := <-w.done:
		if ok {
			close(w.done)
			if err != nil && !errs.Is(err, errs.Unavailable) {
				tb.Errorf("watch answered %v", err)
			}
		}
	case <-time.After(patience):
		tb.Error("watch goes on after its context ended")
	}
}

// events reads until n events came; progress is passed over.
func (w *tail) events(tb testing.TB, n int) []store.Event {
	tb.Helper()
	var out []store.Event
	deadline := time.After(patience)
	for len(out) < n {
		select {
		case b := <-w.batches:
			out = append(out, b.Events...)
		case err := <-w.done:
			tb.Fatalf("watch ended with %v after %d of %d events", err, len(out), n)
		case <-deadline:
			tb.Fatalf("%d of %d events", len(out), n)
		}
	}
	return out
}
