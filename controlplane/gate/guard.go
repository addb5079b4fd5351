package gate

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
)

// guard is the interceptor: it asks the rule once the request is there.
type guard struct{ *Gate }

var _ connect.Interceptor = (*guard)(nil)

// errNoGate is a handler that was mounted without Wrap: a fault of the program, which lets nobody in.
var errNoGate = connect.NewError(connect.CodePermissionDenied, errors.New("this method isn't served here"))

// WrapUnary decides a unary call.
func (g *guard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		c := callOf(ctx)
		msg, ok := req.Any().(proto.Message)
		if c == nil || !ok || c.rule.method != req.Spec().Procedure {
			return nil, errNoGate
		}
		c.arrived()
		if err := g.decide(ctx, c, msg); err != nil {
			return nil, g.denied(ctx, c, msg, err)
		}
		if c.rule.mutates {
			ctx = audit.With(ctx, audit.NewDraft(g.about(c, msg)))
		}
		var told atomic.Bool
		ctx = access.OnDenied(ctx, func(permission string, o access.Object) {
			told.Store(true)
			g.recordObject(c, permission, o)
		})
		resp, err := next(ctx, req)
		switch {
		case err == nil:
		case connect.CodeOf(err) == connect.CodePermissionDenied && !told.Load():
			g.recordDenial(c, msg, err)
		case connect.CodeOf(err) == connect.CodeInternal: // the log has it already, without the id that the caller sees
			g.log.LogAttrs(ctx, slog.LevelError, "a fault was answered", slog.String("method", c.rule.method), slog.String("request_id", c.id))
		case connect.CodeOf(err) == connect.CodeUnauthenticated && c.rule.on == accessv1.On_ON_PUBLIC:
			g.recordFailedLogin(c, msg, err)
		}
		return resp, err
	}
}

// WrapStreamingClient is not used by a server.
func (*guard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler decides a stream when its request is there, and again whenever access changes.
func (g *guard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		c := callOf(ctx)
		if c == nil || c.rule.method != conn.Spec().Procedure {
			return errNoGate
		}
		if c.rule.uploads {
			return g.upload(ctx, c, conn, next)
		}
		watched := g.watch(ctx, c)
		defer func() { _ = watched.stop() }()
		err := next(watched.ctx, &asking{StreamingHandlerConn: conn, decide: func(msg proto.Message) error {
			if err := g.decide(ctx, c, msg); err != nil {
				return g.denied(ctx, c, msg, err)
			}
			watched.begin(msg)
			return nil
		}, arrived: c.arrived})
		if ended := watched.stop(); ended != nil {
			if errs.Is(ended, errs.Denied) || errs.Is(ended, errs.NotFound) {
				g.tellDenial(audit.Call{Actor: c.who.Name, Method: c.rule.method, Permission: c.rule.permission, RequestID: c.id}, ended.Error())
			}
			return g.wire(ctx, c, ended)
		}
		return err
	}
}

// upload decides a call whose request comes in many messages once the first is there, like a unary one: it isn't looked at again, because
// what it changes may be access itself, and half of it helps nobody. Each further message has the time of a body to arrive.
func (g *guard) upload(ctx context.Context, c *call, conn connect.StreamingHandlerConn, next connect.StreamingHandlerFunc) error {
	if c.rule.mutates {
		ctx = audit.With(ctx, audit.NewDraft(audit.Call{Actor: c.who.Name, Method: c.rule.method, Permission: c.rule.permission, RequestID: c.id}))
	}
	return next(ctx, &asking{StreamingHandlerConn: conn, decide: func(msg proto.Message) error {
		if err := g.decide(ctx, c, msg); err != nil {
			return g.denied(ctx, c, msg, err)
		}
		return nil
	}, arrived: c.arrived, more: c.more})
}

// asking is a stream that asks the rule when its first message is there.
type asking struct {
	connect.StreamingHandlerConn

	decide  func(proto.Message) error
	arrived func()
	more    func() // nil: all messages together have the time of one
	asked   bool
}

