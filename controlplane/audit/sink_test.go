package audit

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
)

// fakeSink keeps what it gets.
type fakeSink struct {
	mu       sync.Mutex
	at       int64
	got      []int64
	failures int
	slow     time.Duration
}

func (f *fakeSink) Position() int64 { return f.at }

func (f *fakeSink) Begin(seq int64) error {
	if f.at >= 0 || seq != 500 {
		return errs.New(errs.Internal, "begun at %d", seq)
	}
	return nil
}

func (f *fakeSink) Write(ctx context.Context, entries []Chained) error {
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failures > 0 {
		f.failures--
		return errs.New(errs.Unavailable, "the disk is full")
	}
	for _, e := range entries {
		f.got = append(f.got, e.Seq)
	}
	return nil
}

func (f *fakeSink) seqs() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// heard is a Recorder that keeps.
type heard struct {
	mu     sync.Mutex
	events []Event
}

func (h *heard) Record(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// seqs gives all from one on to the last that the test chains.
func seqs(from int64) []int64 {
	var out []int64
	for s := from; s <= 520; s++ {
		out = append(out, s)
	}
	return out
}

func TestASinkGetsEveryEntryOnceAtItsOwnPace(t *testing.T) {
	cases := map[string]struct {
		sink   *fakeSink
		window int64
		want   []int64
		lost   string
	}{
		"from the window's beginning":  {sink: &fakeSink{}, window: 1000, want: seqs(1)},
		"from where it was":            {sink: &fakeSink{at: 200}, window: 1000, want: seqs(201)},
		"from now on":                  {sink: &fakeSink{at: -1}, window: 1000, want: seqs(501)},
		"slow":                         {sink: &fakeSink{slow: 20 * time.Second}, window: 1000, want: seqs(1)},
		"failing":                      {sink: &fakeSink{failures: 4}, window: 1000, want: seqs(1)},
		"new, behind a trimmed window": {sink: &fakeSink{}, window: 100, want: seqs(401)},
		"behind the window":            {sink: &fakeSink{at: 20}, window: 100, want: seqs(401), lost: "entries 21 to 400 left the window"},
		"ahead of the log":             {sink: &fakeSink{at: 9000}, window: 1000, want: seqs(501)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memstore.New()
				chainer := newChainer(t, s, func(cfg *ChainerConfig) { cfg.Window = c.window })
				n := 0
				chain := func(more int) {
					for range more {
						put(t, s, fmt.Sprint(n))
						n++
					}
					if err := chainer.Fold(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				for range 10 {
					chain(50)
				}
				var rec heard
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- Forward(ctx, ForwardConfig{Store: s, Name: "test", Sink: c.sink, Recorder: &rec, Logger: quiet()})
				}()
				synctest.Wait()
				chain(20) // nobody waits for the sink
				pass(5 * time.Minute)
				synctest.Wait()
				if diff := cmp.Diff(c.want, c.sink.seqs()); diff != "" {
					t.Error(diff)
				}
				told := len(rec.events) == 1 && rec.events[0].Type == Lost && strings.Contains(rec.events[0].Message, c.lost)
				if (c.lost != "") != told || len(rec.events) > 1 {
					t.Errorf("told %+v, want %q", rec.events, c.lost)
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
