package intask

import (
	"context"
	"sync"

	"github.com/agentry/agentry/agentd/task"
)

// node is one event in the list of a task. What a node holds is written before ready is closed and never after.
type node struct {
	index int64
	event task.Event
	next  *node
	ready chan struct{} // closed when next is there
}

func newNode() *node { return &node{ready: make(chan struct{})} }

// follow hangs an event behind n and gives its node.
func (n *node) follow(e task.Event) *node {
	n.next = &node{index: n.index + 1, event: e, ready: make(chan struct{})}
	close(n.ready)
	return n.next
}

// feed is one reader's place in the list. What lies behind all readers is nobody's, and goes.
type feed struct {
	mu     sync.Mutex // guards at and ended; Close may come from elsewhere
	at     *node      // nil: closed
	ended  bool
	lag    int64
	newest func() int64
}

// Next implements task.Feed.
func (f *feed) Next(ctx context.Context) (task.Event, error) {
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
	if f.newest()-at.index > f.lag {
		f.Close()
		return task.Event{}, task.ErrLagged
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil {
		return task.Event{}, task.ErrEnded
	}
	f.at = at.next
	f.ended = at.next.event.Status != nil && at.next.event.Status.State.Terminal()
	return at.next.event, nil
}

// Close implements task.Feed.
func (f *feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = nil
}
