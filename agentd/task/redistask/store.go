// Package redistask keeps tasks in a Redis 7 server, for all instances of an agent: each of them reads, watches and changes every task, learns
// what the others did to those that it keeps, and which ones nobody keeps any more because their instance has died. Every change is one script
// that writes only where nothing came between; every key ends.
package redistask

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// Store implements task.Shared. It starts its goroutines at first use; Close ends them.
type Store struct {
	cfg   Config
	run   scripts
	self  string
	locks locks
	cache cache
	hub   *hub
	pulse pulse

	life context.Context //nolint:containedctx // of the goroutines: Close ends it
	end  context.CancelFunc

	mu      sync.Mutex // guards what follows
	beating bool
	tailing bool
	closed  bool
	wg      sync.WaitGroup
}

var _ task.Shared = (*Store)(nil)

// New makes a Store; errors are of kind Invalid. It asks the server nothing.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, run: newScripts(), self: rand.Text(), hub: newHub(cfg.MaxLag), pulse: newPulse()}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// Self implements task.Shared.
func (s *Store) Self() string { return s.self }

// live starts to tell the others that this process lives, once.
func (s *Store) live() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beating || s.closed {
		return
	}
	s.beating = true
	s.wg.Go(func() { s.beat(s.life) })
}

// follow starts to read what happens to tasks, once.
func (s *Store) follow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed()
	}
	if !s.tailing {
		s.tailing = true
		s.wg.Go(func() { s.tail(s.life) })
	}
	return nil
}

func errClosed() error { return errs.New(errs.Unavailable, "the store of tasks is closed") }

// Close says goodbye, so that others take over at once what this process keeps, ends the goroutines and all feeds, and waits for the
// goroutines: about a second, where the server is silent as long as its client waits. Twice is once.
func (s *Store) Close() error {
	s.mu.Lock()
	first, said := !s.closed, s.beating
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
	if !first {
		return nil
	}
	s.hub.fail(errClosed())
	if said {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, _ = s.eval(ctx, s.run.goodbye, s.self) // who hears nothing of it sees the silence
	}
	return nil
}

// eval runs a script; the first argument of all is what the keys begin with.
func (s *Store) eval(ctx context.Context, script *redis.Script, args ...any) (any, error) {
	base := s.base()
	return s.cfg.Client.Eval(ctx, script, []string{base + "ev"}, append([]any{base}, args...)...)
}

func (s *Store) base() string { return s.cfg.Client.Prefix() + "t:" }

func missing(ref task.Ref) error { return errs.New(errs.NotFound, "there is no task %q", ref.ID) }
