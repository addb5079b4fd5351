// Package rpc is the one way to make a gRPC server, a connection to one, or the HTTP server of a door: keepalive and
// its enforcement, message bounds, recovery from panics, the mapping of errors to codes, the hook that authenticates
// and the bearer token. Both halves and agentctl use it; it decides no permission and serves nothing itself.
package rpc

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/agentry/agentry/internal/errs"
)

// MaxMessage bounds one message in either direction, in bytes.
const MaxMessage = 4 << 20

// window is how much of a call, and of a connection, may be under way unread, in bytes, at both ends. A fixed one: where gRPC looks for the
// best size by itself, it answers every message with a ping and a window update, which is two more writes and a read at each end.
const window = 256 << 10

// Keepalive of both ends. A client may ping no more often than minPing, or it is cut off.
const (
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	minPing     = 10 * time.Second
	// A client finds out sooner that its server hangs: there are other replicas.
	clientPing        = 12 * time.Second
	clientPingTimeout = 10 * time.Second
)

// Auth authenticates one call and decides whether it may go on. The context that it gives is the handler's. The token
// is read with Bearer. Errors are of package errs.
type Auth func(ctx context.Context, fullMethod string) (context.Context, error)

// Config is what NewServer needs.
type Config struct {
	Logger *slog.Logger
	// Auth is asked before every handler. Required; Open lets everybody in.
	Auth Auth
	// TLS is nil for plaintext: RequireLoopback says where that is allowed.
	TLS *tls.Config
	// Credentials, when set, secure the connections instead of TLS.
	Credentials credentials.TransportCredentials
	// MaxStreams bounds the concurrent calls of one connection, default 1000.
	MaxStreams uint32
	// Options are added last, for tests and metrics.
	Options []grpc.ServerOption
}

// Open is the Auth of a server that anybody may call.
func Open(ctx context.Context, _ string) (context.Context, error) { return ctx, nil }

// NewServer makes a gRPC server. Whoever registers services also serves and stops it.
func NewServer(cfg Config) (*grpc.Server, error) {
	if cfg.Logger == nil || cfg.Auth == nil {
		return nil, errs.New(errs.Invalid, "rpc server: logger and auth are required")
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1000
	}
	opts := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(cfg.MaxStreams),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Long streams with small messages: large buffers per connection cost more than they save.
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.WriteBufferSize(16 << 10),
		grpc.ChainUnaryInterceptor(unaryGuard(cfg.Logger, cfg.Auth)),
		grpc.ChainStreamInterceptor(streamGuard(cfg.Logger, cfg.Auth)),
		// A stream's handler runs until its calls have returned, so a stop waits for all of them.
		grpc.WaitForHandlers(true),
	}
	buffer := 0 // crypto/tls holds what it decrypted: one more buffer is one more copy, and 4 KB for each connection
	switch {
	case cfg.Credentials != nil:
		opts = append(opts, grpc.Creds(cfg.Credentials))
	case cfg.TLS != nil:
		opts = append(opts, grpc.Creds(credentials.NewTLS(cfg.TLS)))
	default:
		buffer = 4 << 10
	}
	opts = append(opts, grpc.ReadBufferSize(buffer))
	return grpc.NewServer(append(opts, cfg.Options...)...), nil
}
