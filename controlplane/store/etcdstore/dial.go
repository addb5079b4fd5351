package etcdstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/agentry/agentry/internal/errs"
)

const (
	// keepAlive is the wish for both pings and their answers. gRPC pings every 10 s at most, but it takes the time-out
	// for TCP's as well: a connection on which something sent isn't acknowledged for so long is given up.
	keepAlive = 2 * time.Second
	// readRetries bounds how often the client tries a read, readPause apart. Writes are never repeated: the first try
	// may have happened.
	readRetries   = 4
	readPause     = 100 * time.Millisecond
	reconnectMax  = time.Second
	connectWithin = 2 * time.Second
)

// ClientConfig says how to reach an external etcd.
type ClientConfig struct {
	Endpoints   []string
	TLS         *tls.Config   // nil: plain text
	DialTimeout time.Duration // of the first contact; 0: 5 s
	Logger      *slog.Logger
}

// Dial opens a store on an external etcd. It answers Unavailable or Timeout when no endpoint answers a linearizable read
// within DialTimeout. The member must take requests as large as the transactions that are written.
func Dial(ctx context.Context, cfg ClientConfig) (*Store, error) {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = callTimeout
	}
	if len(cfg.Endpoints) == 0 {
		return nil, errs.New(errs.Invalid, "etcd: no endpoints")
	}
	reconnect := backoff.DefaultConfig
	reconnect.BaseDelay, reconnect.MaxDelay = retryMin, reconnectMax
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          cfg.DialTimeout,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAlive,
		MaxCallSendMsgSize:   maxRequest + 1<<20,
		MaxUnaryRetries:      readRetries,
		BackoffWaitBetween:   readPause,
		Logger:               zapLogger(cfg.Logger, zapcore.ErrorLevel), // it warns of every try; the error tells the caller
		DialOptions: []grpc.DialOption{
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectWithin}),
			grpc.WithChainUnaryInterceptor(failFast),
		},
	})
	if err != nil {
		return nil, errs.New(errs.Invalid, "etcd client: %w", err)
	}
	s := newStore(client, client.Close)
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	if err := s.reach(ctx); err != nil {
		_ = s.Close() // the first error tells more
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return s, nil
}

// failFast takes back the client's default of waiting for a connection as long as the deadline allows.
func failFast(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
}

// reach asks for a linearizable read until one comes: an etcd that is just starting is waited for.
func (s *Store) reach(ctx context.Context) error {
	var last error
	for {
		_, err := s.Get(ctx, "\x00")
		switch {
		case err == nil, errs.Is(err, errs.NotFound):
			return nil
		case errs.Is(err, errs.Timeout) && last != nil:
			return last // why there was no connection tells more
		case !errs.Is(err, errs.Unavailable):
			return err
		}
		last = err
		timer := time.NewTimer(retryMin)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
