package stream

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/internal/errs"
)

// apart takes a turn on another goroutine's stack. To build a config and to marshal it needs 16 KB of one, and a stack that waits as
// deep as a handler's doesn't shrink below that again: a third of what an instance costs.
func (c *conn) apart() error {
	done := make(chan error, 1)
	c.hub.children.Go(func() {
		c.sending.Lock()
		defer c.sending.Unlock()
		done <- c.guarded(false)
	})
	return <-done
}

// ends keeps the line's workers away from here on.
func (c *conn) ends() {
	c.hub.line.ends(c)
	c.sending.Lock()
	c.over = true
	c.sending.Unlock()
}

// push is a turn that a worker of the line takes. It never waits for the instance: whatever takes longer is the handler's.
func (c *conn) push() {
	if len(c.stops) > 0 || c.old.Load() || !c.sending.TryLock() {
		c.poke() // who sends now looks again
		return
	}
	defer c.sending.Unlock()
	if c.over {
		return
	}
	if err := c.guarded(true); err != nil {
		c.stop(end{err: err})
	}
}

// guarded is turn, but a panic is an error that ends this one stream, as the door does where a handler panics.
func (c *conn) guarded(worker bool) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.hub.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, "panic while sending; the stream ends", c.who(),
				slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			err = errs.New(errs.Internal, "sending broke")
		}
	}()
	return c.turn(worker)
}

// turn sends what there is to send. sending is held. A worker leaves the rest to the handler where a send could block.
func (c *conn) turn(worker bool) error {
	for {
		if worker && c.full() {
			c.poke()
			return nil
		}
		m, nonce := c.compose()
		if m == nil {
			return nil
		}
		if err := c.send(m, nonce); err != nil {
			return err
		}
		// gofail: var betweenSendAndAck struct{}
		// go panic("failpoint betweenSendAndAck")
		// select {}

		if nonce != 0 {
			return nil // its answer wakes, and so does any change from here on
		}
	}
}

// ample is what a stream's reader may leave unread before a send could block: gRPC takes messages of a stream as long
// as less than 64 KiB of it wait.
const ample = 32 << 10

// full reports whether a send could block now. Only who sends makes it so.
func (c *conn) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread >= ample
}

// send puts one message on the wire. While little is unread it can't block; else it gets a goroutine of its own, so that
// a stuck reader ends its own stream and nothing else.
func (c *conn) send(m proto.Message, nonce uint64) error {
	size := sizeOf(m)
	c.mu.Lock()
	before := c.unread
	c.unread += size
	if nonce == 0 {
		c.since += size
	} else {
		c.since = 0
	}
	c.mu.Unlock()
	if before < ample {
		return c.stream.SendMsg(m)
	}
	if c.writing.Load() { // others don't wait for a slow reader
		c.hub.line.ends(c)
		defer c.hub.line.begins(c)
	}
	done := make(chan error, 1)
	c.hub.children.Go(func() { done <- c.stream.SendMsg(m) })
	t := time.NewTimer(c.hub.cfg.SendWait)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case e := <-c.stops: // no goodbye fits behind a blocked message
		if e.err != nil {
			return e.err
		}
		return errs.New(errs.Unavailable, "the stream ended while a message was being taken")
	case <-t.C:
		c.hub.counts.stuck.Add(1)
		return errs.New(errs.Timeout, "the instance reads nothing for %s", c.hub.cfg.SendWait)
	}
}
