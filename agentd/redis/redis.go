// Package redis is the one client of a Redis server that an agentd keeps: connections, deadlines and health, shared by what remembers
// sessions, suspended runs and tasks. Every call has a deadline. When one failed, further calls fail at once until a probe, which writes,
// has succeeded. It never lists keys; those who use it keep indexes of their own.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// poolSize bounds the connections of a Client; a call waits for one within its deadline.
const poolSize = 16

// bufferSize of a connection, each way, in bytes.
const bufferSize = 8 << 10

// Script is a Lua script; make it with NewScript, once.
type Script = goredis.Script

// NewScript makes a Script.
func NewScript(source string) *Script { return goredis.NewScript(source) }

// Commands are what a function given to Do may use.
type Commands = goredis.Cmdable

// Client talks to one server. All methods may be used from many goroutines.
type Client struct {
	cfg        Config
	end        endpoint
	rdb        *goredis.Client
	credential atomic.Pointer[func() secret.Value]
	probing    *Script

	mu       sync.Mutex // guards down and watchers; no callback runs under it
	down     *Error
	watchers map[*func()]struct{}

	kick chan struct{} // wakes the prober
	stop context.CancelFunc
	done chan struct{}
}

// New makes a Client and starts to look after its health; nothing is connected yet. Errors are of kind Invalid. Close ends it.
func New(cfg Config) (*Client, error) {
	end, err := parse(cfg.Address)
	if err != nil {
		return nil, err
	}
	if cfg.Prefix == "" {
		return nil, errs.New(errs.Invalid, "redis: no prefix")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{}).DialContext
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Credential == nil {
		cfg.Credential = func() secret.Value { return secret.Value{} }
	}
	quiet()
	c := &Client{cfg: cfg, end: end, probing: NewScript(probing), watchers: map[*func()]struct{}{}, kick: make(chan struct{}, 1), done: make(chan struct{})}
	c.credential.Store(&cfg.Credential)
	c.rdb = goredis.NewClient(&goredis.Options{
		Addr: end.address, DB: end.db, Protocol: 2, Dialer: c.dial,
		CredentialsProviderContext: func(context.Context) (string, string, error) {
			username, password := account((*c.credential.Load())().Reveal())
			return username, password, nil
		},
		MaxRetries: 2, MinRetryBackoff: 5 * time.Millisecond, MaxRetryBackoff: 50 * time.Millisecond,
		DialTimeout: cfg.Timeout, DialerRetries: 1, ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout, PoolTimeout: cfg.Timeout,
		ContextTimeoutEnabled: true, PoolSize: poolSize, MaxActiveConns: poolSize, ConnMaxIdleTime: 5 * time.Minute,
		ReadBufferSize: bufferSize, WriteBufferSize: bufferSize, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go c.watch(ctx)
	return c, nil
}

// dial connects, by TLS where the address says so.
func (c *Client) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, err := c.cfg.Dial(ctx, network, c.end.address)
	if err != nil || !c.end.tls {
		return conn, err
	}
	secure := tls.Client(conn, &tls.Config{ServerName: c.end.host, MinVersion: tls.VersionTLS12, RootCAs: c.cfg.RootCAs})
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// Prefix gives what every key begins with.
func (c *Client) Prefix() string { return c.cfg.Prefix }

// Address gives host:port.
func (c *Client) Address() string { return c.end.address }

// Do runs commands within the Client's deadline. f may be run by nobody: when the server is known to be gone the error comes at once. A
// lost connection is tried again within the deadline, so commands must bear being done twice. What the server's state caused is an
// *Error; ctx's end is errs.Timeout or errs.Canceled; everything else is f's own error.
func (c *Client) Do(ctx context.Context, f func(ctx context.Context, cmd Commands) error) error {
	if e := c.sick(); e != nil {
		return e
	}
	return c.attempt(ctx, f)
}

// Eval runs a script by its hash, like Do.
func (c *Client) Eval(ctx context.Context, s *Script, keys []string, args ...any) (out any, err error) {
	err = c.Do(ctx, func(ctx context.Context, cmd Commands) error {
		out, err = s.Run(ctx, cmd, keys, args...).Result()
		return err
	})
	return out, err
}

func (c *Client) attempt(ctx context.Context, f func(ctx context.Context, cmd Commands) error) error {
	own, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	err := f(own, c.rdb)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, goredis.ErrClosed):
		return errs.New(errs.Unavailable, "redis: the client is closed")
	case errors.Is(ctx.Err(), context.Canceled):
		return errs.New(errs.Canceled, "redis: %w", context.Cause(ctx))
	case ctx.Err() != nil:
		return errs.New(errs.Timeout, "redis: %w", context.Cause(ctx))
	}
	e := c.diagnose(err)
	if e == nil {
		return err
	}
	if !strings.HasPrefix(e.Message, "NOPERM") { // one command's right says nothing of the others
		c.fell(e)
	}
	return e
}

// quiet keeps go-redis from writing to stderr what callers are told anyway.
func quiet() { once.Do(func() { goredis.SetLogger(silent{}) }) }

type silent struct{}

// Printf drops the message.
func (silent) Printf(context.Context, string, ...any) {}
