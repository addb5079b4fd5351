package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// keepAlive is the wish for both pings and their answers. gRPC pings every 10 s at most, but it takes the time-out
	// for TCP's as well: a connection on which something sent isn't acknowledged for so long is given up. A process that
	// hangs acknowledges: the route's probes are for that.
	keepAlive     = 2 * time.Second
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

// Dial opens a store on an external etcd. All calls go to one member, chosen at random; when it is gone, hangs or has no leader, to
// another one that answers: calls under way end, reads and what was surely not written are tried there. It answers Unavailable or Timeout when no endpoint answers a linearizable read
// within DialTimeout. The member must take requests as large as the transactions that are written.
func Dial(ctx context.Context, cfg ClientConfig) (*Store, error) {
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = callTimeout
	}
	if len(cfg.Endpoints) == 0 {
		return nil, errs.New(errs.Invalid, "etcd: no endpoints")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := newRoute(cfg)
	client, err := newClient(cfg, r.endpoint(), r)
	if err != nil {
		return nil, err
	}
	watching, err := newClient(cfg, r.endpoint(), r)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	r.clients = []*clientv3.Client{client, watching}
	s := newStore(storeParts{
		kind: store.External, client: client, watching: watching, several: len(cfg.Endpoints) > 1, members: r.members,
		release: func() error { return errors.Join(watching.Close(), client.Close()) },
	})
	s.background(r.run)
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	if err := s.reach(ctx); err != nil {
		_ = s.Close() // the first error tells more
		return nil, fmt.Errorf("etcd at %s: %w", strings.Join(cfg.Endpoints, ","), err)
	}
	return s, nil
}

// newClient makes a client of one member. The route changes the member later; nil: nobody does.
func newClient(cfg ClientConfig, endpoint string, r *route) (*clientv3.Client, error) {
	reconnect := backoff.DefaultConfig
	reconnect.BaseDelay, reconnect.MaxDelay = retryMin, reconnectMax
	options := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: reconnect, MinConnectTimeout: connectWithin})}
	if r != nil {
		options = append(options, grpc.WithChainUnaryInterceptor(r.unary), grpc.WithChainStreamInterceptor(r.stream))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            []string{endpoint},
		TLS:                  cfg.TLS,
		DialTimeout:          cfg.DialTimeout,
		DialKeepAliveTime:    keepAlive,
		DialKeepAliveTimeout: keepAlive,
		MaxCallSendMsgSize:   maxRequest + 1<<20,
		MaxUnaryRetries:      1,                                         // the store itself tries again
		Logger:               zapLogger(cfg.Logger, zapcore.ErrorLevel), // it warns of every try; the error tells the caller
		DialOptions:          options,
	})
	if err != nil {
		return nil, errs.New(errs.Invalid, "etcd client: %w", err)
	}
	return client, nil
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
