// Package redismemory remembers sessions in a Redis 7 server, for all instances of an agent. Everything that belongs together is written by
// one script; every key has a time to live. docs/redis.md says which rights its user needs.
package redismemory

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a Config.
const (
	DefaultMaxSessionBytes = 512 << 10
	DefaultMaxSessionTurns = 1_000
	DefaultLockTTL         = 5 * time.Second
)

// Config is what a Memory is made of. Client is required and stays the caller's.
type Config struct {
	Client   *redis.Client
	Strategy strategy.Config
	// MaxSessionBytes and MaxSessionTurns bound one session; beyond them its oldest exchanges go.
	MaxSessionBytes int
	MaxSessionTurns int
	// LockTTL is how long a session stays closed after the process that answers it was killed; 0: 5 s.
	LockTTL time.Duration
	// OnClose is called at the end of Close, such as to give the Client back. nil: nothing.
	OnClose func()
	Log     *slog.Logger // nil: none
}

// Memory is sessions in Redis, seen through strategies.
type Memory struct {
	*strategy.Memory
	store *store
}

// New makes a Memory; errors are of kind Invalid. It asks the server nothing: see Probe. Close ends it.
func New(cfg Config) (*Memory, error) {
	if cfg.Client == nil {
		return nil, errs.New(errs.Invalid, "redismemory: no client")
	}
	if cfg.MaxSessionBytes < 0 || cfg.MaxSessionTurns < 0 || cfg.LockTTL < 0 {
		return nil, errs.New(errs.Invalid, "redismemory: a bound is negative")
	}
	cfg.MaxSessionBytes = cmp.Or(cfg.MaxSessionBytes, DefaultMaxSessionBytes)
	cfg.MaxSessionTurns = cmp.Or(cfg.MaxSessionTurns, DefaultMaxSessionTurns)
	cfg.LockTTL = cmp.Or(cfg.LockTTL, DefaultLockTTL)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Strategy.Log == nil {
		cfg.Strategy.Log = cfg.Log
	}
	s := newStore(cfg)
	m, err := strategy.New(s, cfg.Strategy)
	if err != nil {
		return nil, err
	}
	s.start()
	return &Memory{Memory: m, store: s}, nil
}

// Probe asks the server whether it can be written to. The error is a *redis.Error, or ctx's end.
func (m *Memory) Probe(ctx context.Context) error { return m.store.client.Probe(ctx) }

// Healthy reports how the server stands, as far as the last call or probe showed.
func (m *Memory) Healthy() (ok bool, message string) { return m.store.client.Healthy() }

// OnChange has f called after every change of Healthy until stop is called; f returns at once.
func (m *Memory) OnChange(f func()) (stop func()) { return m.store.client.OnChange(f) }

// Close gives back what is still held and waits for the goroutine that renews it. Twice is once.
func (m *Memory) Close() error {
	m.store.close()
	return nil
}

// ticket names one request at the door of a session.
func ticket() string { return rand.Text() }
