package a2aclient

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/rpc"
)

// service is what every method of the binding begins with.
const service = "/lf.a2a.v1.A2AService/"

// conn is the gRPC binding: a guarded connection that says why it can't be made.
type conn struct {
	*grpc.ClientConn
	where string
	wait  time.Duration

	mu   sync.Mutex
	last error // why the last attempt to connect failed
}

func newConn(cfg Config, w *web, e *endpoint) (*conn, error) {
	c := &conn{where: egress.Origin(e.base), wait: cfg.CardTimeout}
	md := metadata.MD{}
	for name, values := range e.header {
		md.Set(strings.ToLower(name), values...)
	}
	with := func(ctx context.Context) context.Context { return metadata.NewOutgoingContext(ctx, md) }
	limit := int(min(cfg.MaxTask, math.MaxInt32))
	dial := rpc.DialConfig{Options: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, at string) (net.Conn, error) {
			nc, err := w.guard.DialContext(ctx, "tcp", at)
			c.mu.Lock()
			c.last = err
			c.mu.Unlock()
			return nc, err
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(limit), grpc.MaxCallSendMsgSize(limit)),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(with(ctx), method, req, out, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(with(ctx), desc, cc, method, opts...)
		}),
	}}
	if e.base.Scheme == "https" {
		dial.TLS = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Egress.RootCAs}
	}
	var err error
	c.ClientConn, err = rpc.Dial("passthrough:///"+hostPort(e.base), dial)
	return c, err
}

// ready waits for a connection: an error of it says that nothing was sent.
func (c *conn) ready(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	tried := false
	for {
		s := c.GetState()
		switch s {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return link(false, c.where, errors.New("the connection is closed"))
		case connectivity.TransientFailure:
			if tried {
				return link(false, c.where, c.why())
			}
			tried = true // of an attempt long ago, perhaps: one more
			c.ResetConnectBackoff()
		case connectivity.Connecting:
			tried = true
		default:
			c.Connect()
		}
		if !c.WaitForStateChange(wait, s) {
			if err := c.why(); s == connectivity.TransientFailure && ctx.Err() == nil {
				return link(false, c.where, err)
			}
			return link(false, c.where, wait.Err())
		}
	}
}

// why says why there is no connection.
func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		return errors.New("no gRPC connection can be made")
	}
	return c.last
}

func (c *conn) close() { _ = c.Close() }

func newGRPC(cfg Config, w *web, e *endpoint) (transport, error) {
	c, err := newConn(cfg, w, e)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *conn) call(ctx context.Context, op operation, req, out message) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	if out == nil {
		out = &emptypb.Empty{}
	}
	if err := c.Invoke(ctx, service+string(op), req, out); err != nil {
		return ofGRPC(c.where, err)
	}
	return nil
}

func (c *conn) stream(ctx context.Context, op operation, req message) events {
	return func(yield func(*pb.StreamResponse, error) bool) {
		if err := c.ready(ctx); err != nil {
			yield(nil, err)
			return
		}
		// gRPC pings the connection, so that silence is that of the agent and not of the way.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+string(op))
		if err == nil {
			err = s.SendMsg(req)
		}
		if err == nil {
			err = s.CloseSend()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			yield(nil, ofGRPC(c.where, err))
			return
		}
		for {
			ev := &pb.StreamResponse{}
			err := s.RecvMsg(ev)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(nil, ofGRPC(c.where, err))
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}
