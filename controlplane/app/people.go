package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

const (
	unaryTimeout = 30 * time.Second
	// Of a stop: how long unary calls may go on before watches are cut, and how long the door waits in all.
	watchGrace   = time.Second
	drainTimeout = 8 * time.Second
)

// authOf is the hook of both doors.
func authOf(guard *access.Guard) rpc.Auth {
	return func(ctx context.Context, method string) (context.Context, error) {
		who, err := guard.Authenticate(ctx, method, rpc.Bearer(ctx))
		if err != nil {
			return ctx, err
		}
		return access.With(ctx, who), nil
	}
}

// people is the people door: every API as gRPC, gRPC-Web and Connect over one port, and the plain pages beside it.
type people struct {
	log  *slog.Logger
	mux  *http.ServeMux
	opts []connect.HandlerOption
}

func newPeople(guard *access.Guard, log *slog.Logger, redact *secret.Redactor) *people {
	opts := append(rpc.HandlerOptions(log, authOf(guard)), connect.WithInterceptors(&bounds{redact: redact}))
	return &people{log: log, mux: http.NewServeMux(), opts: opts}
}

// page mounts a plain page for the people of this machine. The Host check keeps a foreign web page from reading it
// through a name that it points at the loopback.
func (p *people) page(path string, h http.HandlerFunc) {
	p.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if !loopbackHost(r.Host) {
			http.Error(w, "this page answers to localhost only", http.StatusForbidden)
			return
		}
		h(w, r)
	})
}

func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || (ip != nil && ip.IsLoopback())
}

// serve answers on ln until ctx ends, then lets open calls end within the drain time.
func (p *people) serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := rpc.NewHTTPServer(rpc.HTTPConfig{Logger: p.log, Handler: p.mux})
	srv.BaseContext = func(net.Listener) context.Context { return base }
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	// Watches never end by themselves: their contexts end after a grace for the calls that do.
	grace := time.AfterFunc(watchGrace, cancel)
	defer grace.Stop()
	stop, stopped := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stopped()
	err := srv.Shutdown(stop)
	if err != nil {
		err = srv.Close()
	}
	<-done
	return err
}

// bounds gives every unary call a deadline and keeps secrets out of error messages.
type bounds struct{ redact *secret.Redactor }

// WrapUnary bounds a call.
func (b *bounds) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, unaryTimeout)
		defer cancel()
		resp, err := next(ctx, req)
		return resp, b.clean(err)
	}
}

// WrapStreamingClient is not used by a server.
func (*bounds) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler cleans the error of a stream.
func (b *bounds) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return b.clean(next(ctx, conn))
	}
}

// clean gives an error of the same kind without secrets. One that is connect's already carries details of its own.
func (b *bounds) clean(err error) error {
	var already *connect.Error
	if err == nil || errors.As(err, &already) {
		return err
	}
	if text := err.Error(); b.redact.Redact(text) != text {
		return errs.New(errs.KindOf(err), "%s", b.redact.Redact(text))
	}
	return err
}

var _ connect.Interceptor = (*bounds)(nil)
