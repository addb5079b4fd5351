package mcpdoor

import (
	"context"
	"sync"
	"sync/atomic"
)

// maxEnded bounds how many ended sessions are known as such; an older one is taken for alive.
const maxEnded = 1024

// callKey names a call under way: its caller, the session of the protocol, and the request's id as it was written.
type callKey struct{ principal, session, id string }

// calls are those under way in sessions of the protocol, and the sessions that were ended.
type calls struct {
	mu      sync.Mutex // guards all below
	running map[callKey]*underway
	gone    map[string]bool
	order   []string // of gone, oldest first
}

func newCalls() *calls {
	return &calls{running: map[callKey]*underway{}, gone: map[string]bool{}}
}

// underway is one call.
type underway struct {
	cancel context.CancelFunc
	gone   atomic.Bool // it was cancelled by name: nobody waits for its answer
}

func (u *underway) end() {
	u.gone.Store(true)
	u.cancel()
}

// begin notes a call and gives its context; done must be called at its end. A call outside a session can't be cancelled by name.
func (c *calls) begin(ctx context.Context, k callKey) (own context.Context, slot *underway, done func()) {
	own, cancel := context.WithCancel(ctx)
	slot = &underway{cancel: cancel}
	if k.session == "" {
		return own, slot, cancel
	}
	c.mu.Lock()
	c.running[k] = slot
	c.mu.Unlock()
	return own, slot, func() {
		cancel()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.running[k] == slot { // a client may have used the id again
			delete(c.running, k)
		}
	}
}

// cancel ends a call; one that isn't there is over.
func (c *calls) cancel(k callKey) {
	c.mu.Lock()
	slot := c.running[k]
	c.mu.Unlock()
	if slot != nil {
		slot.end()
	}
}

// end ends a session with its calls.
func (c *calls) end(principal, session string) {
	c.mu.Lock()
	var slots []*underway
	for k, slot := range c.running {
		if k.session == session && k.principal == principal {
			slots = append(slots, slot)
		}
	}
	if !c.gone[session] {
		c.gone[session] = true
		c.order = append(c.order, session)
	}
	if len(c.order) > maxEnded {
		delete(c.gone, c.order[0])
		c.order = c.order[1:]
	}
	c.mu.Unlock()
	for _, slot := range slots {
		slot.end()
	}
}

// ended reports whether a session was ended here.
func (c *calls) ended(session string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone[session]
}
