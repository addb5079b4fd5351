package a2adoor

import (
	"context"
	"log/slog"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// How tasks are looked for that nobody works on.
const (
	maxInherit = 100 // tasks of the dead at a time
	sweepEvery = 6   // looks of Run
	hearAgain  = time.Second
)

// errOver says that a task needs nothing any more.
var errOver = errs.New(errs.Precondition, "the task is somebody else's, or over")

// lister gives the open tasks whose Keeper this process is.
type lister interface {
	Kept(ctx context.Context, after string, limit int) (list []task.Record, next string, err error)
}

// hear ends the work on tasks of this process that another one ended.
func (d *Door) hear(ctx context.Context, p *place) {
	for {
		ref, err := p.shared.Ended(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			timer := time.NewTimer(hearAgain)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
		default:
			d.stop(ref, errCanceled)
			d.mu.Lock()
			w, waited := d.waiting[ref]
			delete(d.waiting, ref)
			d.mu.Unlock()
			if waited {
				d.abandon(ref.Owner.Principal, w.run)
			}
		}
	}
}

// inherit looks after the tasks of processes that died: those that were worked on fail, those that wait go on to wait here.
func (d *Door) inherit(ctx context.Context) {
	p := d.dwelling()
	if p == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	orphans, err := p.shared.Orphans(ctx, maxInherit)
	if err != nil {
		return // the store is gone: later
	}
	for _, rec := range orphans {
		d.takeOver(p, rec, "the instance that worked on the task ended before it did")
	}
}

// dwelling gives the shared store that the config names, or the one before where nothing is served; nil: there is none.
func (d *Door) dwelling() *place {
	p, err := d.place()
	if err != nil {
		d.mu.Lock()
		p = d.current
		d.mu.Unlock()
	}
	if p.shared == nil {
		return nil
	}
	return p
}

// takeOver makes a task this process's, or ends it with the reason why where nothing can come of it any more. Of many that try one does it.
func (d *Door) takeOver(p *place, seen task.Record, why string) {
	var events []task.Event
	rec, err := p.update(seen.Ref(), func(r *task.Record) ([]task.Event, error) {
		events = nil
		if r.Keeper != seen.Keeper || r.Task.Status.State.Terminal() {
			return nil, errOver
		}
		if r.Keeper = p.self; r.Pending == "" {
			events = []task.Event{{Status: d.status(task.Failed, text(why))}}
		}
		return events, nil
	})
	if err != nil {
		return // somebody else's, or over, or the store is gone: then it's seen again
	}
	d.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "a task of another instance was taken over", slog.String("task", rec.Task.ID), slog.String("state", string(rec.Task.Status.State)))
	d.push.changed(rec, events)
	d.await(p, rec)
}

// sweep looks for tasks of this process that it doesn't work on: their end couldn't be written as the store was gone. They fail, so that none
// works for ever. Each time it looks at some of them, and goes on with the others the next time.
func (d *Door) sweep(ctx context.Context) {
	p := d.dwelling()
	if p == nil {
		return
	}
	kept, ok := p.store.(lister)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	d.mu.Lock()
	if d.swept.place != p {
		d.swept = round{place: p, loose: map[task.Ref]time.Time{}}
	}
	at := d.swept
	d.mu.Unlock()
	open, next, err := kept.Kept(ctx, at.next, d.cfg.patience.sweep)
	if err != nil {
		return
	}
	now, loose := time.Now(), at.loose
	for _, rec := range open {
		ref := rec.Ref()
		d.mu.Lock()
		_, waits := d.waiting[ref]
		since := d.loose[ref]
		busy := d.running[ref] != nil
		d.mu.Unlock()
		switch {
		case busy || waits:
		case rec.Pending != "":
			d.await(p, rec)
		case since.IsZero():
			loose[ref] = now
		case now.Sub(since) < d.cfg.patience.loose:
			loose[ref] = since
		default:
			d.takeOver(p, rec, "the agent lost the task: what came of it could not be written down")
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.next, at.loose = next, loose; next == "" { // all were seen: what isn't loose any more is forgotten
		at.loose, d.loose = map[task.Ref]time.Time{}, loose
	}
	d.swept = at
}

// round is a look at all tasks that this process keeps, page by page.
type round struct {
	place *place
	next  string                 // where it goes on
	loose map[task.Ref]time.Time // what it saw, for the round that follows
}
