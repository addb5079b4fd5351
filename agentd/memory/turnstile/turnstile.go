// Package turnstile lets the requests of one process into a session one at a time, in the order in which they came. The stores of memory
// use it; it knows nothing of other processes.
package turnstile

import (
	"context"
	"slices"
	"sync"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
)

// Turnstile holds a line per session in use. Its zero value is ready.
type Turnstile struct {
	mu    sync.Mutex // guards lines
	lines map[memory.Key]*line
}

// line is the waiting requests of a session whose turn somebody else has.
type line struct{ waiting []chan struct{} }

// Enter waits for k's turn. Full: errs.Exhausted beyond memory.MaxWaiting. An error of kind errs.Timeout or errs.Canceled: ctx ended first.
// leave may be called twice.
func (t *Turnstile) Enter(ctx context.Context, k memory.Key) (leave func(), err error) {
	t.mu.Lock()
	if t.lines == nil {
		t.lines = map[memory.Key]*line{}
	}
	l, busy := t.lines[k]
	if !busy {
		t.lines[k] = &line{}
		t.mu.Unlock()
		return sync.OnceFunc(func() { t.next(k) }), nil
	}
	if len(l.waiting) >= memory.MaxWaiting {
		t.mu.Unlock()
		return nil, errs.New(errs.Exhausted, "%d requests of the session are waiting already; try again when they are answered", memory.MaxWaiting)
	}
	mine := make(chan struct{})
	l.waiting = append(l.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return sync.OnceFunc(func() { t.next(k) }), nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(l.waiting, mine)
	if i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // the turn came at the same moment: it goes on to the next
		t.next(k)
	}
	return nil, errs.New(errs.Timeout, "another request of the session is still under way: %w", context.Cause(ctx))
}

// next gives the turn to who waits longest.
func (t *Turnstile) next(k memory.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[k]
	if len(l.waiting) == 0 {
		delete(t.lines, k)
		return
	}
	first := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	close(first)
}
