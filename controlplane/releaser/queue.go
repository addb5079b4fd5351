package releaser

import (
	"container/heap"
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
	times  times // of the items that neither wait nor are at work
}

// item is one agent that waits, rests or is at work.
type item struct {
	queued bool      // in order
	busy   bool      // with a worker
	again  bool      // changed while busy or resting
	rest   time.Time // not to be taken before
	due    time.Time // to be taken then at the latest; zero: when something changes

	key   view.AgentKey
	at    time.Time // when there is something to do about it
	place int       // in times; -1: not there
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
	q.want(q.item(k), now)
}

// want queues an agent, now or when it has rested.
func (q *queue) want(it *item, now time.Time) {
	if it.busy || now.Before(it.rest) {
		it.again = true
		q.plan(it)
		return
	}
	q.enqueue(it.key, it)
}

func (q *queue) item(k view.AgentKey) *item {
	it := q.agents[k]
	if it == nil {
		it = &item{key: k, place: -1}
		q.agents[k] = it
	}
	return it
}

// A crowd is so many agents that change together: a shared head moved, or their instances answer. They are looked at a moment later,
// when more of the answers are there, and not in the way of what is sent to them.
const (
	crowd        = 32
	crowdRest    = 200 * time.Millisecond
	restPerAgent = 100 * time.Microsecond // and so much more for each of them: it takes longer until they have answered
	crowdRestMax = time.Second
)

// addAll asks for a look at each of the agents that changed together.
func (q *queue) addAll(keys []view.AgentKey, now time.Time) {
	rest := min(crowdRest+time.Duration(len(keys))*restPerAgent, crowdRestMax)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, k := range keys {
		it := q.item(k)
		if len(keys) >= crowd && !it.queued && !it.busy && !now.Before(it.rest) {
			it.rest = now.Add(rest)
		}
		q.want(it, now)
	}
}

func (q *queue) enqueue(k view.AgentKey, it *item) {
	if it.queued {
		return
	}
	it.queued, it.again = true, false
	q.plan(it)
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
		q.plan(it)
	}
}

// release queues what is due and gives the next due time. It costs what is due.
func (q *queue) release(now time.Time) (next time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.times) > 0 {
		it := q.times[0]
		switch {
		case now.Before(it.at):
			return it.at, true
		case it.again || !it.due.IsZero():
			q.enqueue(it.key, it)
		default: // it only rested
			heap.Pop(&q.times)
			delete(q.agents, it.key)
		}
	}
	return time.Time{}, false
}

// plan brings an item to its place among the times.
func (q *queue) plan(it *item) {
	switch {
	case it.queued || it.busy:
		if it.place >= 0 {
			heap.Remove(&q.times, it.place)
		}
		return
	case it.again || it.due.Before(it.rest): // also without a due time: to forget it then
		it.at = it.rest
	default:
		it.at = it.due
	}
	if it.place < 0 {
		heap.Push(&q.times, it)
	} else {
		heap.Fix(&q.times, it.place)
	}
	if it.place == 0 {
		signal(q.rescheduled)
	}
}

// times is a heap by at.
type times []*item

var _ heap.Interface = (*times)(nil)

// Len is how many there are.
func (t times) Len() int { return len(t) }

// Less orders by time.
func (t times) Less(i, j int) bool { return t[i].at.Before(t[j].at) }

// Swap swaps two.
func (t times) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

// Push adds one; heap calls it.
func (t *times) Push(x any) {
	it, ok := x.(*item)
	if !ok {
		return
	}
	it.place = len(*t)
	*t = append(*t, it)
}

// Pop takes the last; heap calls it.
func (t *times) Pop() any {
	old := *t
	it := old[len(old)-1]
	old[len(old)-1] = nil
	*t, it.place = old[:len(old)-1], -1
	return it
}
