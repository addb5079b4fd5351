package rpc

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// DialConfig is what Dial needs beside the target.
type DialConfig struct {
	// Token goes with every call as "authorization: Bearer TOKEN"; zero: none.
	Token secret.Value
	// TLS is nil for plaintext. A token travels in plaintext to loopback only.
	TLS *tls.Config
	// UserAgent names the program; "" leaves gRPC's own.
	UserAgent string
	// MaxBackoff bounds the wait between attempts to connect, default 5 s.
	MaxBackoff time.Duration
	// Options are added last, for tests and metrics.
	Options []grpc.DialOption
}

// Dial makes a connection to a host:port (or another gRPC target). It doesn't wait for it to be up: calls fail with
// UNAVAILABLE until then.
func Dial(target string, cfg DialConfig) (*grpc.ClientConn, error) {
	if cfg.TLS == nil && !cfg.Token.IsZero() && !isLoopback(hostOf(target)) {
		return nil, errs.New(errs.Invalid, "connection to %s: a token may cross the network only with TLS", target)
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 5 * time.Second
	}
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		creds = credentials.NewTLS(cfg.TLS)
	}
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: clientPingTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: cfg.MaxBackoff,
			},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithStaticStreamWindowSize(window),
		grpc.WithStaticConnWindowSize(window),
	}
	if !cfg.Token.IsZero() {
		opts = append(opts, grpc.WithPerRPCCredentials(bearer{token: cfg.Token, tls: cfg.TLS != nil}))
	}
	if cfg.UserAgent != "" {
		opts = append(opts, grpc.WithUserAgent(cfg.UserAgent))
	}
	conn, err := grpc.NewClient(target, append(opts, cfg.Options...)...)
	if err != nil {
		return nil, errs.New(errs.Invalid, "connection to %s: %w", target, err)
	}
	return conn, nil
}

// bearer sends the token with every call.
type bearer struct {
	token secret.Value
	tls   bool
}

var _ credentials.PerRPCCredentials = bearer{}

// GetRequestMetadata gives the authorization header.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token.Reveal()}, nil
}

// RequireTransportSecurity is true where TLS is configured; Dial keeps the rest on loopback.
func (b bearer) RequireTransportSecurity() bool { return b.tls }

// RequireLoopback is an error for an address to listen on that others could reach: without TLS that is a start error
// (semantics.md 13). An empty host means every interface.
func RequireLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return errs.New(errs.Invalid, "address %q: %w", addr, err)
	}
	if !isLoopback(host) {
		return errs.New(errs.Invalid, "address %q is not a loopback one: serving others needs TLS", addr)
	}
	return nil
}

// isLoopback doesn't resolve: a name that isn't localhost may point anywhere tomorrow.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostOf gives the host of a gRPC target, such as "dns:///host:port" or "host:port".
func hostOf(target string) string {
	if u, err := url.Parse(target); err == nil && u.Scheme != "" && (u.Opaque != "" || strings.Contains(target, "://")) {
		switch u.Scheme {
		case "unix", "unix-abstract":
			return "localhost" // a socket of this machine
		case "dns", "passthrough":
			target = strings.TrimPrefix(u.Path, "/")
			if u.Opaque != "" {
				target = u.Opaque
			}
		}
	}
	host, _, err := net.SplitHostPort(target)
	if err != nil {
		return strings.Trim(target, "[]")
	}
	return host
}
