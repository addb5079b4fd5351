package identity

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// Conn is a connection with the instance's identity.
type Conn struct {
	*grpc.ClientConn

	k *Keeper
}

// Close ends the connection.
func (c *Conn) Close() error {
	c.k.mu.Lock()
	delete(c.k.conns, c)
	c.k.mu.Unlock()
	return c.ClientConn.Close()
}

// Dial makes a connection to a control plane; it connects later. Without an identity it waits a little for the first. A connection is
// closed before the certificate that it was made with ends, if there is a newer one by then: who uses it dials again.
func (k *Keeper) Dial(ctx context.Context, address string) (*Conn, error) {
	wait := time.NewTimer(k.cfg.pace.first)
	defer wait.Stop()
	select {
	case <-k.first:
	case <-k.done:
	case <-ctx.Done():
	case <-wait.C:
	}
	h := k.current()
	if h == nil {
		return nil, k.why()
	}
	conn, err := rpc.Dial(address, rpc.DialConfig{
		TLS: k.tlsFor(address), UserAgent: k.cfg.UserAgent, Options: []grpc.DialOption{grpc.WithChainStreamInterceptor(k.listen)},
	})
	if err != nil {
		return nil, err
	}
	c := &Conn{ClientConn: conn, k: k}
	k.mu.Lock()
	k.conns[c] = h
	k.mu.Unlock()
	return c, nil
}

// why says why there is no identity.
func (k *Keeper) why() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.problem != "" {
		return errs.New(errs.Unauthenticated, "no identity yet: %s", k.problem)
	}
	return errNone()
}

// recycle closes connections whose certificate is old while a newer one is there.
func (k *Keeper) recycle() {
	now := k.cfg.clock()
	k.mu.Lock()
	var old []*Conn
	for c, h := range k.conns {
		if h != k.now && h.age(now) > h.recycle {
			old = append(old, c)
		}
	}
	k.mu.Unlock()
	for _, c := range old {
		_ = c.Close() // its user gets the end of the stream
	}
}

// doubt has the owner loop ask the control plane about the identity.
func (k *Keeper) doubt() {
	select {
	case k.doubts <- struct{}{}:
	default:
	}
}

// listen hears on every stream whether the identity was refused.
func (k *Keeper) listen(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := next(ctx, desc, cc, method, opts...)
	if err != nil {
		k.heard(err)
		return nil, err
	}
	return &listened{ClientStream: s, heard: k.heard}, nil
}

type listened struct {
	grpc.ClientStream

	heard func(error)
}

// RecvMsg receives, and passes on how the stream ended.
func (l *listened) RecvMsg(m any) error {
	err := l.ClientStream.RecvMsg(m)
	if err != nil {
		l.heard(err)
	}
	return err
}

func (k *Keeper) heard(err error) {
	if refused(err) {
		k.doubt()
	}
}

// refused reports whether a call failed because of who called. In TLS 1.3 a server tells that it takes no certificate after the
// client's handshake has ended; gRPC has that as a connection that broke, with the alert in its text.
func refused(err error) bool {
	switch s := status.Convert(err); s.Code() {
	case codes.Unauthenticated, codes.PermissionDenied:
		return true
	case codes.Unavailable:
		return strings.Contains(s.Message(), "remote error: tls: ")
	default:
		return false
	}
}
