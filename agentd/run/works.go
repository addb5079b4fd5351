package run

import (
	"context"
	"sync"

	"github.com/agentry/agentry/internal/errs"
)

// works owns what goes on when nobody at a door waits any more: decided runs and compactions.
type works struct {
	mu      sync.Mutex // guards what follows but wg, which may be added to only under it
	closed  bool
	cancels map[int]context.CancelFunc
	next    int
	wg      sync.WaitGroup
}

// begin gives ctx without its end but with that of Close; done must be called once. false: closed.
func (w *works) begin(ctx context.Context) (_ context.Context, done func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n := w.next
	w.next++
	w.cancels[n] = cancel
	w.wg.Add(1)
	return ctx, func() {
		cancel()
		w.mu.Lock()
		delete(w.cancels, n)
		w.mu.Unlock()
		w.wg.Done()
	}, true
}

// Close refuses new background work and decisions and waits for what is under way; when ctx ends that is cancelled, and waited for. Close
// the doors first. It may be called twice.
func (r *Runner) Close(ctx context.Context) error {
	r.works.mu.Lock()
	r.works.closed = true
	r.works.mu.Unlock()
	idle := make(chan struct{})
	go func() {
		r.works.wg.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
	}
	r.works.mu.Lock()
	for _, cancel := range r.works.cancels {
		cancel()
	}
	r.works.mu.Unlock()
	<-idle
	return errs.New(errs.Timeout, "run: background work was cancelled: %w", context.Cause(ctx))
}
