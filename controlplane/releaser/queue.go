package releaser

import (
	"context"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/view"
)

// queue is the agents to look at. It is a set, so it is bounded by the number of agents: adding one that waits merges.
// One agent is never with two workers.
type queue struct {
	ready       chan struct{} // one token while something may be there to take
	rescheduled chan struct{} // one token when the earliest due time may have changed

	mu     sync.Mutex // guards what follows
	order  []view.AgentKey
	agents map[view.AgentKey]*item
}

// item is one agent that waits, rests or is at work.
type item struct {
	queued bool      // in order
	busy   bool      // with a worker
	again  bool      // changed while busy or resting
	rest   time.Time // not to be taken before
	due    time.Time // to be taken then at the latest; zero: when something changes
}

// outcome is what a worker asks for after a look.
type outcome struct {
	rest time.Duration // no look before that
	due  time.Time     // a look then at the latest; zero: none
}

func newQueue() *queue {
	return &queue{ready: make(chan struct{}, 1), rescheduled: make(chan struct{}, 1), agents: map[view.AgentKey]*item{}}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // a token is there already
	}
}

// add asks for a look at an agent.
func (q *queue) add(k view.AgentKey, now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.agents[k]
	if it == nil {
		it = &item{}
		q.agents[k] = it
	}
	if it.busy || now.Before(it.rest) {
		it.again = true
		signal(q.rescheduled)
		return
	}
	q.enqueue(k, it)
}

// A crowd is so many agents that change together: a shared head moved, or their instances answer. They are looked at a moment later,
// when more of the answers are there, and not in the way of what is sent to them.
const (
	crowd     = 32
	crowdRest = 200 * time.Millisecond
)

// addAll asks for a look at each of the agents that changed together.
func (q *queue) addAll(keys []view.AgentKey, now time.Time) {
	if len(keys) >= crowd {
		q.mu.Lock()
		for _, k := range keys {
			it := q.agents[k]
			if it == nil {
				it = &item{}
				q.agents[k] = it
			}
			if !it.queued && !it.busy && !now.Before(it.rest) {
				it.rest = now.Add(crowdRest)
			}
		}
		q.mu.Unlock()
	}
	for _, k := range keys {
		q.add(k, now)
	}
}

func (q *queue) enqueue(k view.AgentKey, it *item) {
	if it.queued {
		return
	}
	it.queued, it.again = true, false
	q.order = append(q.order, k)
	signal(q.ready)
}

// take gives the next agent; false when ctx ended. Every take is followed by done.
func (q *queue) take(ctx context.Context) (view.AgentKey, bool) {
	for {
		if ctx.Err() != nil {
			return view.AgentKey{}, false
		}
		if k, ok := q.pop(); ok {
			return k, true
		}
		select {
		case <-ctx.Done():
		case <-q.ready:
		}
	}
}

func (q *queue) pop() (view.AgentKey, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.order) == 0 {
		return view.AgentKey{}, false
	}
	k := q.order[0]
	q.order = q.order[1:]
	if len(q.order) > 0 {
		signal(q.ready)
	}
	it := q.agents[k]
	it.queued, it.busy, it.due = false, true, time.Time{}
	return k, true
}

// done gives an agent back with what it asks for.
func (q *queue) done(k view.AgentKey, o outcome) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.agents[k]
	it.busy, it.rest, it.due = false, now.Add(o.rest), o.due
	switch {
	case it.again && o.rest <= 0:
		q.enqueue(k, it)
	case !it.again && it.due.IsZero() && o.rest <= 0:
		delete(q.agents, k)
	default:
		signal(q.rescheduled)
	}
}

// release queues what is due and gives the next due time.
func (q *queue) release(now time.Time) (next time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for k, it := range q.agents {
		if it.queued || it.busy {
			continue
		}
		at := it.due
		if it.again {
			at = it.rest
		} else if !at.IsZero() && at.Before(it.rest) {
			at = it.rest
		}
		switch {
		case at.IsZero() && now.Before(it.rest):
			at = it.rest // only to forget it then
		case at.IsZero():
			delete(q.agents, k)
			continue
		case !now.Before(at):
			q.enqueue(k, it)
			continue
		}
		if !ok || at.Before(next) {
			next, ok = at, true
		}
	}
	return next, ok
}
