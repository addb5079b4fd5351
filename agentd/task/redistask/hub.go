package redistask

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// position is a place in the stream of events: behind the entry with this number, in the stream of this epoch, and written by this call.
type position struct {
	epoch, n uint64
	call     string
}

func readPosition(id, call string) (position, error) {
	epoch, n, found := strings.Cut(id, "-")
	p := position{call: call}
	var err, also error
	p.epoch, err = strconv.ParseUint(epoch, 10, 64)
	p.n, also = strconv.ParseUint(n, 10, 64)
	if err = errors.Join(err, also); err != nil || !found {
		return position{}, fmt.Errorf("%q is no place in a stream", id)
	}
	return p, nil
}

func (p position) String() string {
	return strconv.FormatUint(p.epoch, 10) + "-" + strconv.FormatUint(p.n, 10)
}

// follows reports whether nothing lies between before and p.
func (p position) follows(before position) bool { return p.epoch == before.epoch && p.n == before.n+1 }

// node is one event in the list of a topic. What a node holds is written before ready is closed and never after.
type node struct {
	index int64
	next  *node
	event task.Event
	err   error         // instead of an event: the list ends
	ready chan struct{} // closed when next is there
}

// topic is what happens to one task, for those who watch it here.
type topic struct {
	users  int
	tail   *node
	newest atomic.Int64 // index of tail
	seq    int64        // of the newest event; 0: there was none yet
}

func newTopic() *topic { return &topic{tail: &node{ready: make(chan struct{})}} }

func (t *topic) add(n *node) {
	n.index, n.ready = t.tail.index+1, make(chan struct{})
	t.tail.next = n
	close(t.tail.ready)
	t.tail = n
	t.newest.Store(n.index)
}

// hub hands what the stream says to those who watch. Each reads a list at his own pace, so no reader delays another one or the stream.
type hub struct {
	lag int64

	mu     sync.Mutex // guards what follows, and every topic's fields but newest
	topics map[string]*topic
	at     position
	placed bool // at is known: the stream is being read from there
	gen    int  // counts how often the place was lost
	left   time.Time
	wake   chan struct{} // there is something to read
}

func newHub(lag int) *hub {
	return &hub{lag: int64(lag), topics: map[string]*topic{}, wake: make(chan struct{}, 1)}
}

// join begins to gather what happens to a task.
func (h *hub) join(name string) (t *topic, from *node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.topics[name]
	if t == nil {
		t = newTopic()
		h.topics[name] = t
	}
	t.users++
	return t, t.tail
}

// leave is called once for each join.
func (h *hub) leave(name string, t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.users--; t.users == 0 && h.topics[name] == t {
		delete(h.topics, name)
		h.left = time.Now()
	}
}

// place begins to read the stream at p, unless it is being read already.
func (h *hub) place(p position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.placed {
		h.at, h.placed = p, true
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// reading gives from where to read, and whether at all: nobody has watched for linger, nobody reads.
func (h *hub) reading(linger time.Duration) (at position, gen int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.placed && len(h.topics) == 0 && time.Since(h.left) > linger {
		h.placed = false
	}
	return h.at, h.gen, h.placed
}

// reads reports whether the stream is being read.
func (h *hub) reads() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.placed
}

// watched reports whether somebody watches a task.
func (h *hub) watched(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[name] != nil
}

// fail ends all feeds by an error. Whoever watches again finds a new place in the stream.
func (h *hub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failLocked(err)
}

// failIf is fail unless it happened since gen.
func (h *hub) failIf(gen int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gen == gen {
		h.failLocked(err)
	}
}

func (h *hub) failLocked(err error) {
	for name, t := range h.topics {
		t.add(&node{err: err})
		delete(h.topics, name)
	}
	h.placed = false
	h.gen++
}

// told is one entry of the stream.
type told struct {
	at    position
	name  string
	seq   int64 // 0: the task is no more
	event task.Event
	err   error // the event couldn't be read
}

// hear takes what was read from the stream behind a place. Where something is missing between, all feeds end: nobody misses a thing
// unawares.
func (h *hub) hear(gen int, list []told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range list {
		if h.gen != gen || !h.placed {
			return
		}
		if !list[i].at.follows(h.at) {
			h.failLocked(task.ErrLagged)
			return
		}
		h.at = list[i].at
		h.deliver(&list[i])
	}
}

func (h *hub) deliver(e *told) {
	t := h.topics[e.name]
	if t == nil {
		return
	}
	var end error
	switch {
	case e.seq == 0:
		end = errs.New(errs.NotFound, "the task is no more: nothing happened to it for too long")
	case e.err != nil:
		end = e.err
	case t.seq > 0 && e.seq != t.seq+1:
		end = task.ErrLagged
	}
	if end != nil {
		t.add(&node{err: end})
		delete(h.topics, e.name)
		return
	}
	t.seq = e.seq
	t.add(&node{event: e.event})
}

// feed is one reader's place in the list of a task.
type feed struct {
	hub   *hub
	name  string
	topic *topic
	leave func()

	mu    sync.Mutex // guards what follows; Close may come from elsewhere
	at    *node      // nil: closed
	seq   int64      // what the reader knows
	ended bool
}

// Next implements task.Feed.
func (f *feed) Next(ctx context.Context) (task.Event, error) {
	for {
		f.mu.Lock()
		at, ended := f.at, f.ended
		f.mu.Unlock()
		if at == nil || ended {
			return task.Event{}, task.ErrEnded
		}
		select {
		case <-at.ready:
		default:
			select {
			case <-at.ready:
			case <-ctx.Done():
				return task.Event{}, ctx.Err()
			}
		}
		if f.topic.newest.Load()-at.index > f.hub.lag {
			f.Close()
			return task.Event{}, task.ErrLagged
		}
		e, tell, err := f.step(at.next)
		if err != nil {
			f.Close()
			return task.Event{}, err
		}
		if tell {
			return e, nil
		}
	}
}

// step goes to the next node; tell says that it is news.
func (f *feed) step(n *node) (e task.Event, tell bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.at == nil:
		return task.Event{}, false, task.ErrEnded
	case n.err != nil:
		return task.Event{}, false, n.err
	case n.event.Seq > f.seq+1:
		return task.Event{}, false, task.ErrLagged
	}
	f.at = n
	if n.event.Seq <= f.seq {
		return task.Event{}, false, nil
	}
	f.seq = n.event.Seq
	f.ended = n.event.Status != nil && n.event.Status.State.Terminal()
	return n.event, n.event.Message == nil, nil
}

// Close implements task.Feed.
func (f *feed) Close() {
	f.mu.Lock()
	f.at = nil
	f.mu.Unlock()
	f.leave()
}
