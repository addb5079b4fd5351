package audit

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Bounds of what one transaction writes, of the queue as of the chainer.
const (
	batchEntries = 100
	batchBytes   = 512 << 10
)

// Times of the queue's writer.
const (
	gather    = 100 * time.Millisecond // so long more events are waited for
	writeWait = 5 * time.Second
	retryMin  = time.Second
	retryMax  = 30 * time.Second
)

// QueueConfig is what NewQueue needs. Store and Logger are required.
type QueueConfig struct {
	Store  store.Store
	Origin Origin
	Logger *slog.Logger
	Size   int           // events that wait at most, default 4096
	Span   time.Duration // in which repeats count as one, default 10 s
}

// Queue takes events from callers that mustn't wait and writes their entries. It is safe for concurrent use.
type Queue struct {
	cfg   QueueConfig
	ready chan struct{}      // one token while something waits
	asked chan chan struct{} // who waits for all of it to be written

	mu      sync.Mutex // guards what follows
	waiting []Event
	lost    int64 // events that didn't fit, not told yet
	dropped int64 // all of them
}

// NewQueue makes a Queue. Run writes what it takes.
func NewQueue(cfg QueueConfig) (*Queue, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "audit: the queue needs store and logger")
	}
	cfg.Size = cmp.Or(cfg.Size, 4096)
	cfg.Span = cmp.Or(cfg.Span, 10*time.Second)
	return &Queue{cfg: cfg, ready: make(chan struct{}, 1), asked: make(chan chan struct{})}, nil
}

// Record takes an event. Where the queue is full it only counts it.
func (q *Queue) Record(e Event) {
	if e.Time.IsZero() {
		e.Time = q.now()
	}
	q.mu.Lock()
	if len(q.waiting) >= q.cfg.Size {
		q.lost++
		q.dropped++
	} else {
		q.waiting = append(q.waiting, e)
	}
	q.mu.Unlock()
	poke(q.ready)
}

// Flush returns when everything that was recorded before has its entry, or is counted as a repeat. Run must run.
func (q *Queue) Flush(ctx context.Context) error {
	written := make(chan struct{})
	select {
	case q.asked <- written:
	case <-ctx.Done():
		return errs.New(errs.Timeout, "write audit entries: %w", ctx.Err())
	}
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Timeout, "write audit entries: %w", ctx.Err())
	}
}

// Dropped counts the events that didn't fit since the start.
func (q *Queue) Dropped() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Run writes entries until ctx ends, and then what still waits.
func (q *Queue) Run(ctx context.Context) error {
	w := &queueWriter{queue: q, repeats: coalescer{span: q.cfg.Span, windows: map[sameness]*window{}}}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		wait := time.Hour
		if at, ok := w.repeats.next(); ok {
			wait = max(at.Sub(q.now()), 0)
		}
		timer.Reset(wait)
		var asked chan struct{}
		select {
		case <-ctx.Done():
			continue
		case <-timer.C:
		case asked = <-q.asked:
		case <-q.ready:
			timer.Reset(gather)
			select {
			case <-ctx.Done():
			case <-timer.C:
			case asked = <-q.asked:
			}
		}
		w.collect(q.now())
		for wait := retryMin; ctx.Err() == nil && !w.write(ctx); wait = min(2*wait, retryMax) {
			pause(ctx, timer, wait)
		}
		if asked != nil && len(w.out) == 0 {
			close(asked)
		}
	}
	w.collect(q.now())
	w.finish()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeWait)
	defer cancel()
	w.write(last)
	return nil
}

func (q *Queue) now() time.Time { return q.cfg.Origin.now() }

// queueWriter is Run's own.
type queueWriter struct {
	queue   *Queue
	repeats coalescer
	out     []store.KV // what is to be written
}

// collect makes entries of what waits, and of repeats whose time is over.
func (w *queueWriter) collect(now time.Time) {
	q := w.queue
	q.mu.Lock()
	events, lost := q.waiting, q.lost
	q.waiting, q.lost = nil, 0
	q.mu.Unlock()
	add := func(e Entry) { w.out = append(w.out, q.cfg.Origin.pending(e)) }
	for _, e := range w.repeats.due(now) {
		add(e)
	}
	for _, event := range events {
		if e, told := w.repeats.add(event, now); told {
			add(e)
		}
	}
	if lost > 0 {
		add(Entry{Type: Lost, Actor: systemActor, Outcome: "lost", Message: fmt.Sprintf("%d events lost: more came than could be written", lost)})
	}
}

// finish makes entries of the repeats whose time isn't over.
func (w *queueWriter) finish() {
	for _, e := range w.repeats.due(w.queue.now().Add(2 * w.queue.cfg.Span)) {
		w.out = append(w.out, w.queue.cfg.Origin.pending(e))
	}
}

// write stores what collect made, and says whether all of it is stored.
func (w *queueWriter) write(ctx context.Context) bool {
	for len(w.out) > 0 {
		n := size(w.out)
		bounded, cancel := context.WithTimeout(ctx, writeWait)
		_, err := w.queue.cfg.Store.Commit(bounded, store.Txn{Puts: w.out[:n]})
		cancel()
		if err != nil {
			w.queue.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "audit entries not written", slog.Int("entries", len(w.out)), slog.Any("error", err))
			return false
		}
		w.out = w.out[n:]
	}
	w.out = nil
	return true
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, t *time.Timer, d time.Duration) {
	t.Reset(d)
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

var _ Recorder = (*Queue)(nil)
