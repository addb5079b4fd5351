package app

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/gate"
	"github.com/agentry/agentry/internal/rpc"
)

const (
	// Of a stop: how long unary calls may go on before watches are cut, and how long the door waits in all.
	watchGrace   = time.Second
	drainTimeout = 8 * time.Second
)

// people is the people door: every API as gRPC, gRPC-Web and Connect over one port, and the plain pages beside it.
type people struct {
	log  *slog.Logger
	mux  *http.ServeMux
	gate *gate.Gate
	opts []connect.HandlerOption // of every handler that handle mounts
}

func newPeople(g *gate.Gate, log *slog.Logger) *people {
	return &people{log: log, mux: http.NewServeMux(), gate: g, opts: g.Options()}
}

// handle mounts a connect handler made with opts behind the gate.
func (p *people) handle(path string, h http.Handler) { p.mux.Handle(path, p.gate.Wrap(h)) }

// page mounts a plain page for the people of this machine, and for those who show a token.
func (p *people) page(path string, h http.Handler) { p.mux.Handle(path, p.gate.Page(h)) }

// serve answers on ln, over TLS where secure isn't nil, until ctx ends, then lets open calls end within the drain time.
func (p *people) serve(ctx context.Context, ln net.Listener, secure *tls.Config) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	srv := rpc.NewHTTPServer(rpc.HTTPConfig{Logger: p.log, Handler: p.gate.Bounded(p.mux), TLS: secure})
	srv.BaseContext = func(net.Listener) context.Context { return base }
	done := make(chan error, 1)
	go func() {
		if secure != nil {
			done <- srv.ServeTLS(ln, "", "")
			return
		}
		done <- srv.Serve(ln)
	}()
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
