package run

import (
	"context"
	"sync"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
)

// Going is a suspended run that goes on after somebody's decision.
type Going struct {
	Run     pending.Run // without its Engine
	Request string      // the ID of the request that was suspended
	// Cancel ends the run, whoever decided.
	Cancel context.CancelCauseFunc
}

// Follower is told what becomes of a run that goes on. Its methods are called from the goroutine of Do, in order.
type Follower interface {
	Emit(d Delta)
	// Ended is called once; t.Pending is set where the run waits again.
	Ended(t *Turn, res engine.Result, err error)
}

// followers are what doors want to know of the runs that they began.
type followers struct {
	mu sync.Mutex // guards of
	of map[Door]func(Going) Follower
}

// Follow has f asked whenever a run that was begun through door, and waited for approval, goes on in this process: at whichever door it was
// decided, before anything is done. f may give nil: nobody follows. It is asked from Do.
func (r *Runner) Follow(door Door, f func(Going) Follower) {
	r.followers.mu.Lock()
	defer r.followers.mu.Unlock()
	if r.followers.of == nil {
		r.followers.of = map[Door]func(Going) Follower{}
	}
	r.followers.of[door] = f
}

// followed finds who follows the Turn.
func (t *Turn) followed(cancel context.CancelCauseFunc) Follower {
	if t.detached == nil || t.taken.ID == "" {
		return nil
	}
	r := t.runner
	r.followers.mu.Lock()
	f := r.followers.of[t.req.Door]
	r.followers.mu.Unlock()
	if f == nil {
		return nil
	}
	w := t.taken
	w.Engine = nil
	return f(Going{Run: w, Request: t.id(), Cancel: cancel})
}

// both lets a follower have what the caller of Do gets, who may leave.
func both(f Follower, emit func(Delta) error) func(Delta) error {
	return func(d Delta) error {
		f.Emit(d)
		if emit != nil && emit(d) != nil {
			emit = nil
		}
		return nil
	}
}