// Receive receives a message.
func (a *asking) Receive(into any) error {
	if err := a.StreamingHandlerConn.Receive(into); err != nil {
		if errors.Is(err, io.EOF) { // the caller has said all: until then it has no more time than for a unary call
			a.arrived()
		}
		return err
	}
	if a.more != nil {
		a.more()
	}
	if a.asked {
		return nil
	}
	msg, ok := into.(proto.Message)
	if !ok {
		return errNoGate
	}
	if err := a.decide(msg); err != nil {
		return err
	}
	a.asked = true
	return nil
}

// decide asks a method's rule about a request.
func (g *Gate) decide(ctx context.Context, c *call, msg proto.Message) error {
	o, all := c.rule.object(msg, g.labels)
	switch c.rule.on {
	case accessv1.On_ON_PUBLIC:
		return nil
	case accessv1.On_ON_CALLER:
		if c.who.Name == "" {
			return errs.New(errs.Unauthenticated, "nobody is logged in")
		}
		return nil
	case accessv1.On_ON_CLUSTER, accessv1.On_ON_NAMESPACE, accessv1.On_ON_OBJECT:
		return access.Check(ctx, c.rule.permission, o)
	case accessv1.On_ON_OBJECTS:
		if c.who.Somewhere(c.rule.permission, o.Namespace) {
			return nil
		}
		if all {
			return errs.New(errs.Denied, "%s needs %s in some namespace", c.who.Name, c.rule.permission)
		}
		return errs.New(errs.Denied, "%s needs %s on something in namespace %s", c.who.Name, c.rule.permission, o.Namespace)
	default: // ON_INSTANCE is the runtime door's
		return errs.New(errs.Denied, "%s isn't served here", c.rule.method)
	}
}

// denied records a denial and gives it as connect's error.
func (g *Gate) denied(ctx context.Context, c *call, msg proto.Message, err error) error {
	g.recordDenial(c, msg, err)
	return g.wire(ctx, c, err)
}

// recordDenial tells the audit log of a call that was denied as a whole.
func (g *Gate) recordDenial(c *call, msg proto.Message, err error) {
	g.tellDenial(g.about(c, msg), err.Error())
}

// recordObject tells it of one object that a handler asked about.
func (g *Gate) recordObject(c *call, permission string, o access.Object) {
	about := audit.Call{Actor: c.who.Name, Method: c.rule.method, Permission: permission, Namespace: o.Namespace, RequestID: c.id}
	if o.Name != "" {
		about.Object = o.Kind + "/" + o.Name
	}
	g.tellDenial(about, c.who.Name+" needs "+permission+" on "+o.String())
}

// tellDenial tells a caller's denials at a bounded rate, so that they can't push everything else out of the log's window.
func (g *Gate) tellDenial(about audit.Call, why string) {
	now := g.now()
	if _, ok := g.denials.take(about.Actor, now); !ok {
		return
	}
	e := audit.Event{Type: audit.Denied, Call: about, Message: g.redact.Redact(why), Outcome: connect.CodePermissionDenied.String(), Time: now}
	if about.Object != "" {
		e.Objects = []string{about.Object}
	}
	g.audit.Record(e)
}

// recordFailedLogin tells the audit log of a proof that a public method didn't accept. Logins are limited by address, so these are, too.
func (g *Gate) recordFailedLogin(c *call, msg proto.Message, err error) {
	g.audit.Record(audit.Event{
		Type: audit.Unauthenticated, Call: g.about(c, msg), Message: g.redact.Redact(err.Error()),
		Outcome: connect.CodeUnauthenticated.String(), Time: g.now(),
	})
}

// about says what a call is about, for the audit log.
func (g *Gate) about(c *call, msg proto.Message) audit.Call {
	o, _ := c.rule.object(msg, noLabels{})
	out := audit.Call{Actor: c.who.Name, Method: c.rule.method, Permission: c.rule.permission, Namespace: o.Namespace, RequestID: c.id}
	if out.Actor == "" {
		out.Actor = c.client
	}
	if o.Name != "" {
		out.Object = o.Kind + "/" + o.Name
	}
	return out
}
