package audit

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// attended is how long a pending entry waits while somebody follows the log.
const attended = 200 * time.Millisecond

// ChainerConfig is what NewChainer needs. Store and Logger are required.
type ChainerConfig struct {
	Store  store.Store
	Origin Origin
	Logger *slog.Logger
	// Quiet is how long no further entry must have come before the pending ones are chained, default 2 s: chaining is a write, and
	// while a change is on its way to thousands of instances the store is left alone. Longest bounds the wait, default 30 s.
	// Somebody who reads or follows the log doesn't wait for it.
	Quiet, Longest time.Duration
	// Busy says that a change is on its way to instances, so that chaining waits on, up to Longest; nil: never. It is asked rarely.
	Busy func() bool
	// Window is how many entries the store keeps, default 10,000, and WindowBytes how large they may be, default 64 MiB. Older ones
	// are in the sinks only.
	Window      int64
	WindowBytes int64
}

// Chainer gives pending entries their place in the chain. Every replica runs one; a compare-and-swap of the head decides between
// them. All methods are safe for concurrent use.
type Chainer struct {
	cfg  ChainerConfig
	news chan struct{} // one token while when changed
	turn chan struct{} // held by the one Fold of this process

	mu       sync.Mutex // guards what follows
	when     waits
	watchers int
}

// waits says since when entries wait; the zero value: none does.
type waits struct{ first, last time.Time }

// NewChainer makes a Chainer.
func NewChainer(cfg ChainerConfig) (*Chainer, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "audit: the chainer needs store and logger")
	}
	cfg.Quiet = cmp.Or(cfg.Quiet, 2*time.Second)
	cfg.Longest = cmp.Or(cfg.Longest, 30*time.Second)
	cfg.Window = cmp.Or(cfg.Window, 10_000)
	cfg.WindowBytes = cmp.Or(cfg.WindowBytes, 64<<20)
	return &Chainer{cfg: cfg, news: make(chan struct{}, 1), turn: make(chan struct{}, 1)}, nil
}

// Attend says that somebody follows the log until the given function is called: entries are chained almost at once meanwhile.
func (c *Chainer) Attend() (leave func()) {
	add := func(n int) {
		c.mu.Lock()
		c.watchers += n
		c.mu.Unlock()
		poke(c.news)
	}
	add(1)
	return sync.OnceFunc(func() { add(-1) })
}

// Run chains what comes until ctx ends.
func (c *Chainer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(ctx) })
	defer wg.Wait()
	timer, failed := time.NewTimer(time.Hour), time.Duration(0)
	defer timer.Stop()
	for {
		wait, due := c.wait(time.Now())
		if !due {
			wait = time.Hour
		}
		timer.Reset(max(wait, failed))
		select {
		case <-ctx.Done():
			return nil
		case <-c.news:
			continue
		case <-timer.C:
		}
		if !due || c.later(time.Now()) {
			continue
		}
		err := c.Fold(ctx)
		switch {
		case err == nil:
			failed = 0
		case ctx.Err() == nil:
			failed = min(max(2*failed, retryMin), retryMax)
			c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "audit entries not chained", slog.Any("error", err), slog.Duration("retry_in", failed))
		}
	}
}

// wait gives how long to wait before chaining; false: nothing waits.
func (c *Chainer) wait(now time.Time) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.when == (waits{}) {
		return 0, false
	}
	quiet := c.cfg.Quiet
	if c.watchers > 0 {
		quiet = min(quiet, attended)
	}
	at := c.when.last.Add(quiet)
	if longest := c.when.first.Add(c.cfg.Longest); longest.Before(at) {
		at = longest
	}
	return at.Sub(now), true
}

// later puts off what is due while a change is on its way, unless somebody follows the log or it waited for too long.
func (c *Chainer) later(now time.Time) bool {
	if c.cfg.Busy == nil || !c.cfg.Busy() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watchers > 0 || now.Sub(c.when.first) >= c.cfg.Longest {
		return false
	}
	c.when.last = now
	return true
}

// watch notes when entries come to wait.
func (c *Chainer) watch(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		page, err := c.cfg.Store.List(ctx, pendingPrefix, store.ListOptions{Limit: 1, KeysOnly: true})
		if err == nil {
			if len(page.KVs) > 0 {
				c.came(time.Now())
			}
			err = c.cfg.Store.Watch(ctx, pendingPrefix, page.Revision, func(b store.Batch) error {
				for _, e := range b.Events {
					if !e.Deleted {
						c.came(time.Now())
						break
					}
				}
				return nil
			})
		}
		if ctx.Err() == nil {
			c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "audit log not followed", slog.Any("error", err))
			pause(ctx, timer, retryMin)
		}
	}
}

func (c *Chainer) came(at time.Time) {
	c.mu.Lock()
	if c.when.first.IsZero() {
		// Replicas see it at the same moment: a little apart they don't all race for the head.
		c.when.first = at
	}
	c.when.last = at.Add(time.Duration(rand.Int64N(int64(c.cfg.Quiet)/8 + 1))) //nolint:gosec // G404: spreads writers
	c.mu.Unlock()
	poke(c.news)
}

// Fold chains everything that is pending now, whoever made it, and returns when it has its place.
func (c *Chainer) Fold(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return errs.New(errs.Timeout, "chain audit entries: %w", ctx.Err())
	}
	c.mu.Lock()
	was := c.when
	c.when = waits{}
	c.mu.Unlock()
	err := c.fold(ctx)
	if err != nil && was != (waits{}) {
		c.mu.Lock()
		if c.when == (waits{}) {
			c.when = was
		}
		c.mu.Unlock()
	}
	return err
}
