package mcptool

import (
	"context"
	"io"
	"sync"
	"time"
)

// linger is how long the end of an answer's stream is waited for when the library wants no more of it. It leaves as soon as it has its
// event, and a connection whose answer was not read to the end can't be used again: without this every call of a server that answers by
// events would make a new one.
const linger = 20 * time.Millisecond

// lingering is one request whose end comes a little later than its caller's. Nobody waits for it: it ends by itself within linger.
type lingering struct {
	caller context.Context //nolint:containedctx // why it left is why the request ends
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards what follows
	stop    func() bool
	body    io.Closer
	between bool // what was read so far ends with a whole event
	left    bool
	ended   bool
}

// newLingering gives the context for the request: the caller's, but for when it ends.
func newLingering(ctx context.Context) (context.Context, *lingering) {
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l := &lingering{caller: ctx, cancel: cancel}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop = context.AfterFunc(ctx, l.leave)
	return own, l
}

// over ends a request whose answer is no stream, or never came.
func (l *lingering) over() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.finish()
}

func (l *lingering) finish() {
	l.stop()
	l.cancel(l.caller.Err())
}

// attach hands over the body of an answer of events.
func (l *lingering) attach(body io.Closer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.body = body
}

// read says how a read left the stream.
func (l *lingering) read(between bool, err error) {
	l.mu.Lock()
	l.between = between
	l.mu.Unlock()
	if err != nil {
		l.end()
	}
}

// leave is what the caller does: it wants no more.
func (l *lingering) leave() {
	l.mu.Lock()
	first := !l.left
	l.left = true
	wait := l.between
	l.mu.Unlock()
	switch {
	case !first:
	case wait:
		time.AfterFunc(linger, l.end)
	default:
		l.end()
	}
}

func (l *lingering) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	l.finish()
	if l.body != nil {
		_ = l.body.Close()
	}
}
