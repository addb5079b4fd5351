package configclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
)

// outBound is how many messages may wait for a slow control plane; one more ends the stream.
const outBound = 32

// link is one stream. The driver writes to out and closes it for a clean leave; the link's goroutines only send events.
type link struct {
	id      uint64
	address string
	out     chan *pushv1.StreamRequest
	cancel  context.CancelFunc

	// Owned by the driver.
	opened     bool
	greeted    bool // Hello is in out
	welcomed   bool
	confirmed  bool // something was answered for good: backoff starts anew
	left       bool // out is closed
	beaten     bool // a beat was sent
	ended      string
	retryAfter time.Duration
	cluster    string
}

// event is what a link tells the driver: opened, a message, or its end.
type event struct {
	link   *link
	opened bool
	msg    *pushv1.StreamResponse
	err    error // the end; io.EOF when the server closed it
}

// run dials, opens the stream and carries messages until it ends; the last event has err.
func (l *link) run(ctx context.Context, dial func(context.Context, string) (Conn, error), events chan<- event) {
	err := l.stream(ctx, dial, events)
	emit(ctx, events, event{link: l, err: err}, true)
}

func (l *link) stream(ctx context.Context, dial func(context.Context, string) (Conn, error), events chan<- event) (err error) {
	conn, err := dial(ctx, l.address)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	sender.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case m, ok := <-l.out:
				if !ok {
					_ = stream.CloseSend()
					return
				}
				if err := stream.Send(m); err != nil {
					return // Recv tells why
				}
			}
		}
	})
	emit(ctx, events, event{link: l, opened: true}, false)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		emit(ctx, events, event{link: l, msg: m}, false)
	}
}

// emit hands an event to the driver, which reads until every link has ended: an end is always delivered.
func emit(ctx context.Context, events chan<- event, e event, always bool) {
	if always {
		events <- e
		return
	}
	select {
	case events <- e:
	case <-ctx.Done():
	}
}
