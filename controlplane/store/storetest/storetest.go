// Package storetest is the conformance suite of store.Store: what every implementation must do alike. Implementations'
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
	tests := map[string]func(t *testing.T, s store.Store){
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
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			test(t, s)
		})
	}
}

// put writes one key and gives its revision.
func put(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return rev
}

func mustKind(t *testing.T, err error, want errs.Kind) {
	t.Helper()
	if err == nil || errs.KindOf(err) != want {
		t.Fatalf("error %v of kind %d, want kind %d", err, errs.KindOf(err), want)
	}
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}

// tail is a watch that runs beside a test and hands over its batches one by one.
type tail struct {
	batches chan store.Batch
	done    chan error
	cancel  context.CancelFunc
}

func startTail(t *testing.T, s store.Store, prefix string, after int64) *tail {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
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
	t.Cleanup(func() { w.stop(t) })
	return w
}

// stop ends the watch and gives what it answered; only the first call does.
func (w *tail) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	select {
	case err, ok := <-w.done:
		if ok {
			close(w.done)
			if err != nil && !errs.Is(err, errs.Unavailable) {
				t.Errorf("watch answered %v", err)
			}
		}
	case <-time.After(patience):
		t.Error("watch goes on after its context ended")
	}
}

// events reads until n events came; progress is passed over.
func (w *tail) events(t *testing.T, n int) []store.Event {
	t.Helper()
	var out []store.Event
	deadline := time.After(patience)
	for len(out) < n {
		select {
		case b := <-w.batches:
			out = append(out, b.Events...)
		case err := <-w.done:
			t.Fatalf("watch ended with %v after %d of %d events", err, len(out), n)
		case <-deadline:
			t.Fatalf("%d of %d events", len(out), n)
		}
	}
	return out
}
