package gate

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/internal/errs"
)

// idempotencyHeader carries a caller's own name of a call that writes: asked again under it, the call is carried out once.
const idempotencyHeader = "Idempotency-Key"

// Calls begins calls that write, so that each is carried out once. It must be safe for concurrent use.
type Calls interface {
	// Begin gives the context of a call. key is the caller's own name of it, "": it gave none. An error that is a carriedOut tells
	// that the call was carried out before; the handler may end in such a one too.
	Begin(ctx context.Context, principal, key, method string, request proto.Message) (context.Context, error)
	// Refused gives the answer of a call that ended in err: err, or a carriedOut where another try of the call came before it.
	Refused(ctx context.Context, err error) error
}

// carriedOut is the error of a call that was carried out before.
type carriedOut interface {
	error
	// Into sets m to what was answered then; false where that isn't kept.
	Into(m proto.Message) bool
}

// exactly is the interceptor that begins calls which write, and says at which store revision reads are.
type exactly struct{ *Gate }

var _ connect.Interceptor = (*exactly)(nil)

// WrapUnary begins a call that writes, or has a call that reads wait for the revision that it asks for.
func (e *exactly) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c := callOf(ctx)
		if c == nil {
			return nil, errNoGate
		}
		if !c.rule.mutates {
			if err := e.consistent(ctx, c, req.Header()); err != nil {
				return nil, err
			}
			return next(ctx, req)
		}
		defer e.tell(c) // after it: what the answer speaks of is in there
		ctx, err := e.begin(ctx, c, req)
		var resp connect.AnyResponse
		if err == nil {
			if resp, err = next(ctx, req); err != nil && e.calls != nil {
				err = e.calls.Refused(ctx, err)
			}
		}
		var before carriedOut
		if !errors.As(err, &before) {
			return resp, err
		}
		again, found := answerOf(c.rule.method, before)
		if !found {
			return nil, err
		}
		return again, nil
	}
}

// begin gives the context of a call that writes.
func (e *exactly) begin(ctx context.Context, c *call, req connect.AnyRequest) (context.Context, error) {
	msg, ok := req.Any().(proto.Message)
	if e.calls == nil || !ok {
		return ctx, nil
	}
	key := req.Header().Get(idempotencyHeader)
	if c.who.Name == "" { // who logs in isn't known yet: a key would be everybody's
		key = ""
	}
	return e.calls.Begin(ctx, c.who.Name, key, c.rule.method, msg)
}

// WrapStreamingClient is not used by a server.
func (*exactly) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler has a stream begin at the revision that it asks for.
func (e *exactly) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		c := callOf(ctx)
		if c == nil {
			return errNoGate
		}
		if err := e.consistent(ctx, c, conn.RequestHeader()); err != nil {
			return err
		}
		return next(ctx, conn)
	}
}

// answered is a response with a message of any type.
type answered struct {
	connect.AnyResponse

	msg proto.Message
}

// Any gives the message.
func (a *answered) Any() any { return a.msg }

// answerOf gives the answer of a method that is kept of a call; false where there is none.
func answerOf(method string, before carriedOut) (connect.AnyResponse, bool) {
	out, err := responseOf(method)
	if err != nil || !before.Into(out) {
		return nil, false
	}
	return &answered{AnyResponse: connect.NewResponse(&emptypb.Empty{}), msg: out}, true
}

// responseOf makes an empty response of a method.
func responseOf(method string) (proto.Message, error) {
	for _, s := range registered() {
		for i := range s.Methods().Len() {
			m := s.Methods().Get(i)
			if "/"+string(s.FullName())+"/"+string(m.Name()) != method {
				continue
			}
			t, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
			if err != nil {
				return nil, err
			}
			return t.New().Interface(), nil
		}
	}
	return nil, errs.New(errs.Internal, "no method %s", method)
}
