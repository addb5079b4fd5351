package gate

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/internal/errs"
)

// watched is a stream whose caller is looked at again when access changes and when what it showed expires.
type watched struct {
	ctx    context.Context //nolint:containedctx // the stream's own, handed to its handler
	cancel context.CancelCauseFunc
	begun  chan proto.Message
	done   chan struct{}
	once   sync.Once
	ended  error
}

// endedError says that the gate ended a stream, and why.
type endedError struct{ err error }

// Error gives the reason.
func (e *endedError) Error() string { return e.err.Error() }

// watch begins to look after a stream's caller; stop must be called.
func (g *Gate) watch(ctx context.Context, c *call) *watched {
	w := &watched{begun: make(chan proto.Message, 1), done: make(chan struct{})}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	go func() {
		defer close(w.done)
		if err := g.lookAfter(w.ctx, c, w.begun); err != nil {
			w.cancel(&endedError{err: err})
		}
	}()
	return w
}

// begin says what the stream is about. It is called once.
func (w *watched) begin(msg proto.Message) { w.begun <- msg }

// stop ends the watch and gives why the gate ended the stream; nil where it didn't.
func (w *watched) stop() error {
	w.once.Do(func() {
		w.cancel(context.Canceled)
		<-w.done
		if e, ok := context.Cause(w.ctx).(*endedError); ok { //nolint:errorlint // made here, never wrapped
			w.ended = e.err
		}
	})
	return w.ended
}

// lookAfter returns an error when the caller doesn't count any more, and nil when ctx ends.
func (g *Gate) lookAfter(ctx context.Context, c *call, begun <-chan proto.Message) error {
	var expired <-chan time.Time
	if !c.who.Expires.IsZero() {
		t := time.NewTimer(c.who.Expires.Sub(g.now()))
		defer t.Stop()
		expired = t.C
	}
	var msg proto.Message
	changed, missed := c.changed, false // missed: there was a change before msg was there
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-expired:
			return errs.New(errs.Unauthenticated, "what was shown as %s has expired: log in again", c.who.Name)
		case msg = <-begun:
			if !missed {
				continue
			}
		case <-changed:
			changed, missed = g.changed(), msg == nil
		}
		if err := g.again(ctx, c, msg); err != nil {
			return err
		}
	}
}

// again authenticates a stream's caller anew and asks the rule about its request, nil where there was none yet.
func (g *Gate) again(ctx context.Context, c *call, msg proto.Message) error {
	now, err := g.auth.Authenticate(ctx, c.bearer)
	switch {
	case errs.Is(err, errs.Unauthenticated):
		return errs.New(errs.Unauthenticated, "%s is logged in no longer", c.who.Name)
	case err != nil:
		return err
	case !same(now, c.who):
		return errs.New(errs.Unavailable, "who you are has changed: connect again")
	case msg == nil:
		return nil
	}
	as := *c
	as.who = now
	return g.decide(access.With(ctx, now), &as, msg)
}

// same reports whether nothing of a principal changed that a handler may have kept. Bindings are asked for at every check.
func same(a, b access.Principal) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.TokenID == b.TokenID && a.Admin == b.Admin && slices.Equal(a.Groups, b.Groups)
}
