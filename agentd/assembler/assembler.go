// Package assembler makes a config live: it builds everything a request needs beside the running set, probes it, commits it,
// swaps one pointer and drains the old set (semantics.md 5, 6, 9, 10). configclient hands it updates, run takes Runtimes from it.
// It never speaks to the control plane and knows no adapter: app plugs them in by the factories.
package assembler

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

const (
	defaultWallTime = 10 * time.Minute
	// maxOld is how many old sets may be alive (semantics.md 10).
	maxOld = 16
	// patience is how long a dependency that can't refuse is waited for (semantics.md 6).
	patience = time.Second
	// drainGrace is added to a set's wall time before its connections are closed under a request that overstays.
	drainGrace = 5 * time.Second
)

// Config is what an Assembler needs.
type Config struct {
	Namespace string
	// Capabilities are what this agentd can do; what a resource requires beyond them is answered not_supported.
	Capabilities []string
	// ModelBaseURL replaces every spec's model.baseUrl, which a WARNING says; empty: it doesn't.
	ModelBaseURL string
	// Permit judges a model's endpoint, which isn't probed, without connecting to it; it may look a name up for a moment, unless ctx has
	// ended. nil: all are fine.
	Permit func(ctx context.Context, url string) error
	// SigningKey says what is wrong with the key (PEM) of the A2A card; nil: every key is fine.
	SigningKey func(key secret.Value) error
	Models     ModelFactory
	Servers    ServerFactory
	Storages   StorageFactory
	Log        *slog.Logger
}

// Assembler holds the running set. Apply is called by one goroutine at a time, everything else by any.
type Assembler struct {
	cfg      Config
	models   *pool[endpoint]
	servers  *pool[Server]
	storages *pool[Storage]
	denied   denied

	current  atomic.Pointer[live]
	inFlight atomic.Int64
	reason   atomic.Pointer[string]
	health   chan configclient.Verdict
	kick     chan struct{}
	freed    chan struct{}
	stop     chan struct{}
	ended    func()
	wg       sync.WaitGroup

	mu        sync.Mutex // guards published, old and the change of current
	published configclient.Verdict
	old       int
}

var (
	_ configclient.Applier = (*Assembler)(nil)
	_ run.Source           = (*Assembler)(nil)
	_ run.Looker           = (*Assembler)(nil)
)

// New makes an Assembler that serves nothing yet. Run watches the health of what it serves; Close ends it.
func New(cfg Config) (*Assembler, error) {
	if cfg.Models == nil || cfg.Servers == nil || cfg.Storages == nil || cfg.Log == nil {
		return nil, errs.New(errs.Invalid, "assembler: factories and log are needed")
	}
	a := &Assembler{
		cfg: cfg, health: make(chan configclient.Verdict, 1), kick: make(chan struct{}, 1),
		freed: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	a.models = newPool(closeIfCloser[endpoint])
	a.storages = newPool(closeIfCloser[Storage])
	a.servers = newPool(func(s Server) {
		if err := s.Close(); err != nil {
			cfg.Log.LogAttrs(context.Background(), slog.LevelDebug, "close server client", slog.Any("error", err))
		}
	})
	a.ended = sync.OnceFunc(func() { close(a.stop) })
	why := "no config is applied yet"
	a.reason.Store(&why)
	return a, nil
}

func closeIfCloser[T any](v T) {
	if c, ok := any(v).(io.Closer); ok {
		_ = c.Close()
	}
}

// Apply makes u live. See configclient.Applier.
func (a *Assembler) Apply(ctx context.Context, u configclient.Update) (v configclient.Verdict) {
	start := time.Now()
	b := &build{a: a, u: u, running: a.runningSet(), next: newSet(u), self: manifest.KindAgent + "/?"}
	defer func() {
		if r := recover(); r != nil {
			a.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic while building", slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			b.discard()
			v = configclient.Verdict{Phase: phase.Rejected, Faults: []phase.Fault{{
				Resource: b.self, Code: phase.Invalid, Severity: phase.Error, Message: fmt.Sprintf("panic while building: %v", r),
			}}}
		}
		v.Took = time.Since(start)
	}()
	if refusal, ok := b.run(ctx); !ok {
		b.discard()
		return refusal
	}
	if err := a.room(ctx); err != nil {
		b.discard()
		return retry(phase.Fault{Resource: b.self, Code: phase.Timeout, Message: err.Error()})
	}
	// gofail: var afterBuildBeforePersist struct{}
	// go panic("failpoint afterBuildBeforePersist")
	// select {}

	switch err := u.Commit(ctx); {
	case errIsFenced(err):
		b.discard()
		return configclient.Verdict{Phase: phase.Fenced}
	case err != nil:
		b.next.persist = []phase.Fault{{Resource: b.self, Code: phase.NotPersisted, Severity: phase.Error, Message: err.Error()}}
	}
	// gofail: var betweenPersistAndSwap struct{}
	// go panic("failpoint betweenPersistAndSwap")
	// select {}

	return a.swap(b)
}

// room waits until another old set may be alive.
func (a *Assembler) room(ctx context.Context) error {
	for {
		a.mu.Lock()
		full := a.old >= maxOld
		a.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return err
		}
		if !full {
			return nil
		}
		select {
		case <-a.freed:
		case <-ctx.Done():
			return fmt.Errorf("%d old configs are still draining", maxOld)
		}
	}
}

