package a2adoor

import (
	"context"
	"errors"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/errs"
)

// leaveAfter is how long a store that the config doesn't name any more stays open for requests that began with it. None but streams and
// executions, which are counted, takes as long.
const leaveAfter = time.Minute

// holder is a store that is closed by the last of those who hold it. ok is false where it's closed already.
type holder interface {
	Hold() (release func(), ok bool)
}

// place is a store of tasks, and what this process has to do with it.
type place struct {
	store  task.Store
	shared task.Shared // nil: the store is this process's own
	self   string      // the Keeper of the tasks that this process looks after there
	stop   func()      // ends what looks after the place, and lets go of the store

	uses int       // executions and streams; Door.mu guards it
	left time.Time // since when the config names another one; Door.mu guards it
}

// place gives where the config of now keeps tasks.
func (d *Door) place() (*place, error) {
	store, release, err := d.cfg.Runner.Tasks()
	if err != nil {
		return nil, a2a.Fail(a2a.Unavailable, err.Error())
	}
	defer release()
	if store == nil {
		store = d.own.store
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current.store == store {
		return d.current, nil
	}
	next := d.own
	if store != d.own.store {
		if next, err = d.occupyLocked(store); err != nil {
			return nil, err
		}
	}
	d.current.left, next.left = d.cfg.Now(), time.Time{}
	d.current = next
	return next, nil
}

// occupyLocked begins to look after a store.
func (d *Door) occupyLocked(store task.Store) (*place, error) {
	for _, p := range d.places {
		if p.store == store {
			return p, nil
		}
	}
	if d.closed {
		return nil, a2a.Fail(a2a.Unavailable, errClosing.Error())
	}
	p := &place{store: store}
	release := func() {}
	if h, ok := store.(holder); ok {
		if release, ok = h.Hold(); !ok {
			return nil, a2a.Fail(a2a.Unavailable, "the agent's config changes just now; try again")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = func() { cancel(); release() }
	if shared, ok := store.(task.Shared); ok {
		p.shared, p.self = shared, shared.Self()
		d.care.Go(func() { d.hear(ctx, p) })
	}
	d.places = append(d.places, p)
	return p, nil
}

// use counts somebody in who needs the place for longer than a moment.
func (d *Door) use(p *place) (leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p.uses++
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		p.uses--
	}
}

// vacate lets go of places that nobody needs any more. What waits there is for others to look after.
func (d *Door) vacate() {
	var over []*place
	d.mu.Lock()
	kept := d.places[:0]
	for _, p := range d.places {
		if p == d.current || p.uses > 0 || d.cfg.Now().Sub(p.left) < leaveAfter {
			kept = append(kept, p)
			continue
		}
		over = append(over, p)
		for ref, w := range d.waiting {
			if w.place == p {
				delete(d.waiting, ref)
			}
		}
	}
	clear(d.places[len(kept):])
	d.places = kept
	d.mu.Unlock()
	for _, p := range over {
		p.stop()
	}
}

// find gives a task and where it is: in the caller's place, or in the process's own, where tasks of a config before may be.
func (d *Door) find(ctx context.Context, c call, id string) (*place, task.Record, error) {
	ref := task.Ref{Owner: c.owner, ID: id}
	rec, err := c.place.store.Get(ctx, ref)
	if err == nil || c.place == d.own || !errs.Is(err, errs.NotFound) {
		return c.place, rec, missing(err, id)
	}
	rec, err = d.own.store.Get(ctx, ref)
	return d.own, rec, missing(err, id)
}

// change alters a task of the caller's, wherever it is.
func (d *Door) change(ctx context.Context, c call, id string, f func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	ref := task.Ref{Owner: c.owner, ID: id}
	rec, err := c.place.store.Update(ctx, ref, f)
	if err == nil || c.place == d.own || !errs.Is(err, errs.NotFound) {
		return rec, missing(err, id)
	}
	rec, err = d.own.store.Update(ctx, ref, f)
	return rec, missing(err, id)
}

// watch gives a task of the caller's and what follows.
func (d *Door) watch(ctx context.Context, c call, id string) (*place, task.Record, task.Feed, error) {
	ref := task.Ref{Owner: c.owner, ID: id}
	rec, feed, err := c.place.store.Watch(ctx, ref)
	if err == nil || c.place == d.own || !errs.Is(err, errs.NotFound) {
		return c.place, rec, feed, missing(err, id)
	}
	rec, feed, err = d.own.store.Watch(ctx, ref)
	return d.own, rec, feed, missing(err, id)
}

// missing says that a task isn't there the way callers are told.
func missing(err error, id string) error {
	var told *a2a.Error
	if errs.Is(err, errs.NotFound) && !errors.As(err, &told) {
		return notFound(id)
	}
	return err
}

// update changes a task even where the caller has left.
func (p *place) update(ref task.Ref, change func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return p.store.Update(ctx, ref, change)
}
