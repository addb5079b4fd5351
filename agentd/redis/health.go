package redis

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/internal/errs"
)

// once guards go-redis's own logger, which is a variable of its package.
var once sync.Once //nolint:gochecknoglobals // it guards a global of another package

// How often the server is probed.
const (
	beat     = 5 * time.Second        // while it is well
	soonest  = 100 * time.Millisecond // after the first failed probe, doubled each time
	farthest = 2 * time.Second
	probeTTL = time.Minute // of the key that a probe writes
)

// probing writes a key, which needs what the others' scripts need: a connection, the right to run them, room, and a master.
const probing = `return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])`

// Probe asks the server now, whatever is known of it, and waits for the answer. The error is an *Error, or ctx's end.
func (c *Client) Probe(ctx context.Context) error {
	err := c.attempt(ctx, func(ctx context.Context, cmd Commands) error {
		return c.probing.Run(ctx, cmd, []string{c.cfg.Prefix + "probe"}, "1", probeTTL.Milliseconds()).Err()
	})
	if err == nil {
		c.rose()
	}
	return err
}

// Healthy reports whether the last call or probe found the server well, and what is wrong else.
func (c *Client) Healthy() (ok bool, message string) {
	if e := c.sick(); e != nil {
		return false, e.Error()
	}
	return true, ""
}

// Sick gives what is wrong with the server, as far as it is known; nil: nothing.
func (c *Client) Sick() *Error { return c.sick() }

func (c *Client) sick() *Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.down
}

// OnChange has f called after every change of Healthy until stop is called; f returns at once.
func (c *Client) OnChange(f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchers[&f] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, &f)
	}
}

// Await waits until the server is well, for at most the Client's Timeout. The error is an *Error, or ctx's end. It is for the few calls that
// are worth a wait.
func (c *Client) Await(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	defer c.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	timer := time.NewTimer(c.cfg.Timeout)
	defer timer.Stop()
	for {
		e := c.sick()
		if e == nil {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return e
		case <-ctx.Done():
			return errs.New(errs.Timeout, "redis: %w", context.Cause(ctx))
		}
	}
}

// fell notes a failure and wakes the prober.
func (c *Client) fell(e *Error) {
	c.mu.Lock()
	was := c.down
	c.down = e
	c.mu.Unlock()
	if was == nil {
		select {
		case c.kick <- struct{}{}:
		default:
		}
	}
	if was == nil || was.Message != e.Message {
		c.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "redis is unavailable", slog.String("address", c.end.address), slog.String("error", e.Message))
		c.tell()
	}
}

func (c *Client) rose() {
	c.mu.Lock()
	was := c.down
	c.down = nil
	c.mu.Unlock()
	if was != nil {
		c.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "redis is back", slog.String("address", c.end.address))
		c.tell()
	}
}

func (c *Client) tell() {
	c.mu.Lock()
	fs := make([]func(), 0, len(c.watchers))
	for f := range c.watchers {
		fs = append(fs, *f)
	}
	c.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// watch probes slowly while the server is well, so that its end is noticed without requests, and quickly until it is back.
func (c *Client) watch(ctx context.Context) {
	defer close(c.done)
	wait := beat
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
			wait = 0
		case <-timer.C:
		}
		switch err := c.Probe(ctx); {
		case err == nil:
			wait = beat
		case wait == 0 || wait == beat:
			wait = soonest
		default:
			wait = min(2*wait, farthest)
		}
		timer.Reset(wait)
	}
}

// Close ends the connections and waits for the prober. Twice is once.
func (c *Client) Close() error {
	c.stop()
	<-c.done
	if err := c.rdb.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return err
	}
	return nil
}