// swap makes the built set the current one and lets the old one drain.
func (a *Assembler) swap(b *build) configclient.Verdict {
	b.settle()
	next := &live{set: b.next, runtime: b.next.runtime, token: b.u.Token}
	a.mu.Lock()
	old := a.current.Swap(next)
	v := verdictOf(b.next)
	a.publishLocked(v, false)
	if old != nil {
		a.old++
	}
	a.mu.Unlock()
	if old != nil {
		a.retire(old.set)
	}
	return v
}

// retire lets a set drain: its clients are released when its last request ended, at the latest when that request's
// wall time is over.
func (a *Assembler) retire(s *set) {
	s.leave()
	a.wg.Go(func() {
		limit := time.NewTimer(s.wallTime + drainGrace)
		defer limit.Stop()
		select {
		case <-s.idle:
		case <-limit.C:
		case <-a.stop:
		}
		s.close()
		a.mu.Lock()
		a.old--
		a.mu.Unlock()
		select {
		case a.freed <- struct{}{}:
		default:
		}
	})
}

// Restamp names the running set anew: an equal hash under a newer token.
func (a *Assembler) Restamp(t manifest.Token, revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.current.Load()
	if l == nil || l.token.Hash != t.Hash {
		return
	}
	rt := *l.runtime
	rt.Revision, rt.Config = revision, manifest.ConfigName(revision, t.Hash)
	a.current.Store(&live{set: l.set, runtime: &rt, token: t})
}

// Withdraw ends serving until the next Apply; running requests end on the old set.
func (a *Assembler) Withdraw(reason string) {
	a.reason.Store(&reason)
	a.mu.Lock()
	old := a.current.Swap(nil)
	if old != nil {
		a.old++
	}
	a.mu.Unlock()
	if old != nil {
		a.retire(old.set)
	}
}

// SetDenied switches tools off at once, in running requests too.
func (a *Assembler) SetDenied(names []string) { a.denied.set(names) }

// Acquire gives the current Runtime. See run.Source.
func (a *Assembler) Acquire() (*run.Runtime, func(), error) {
	l, err := a.enter()
	if err != nil {
		return nil, nil, err
	}
	n := a.inFlight.Add(1)
	if limit := l.set.concurrency(); limit > 0 && n > int64(limit) {
		a.inFlight.Add(-1)
		l.set.leave()
		return nil, nil, errs.New(errs.Exhausted, "limits.concurrency: %d requests are running", limit)
	}
	return l.runtime, sync.OnceFunc(func() {
		a.inFlight.Add(-1)
		l.set.leave()
	}), nil
}

// Look gives the current Runtime to who makes no request of it. See run.Looker.
func (a *Assembler) Look() (*run.Runtime, func(), error) {
	l, err := a.enter()
	if err != nil {
		return nil, nil, err
	}
	return l.runtime, sync.OnceFunc(l.set.leave), nil
}

// enter counts a user of the current set in.
func (a *Assembler) enter() (*live, error) {
	for {
		l := a.current.Load()
		if l == nil {
			return nil, errs.New(errs.Unavailable, "%s", *a.reason.Load())
		}
		if l.set.enter() {
			return l, nil
		} // else it was swapped out and drained since it was read
	}
}

// InFlight is how many requests run now.
func (a *Assembler) InFlight() int { return int(a.inFlight.Load()) }

// Serving reports whether there is a config to serve, and why not.
func (a *Assembler) Serving() (reason string, ok bool) {
	if a.current.Load() == nil {
		return *a.reason.Load(), false
	}
	return "", true
}

// Close closes every client, under running requests too: drain first. Apply must not be running. Twice is once.
func (a *Assembler) Close() {
	a.Withdraw("shutting down")
	a.ended()
	a.wg.Wait()
}

func (a *Assembler) runningSet() *set {
	if l := a.current.Load(); l != nil {
		return l.set
	}
	return nil
}

func (s *set) concurrency() int {
	if s.agent.Limits == nil {
		return 0
	}
	return s.agent.Limits.Concurrency
}
