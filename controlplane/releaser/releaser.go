// Package releaser performs what package release decides: it follows the view and the fleet, gathers what counts
// for an agent, steps its release and writes the outcome. It alone moves heads by itself; app runs one in the replica that leads, on
// a store that writes only while it does, and makes a new one for every term. A person's events (Apply, Rollback, Delete) are stepped
// by the spec API within its own transaction, not here: both write under the condition that the agent's head is the one they judged,
// so whoever loses judges again.
//
// It never talks to an instance except through Dropper, and keeps nothing that a restart would miss: every
// decision follows from the head, the view and the live instances.
package releaser

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// Dropper ends an instance's retry of a config: Command {drop} on its stream, and the instance counts as having refused it.
type Dropper interface {
	// Drop does not block and is safe for concurrent use. It does nothing for an instance that isn't connected or
	// no longer retries that config. A drop that is lost is asked for again.
	Drop(id snapshot.InstanceID, token manifest.Token)
}

// Config is what a Releaser works with. All but the durations and Workers are required.
type Config struct {
	View   *view.View
	Fleet  *fleet.Table
	Store  store.Store
	Drops  Dropper
	Logger *slog.Logger
	// Term is the number of the lead within which it works, which its move records carry; 0: none.
	Term int64
	// WriteTimeout bounds one write, default 5 s.
	WriteTimeout time.Duration
	// Workers is how many agents are judged at once, default 4.
	Workers int
}

// Bounds of the work.
const (
	defaultWriteTimeout = 5 * time.Second
	defaultWorkers      = 4
	backoffMin          = 50 * time.Millisecond
	backoffMax          = 5 * time.Second
	conflictWait        = 5 * time.Millisecond
	incompleteWait      = 250 * time.Millisecond
	dropAgain           = 10 * time.Second
	// restPerInstance is how long an agent rests between two looks, for each of its instances, at most restMax: while
	// thousands of instances answer one change, it is looked at five times a second and not for every answer.
	restPerInstance = 40 * time.Microsecond
	restMax         = 200 * time.Millisecond
	// Changes of instances are taken at once, but when they have been so often within a while, the next ones are gathered for as long:
	// thousands come one after the other.
	followMost = 16
	followRest = 5 * time.Millisecond
)

// Releaser judges agents. Make it with New.
type Releaser struct {
	cfg  Config
	work *queue
	memo memo
	// stirred is when instances of an agent were last seen to change, in nanoseconds since 1970.
	stirred atomic.Int64
	// buffers holds *[]fleet.Instance of former looks, servings *[]fleet.Serving.
	buffers, servings sync.Pool
	records           records
}

// New checks the configuration.
func New(cfg Config) (*Releaser, error) {
	if cfg.View == nil || cfg.Fleet == nil || cfg.Store == nil || cfg.Drops == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "releaser: view, fleet, store, drops and logger are required")
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = defaultWriteTimeout
	}
	if cfg.Workers <= 0 {
		cfg.Workers = defaultWorkers
	}
	return &Releaser{cfg: cfg, work: newQueue(), memo: memo{agents: map[view.AgentKey]*agentMemo{}}, records: newRecords()}, nil
}

// Run judges every agent once and then each whenever something about it changed, until ctx ends (nil). It outlives an
// unavailable store. It may be called once.
func (r *Releaser) Run(ctx context.Context) error {
	heads := r.cfg.View.SubscribeMoves()
	defer heads.Close()
	instances := r.cfg.Fleet.Subscribe()
	defer instances.Close()
	now := time.Now()
	for _, a := range r.cfg.View.Agents("") {
		r.work.add(view.AgentKey{Namespace: a.Namespace, Name: a.Head.Name}, now)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		r.follow(ctx, heads, instances)
		return nil
	})
	g.Go(func() error {
		r.recordAll(ctx)
		return nil
	})
	for range r.cfg.Workers {
		g.Go(func() error {
			for {
				key, ok := r.work.take(ctx)
				if !ok {
					return nil
				}
				r.work.done(key, r.look(ctx, key))
			}
		})
	}
	return g.Wait()
}

// follow turns changes and due times into work.
func (r *Releaser) follow(ctx context.Context, heads *view.Subscription, instances *fleet.Subscription) {
	timer, rest := time.NewTimer(time.Hour), time.NewTimer(time.Hour)
	defer timer.Stop()
	defer rest.Stop()
	ready, taken := instances.C, 0
	var since time.Time // when taken was 0
	for {
		now := time.Now()
		if next, ok := r.work.release(now); ok {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-r.work.rescheduled:
		case <-heads.C:
			keys, _ := heads.Take()
			r.work.addAll(keys, now)
		case <-rest.C:
			ready = instances.C
		case <-ready:
			if now.Sub(since) >= followRest {
				taken, since = 0, now
			}
			if taken++; taken == followMost {
				ready = nil
				rest.Reset(followRest)
			}
			changed := instances.Take()
			keys := make([]view.AgentKey, 0, len(changed))
			for _, k := range changed {
				if at, ok := r.cfg.View.Standing(k.Namespace, k.Name); ok {
					keys = append(keys, view.AgentKey{Namespace: k.Namespace, Name: at.Name})
				}
			}
			r.stirred.Store(now.UnixNano())
			r.work.addAll(keys, now)
		}
	}
}
