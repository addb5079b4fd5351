package a2adoor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
)

// errElse says that a run's task is not this door's to tell of.
var errElse = errors.New("nobody waits for the run")

// follow makes a run that goes on, decided at another door of this instance, the execution of its task: what it makes is told, canceling the
// task ends it, and this instance is the task's keeper. nil: there is no such task, or it is the door itself that goes on with it. It never panics.
func (d *Door) follow(g run.Going) (f run.Follower) {
	defer func() {
		if p := recover(); p != nil {
			d.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "panic before a task was followed", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			f = nil
		}
	}()
	ref, ok := taskOf(g)
	if !ok {
		return nil
	}
	d.mu.Lock()
	mine := d.running[ref]
	d.mu.Unlock()
	if mine != nil {
		mine.alsoStop(g.Cancel)
		return nil
	}
	at, err := d.place()
	if err != nil {
		return nil
	}
	for _, p := range []*place{at, d.own} {
		x, err := d.join(p, ref, g)
		switch {
		case err == nil:
			return x
		case errors.Is(err, errOver): // it was canceled as it was decided about
			g.Cancel(errCanceled)
			return nil
		case errors.Is(err, errElse):
			return nil
		}
	}
	return nil
}

// taskOf finds the task of a run by the request that was suspended (requestID).
func taskOf(g run.Going) (task.Ref, bool) {
	id, rest, ok := strings.Cut(g.Request, "/")
	turn, tenant, _ := strings.Cut(rest, "/")
	if _, err := strconv.Atoi(turn); !ok || err != nil {
		return task.Ref{}, false
	}
	return task.Ref{ID: id, Owner: task.Owner{Namespace: g.Run.Namespace, Agent: g.Run.Agent, Principal: g.Run.Principal, Tenant: tenant}}, true
}

// join claims a task that waits for a run, and begins to tell of it.
// A task that was canceled between the claim and this process's knowing of its run is noticed.
func (d *Door) join(p *place, ref task.Ref, g run.Going) (follower *following, failed error) {
	var events []task.Event
	var before task.Record
	claimed, err := p.update(ref, func(r *task.Record) ([]task.Event, error) {
		before, events = *r, nil
		switch {
		case r.Task.Status.State.Terminal():
			return nil, errOver
		case r.Pending != g.Run.ID:
			return nil, errElse
		}
		r.Pending, r.Approval, r.Keeper = "", false, p.self
		if r.Task.Status.State != task.Working {
			events = []task.Event{{Status: d.status(task.Working, nil)}}
		}
		return events, nil
	})
	if err != nil {
		return nil, err
	}
	x := &execution{
		door: d, place: p, leave: d.use(p), ref: ref, begin: before, turn: claimed.Turns, committed: true, started: true, seq: claimed.Seq, first: claimed,
		settled: make(chan struct{}), done: make(chan struct{}),
	}
	x.told(claimed)
	close(x.settled)
	ctx, cancel := context.WithCancelCause(context.Background())
	x.cancel = func(why error) { cancel(why); g.Cancel(why) }
	f := &following{execution: x, ctx: ctx, left: func() {}}
	d.mu.Lock()
	d.running[ref] = x
	if d.closed {
		x.stop(errClosing)
	} else {
		d.work.Add(1)
		f.left = d.work.Done
	}
	d.mu.Unlock()
	defer func() { // from here on somebody has to end the task
		if p := recover(); p != nil {
			f.panicked(p)
			f.close()
			follower, failed = nil, errElse
		}
	}()
	d.forget(ref)
	d.push.changed(claimed, events)
	if errors.Is(x.still(ctx), errEnded) { // it was canceled meanwhile, and nobody told this process
		x.stop(errCanceled)
	}
	return f, nil
}

// told notes what of the answer the task has already.
func (x *execution) told(rec task.Record) {
	for _, a := range rec.Task.Artifacts {
		switch {
		case a.ID == answerID(x.turn):
			x.sent = true
		case strings.HasPrefix(a.ID, fmt.Sprintf("artifact-%d-", x.turn)):
			x.attached++
		}
	}
}

// following is an execution whose run somebody else drives.
type following struct {
	*execution

	ctx  context.Context //nolint:containedctx // of the execution, to know why it ended
	left func()          // Close doesn't wait any more
}

// Emit implements run.Follower.
func (f *following) Emit(d run.Delta) { _ = f.emit(d) }

// Ended implements run.Follower.
func (f *following) Ended(t *run.Turn, res engine.Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			f.panicked(p)
		}
		f.close()
	}()
	f.conclude(f.ctx, t, res, err)
}

// close lets go of the execution.
func (f *following) close() {
	defer f.left()
	f.cancel(nil)
	f.end()
}
