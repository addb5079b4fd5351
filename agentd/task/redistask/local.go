package redistask

import (
	"context"
	"sync"

	"github.com/agentry/agentry/internal/errs"
)

// locks let the writers of one task in this process follow each other, so that they needn't begin anew because of each other. The zero value
// is ready.
type locks struct {
	mu    sync.Mutex // guards items
	items map[string]*lock
}

type lock struct {
	held  chan struct{} // full: somebody is in
	users int
}

// take waits for a task's turn; its errors are ctx's.
func (l *locks) take(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.items == nil {
		l.items = map[string]*lock{}
	}
	it := l.items[name]
	if it == nil {
		it = &lock{held: make(chan struct{}, 1)}
		l.items[name] = it
	}
	it.users++
	l.mu.Unlock()
	select {
	case it.held <- struct{}{}:
		return func() {
			<-it.held
			l.leave(name, it)
		}, nil
	case <-ctx.Done():
		l.leave(name, it)
		return nil, errs.New(errs.KindOf(ctx.Err()), "wait for a task: %w", context.Cause(ctx))
	}
}

func (l *locks) leave(name string, it *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if it.users--; it.users == 0 {
		delete(l.items, name)
	}
}

// maxCached is how many bytes of records this process remembers, about; others are read before they are changed.
const maxCached = 64 << 20

// cache remembers the records that this process keeps, as it wrote them last. The zero value is ready.
type cache struct {
	mu    sync.Mutex // guards what follows
	items map[string]held
	bytes int
}

func (c *cache) get(name string) (held, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h, ok := c.items[name]
	return h, ok
}

// put remembers; what doesn't fit drives out others, whichever.
func (c *cache) put(name string, h held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = map[string]held{}
	}
	c.remove(name)
	c.items[name] = h
	c.bytes += h.rec.Task.Size()
	for other := range c.items {
		if c.bytes <= maxCached {
			return
		}
		c.remove(other)
	}
}

func (c *cache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remove(name)
}

func (c *cache) remove(name string) {
	if h, ok := c.items[name]; ok {
		c.bytes -= h.rec.Task.Size()
		delete(c.items, name)
	}
}
