// Package collector removes from the store what nothing refers to any more: immutable bytes, and per agent or head the oldest
// applied configs, refusals and move records (semantics.md 12). app runs it in the replica that leads, on a store that writes only
// while it does. It never touches a head, and it deletes nothing that was written or referred to since it looked.
package collector

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// The defaults and bounds of a Config.
const (
	DefaultEvery = 10 * time.Minute
	DefaultAge   = time.Hour
	DefaultPause = 100 * time.Millisecond
	DefaultKeep  = 100
	// KeepMoves is how many move records of one head are kept: as many as the view shows.
	KeepMoves = 200

	pageSize  = 500
	batch     = 64 // deletes of one transaction
	maxRounds = 200
	storeWait = 10 * time.Second
)

// Running gives the configs that instances run now; ok is false while some may not be known.
type Running func() (configs map[manifest.Hash]bool, ok bool)

// Config is what New needs. Durations and counts that are zero mean the defaults.
type Config struct {
	Running Running
	Logger  *slog.Logger
	Now     func() time.Time // nil: time.Now

	Every time.Duration // between two looks, default 10 min
	Age   time.Duration // how long bytes must have been unused, default 1 h
	Pause time.Duration // between two transactions, default 100 ms
	Keep  int           // applied configs and refusals of one agent, default 100
}

// Stats counts what was removed since the start.
type Stats struct{ Blobs, Applied, Refusals, Moves uint64 }

// Collector looks through the store now and then. Run and Collect are for one goroutine; Stats may be called by any.
type Collector struct {
	cfg    Config
	unused map[string]sighting // blob key -> since when it was seen unused

	blobs, applied, refusals, moves atomic.Uint64
}

// sighting is when a blob, as written at mod, was first found unused.
type sighting struct {
	mod int64
	at  time.Time
}

// New makes a Collector.
func New(cfg Config) (*Collector, error) {
	if cfg.Running == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "collector: running and logger are needed")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	fill(&cfg.Every, DefaultEvery)
	fill(&cfg.Age, DefaultAge)
	fill(&cfg.Pause, DefaultPause)
	fill(&cfg.Keep, DefaultKeep)
	return &Collector{cfg: cfg, unused: map[string]sighting{}}, nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Stats gives the counters.
func (c *Collector) Stats() Stats {
	return Stats{Blobs: c.blobs.Load(), Applied: c.applied.Load(), Refusals: c.refusals.Load(), Moves: c.moves.Load()}
}

// Run collects in s until ctx ends. A store that is away is tried again at the next turn. It may be called again after it ended.
func (c *Collector) Run(ctx context.Context, s store.Store) error {
	t := time.NewTicker(c.cfg.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		before := c.Stats()
		err := c.Collect(ctx, s)
		now := c.Stats()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			c.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "collection broken off", slog.Any("error", err))
		case now != before:
			c.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "unused records removed", slog.Uint64("blobs", now.Blobs-before.Blobs),
				slog.Uint64("applied", now.Applied-before.Applied), slog.Uint64("refusals", now.Refusals-before.Refusals),
				slog.Uint64("moves", now.Moves-before.Moves))
		}
	}
}

// Collect looks through a store once and removes what it may.
func (c *Collector) Collect(ctx context.Context, in store.Store) error {
	s, err := c.survey(ctx, in)
	if err != nil {
		return err
	}
	remove := func(list []deletion, count *atomic.Uint64) error { return c.remove(ctx, in, list, count) }
	running, known := c.cfg.Running()
	if known { // else an instance that isn't back yet may run an old config
		if err := remove(s.oldApplied(running, c.cfg.Keep), &c.applied); err != nil {
			return err
		}
	}
	if err := remove(s.oldRefusals(c.cfg.Keep), &c.refusals); err != nil {
		return err
	}
	if err := remove(s.oldMoves(), &c.moves); err != nil {
		return err
	}
	return remove(c.ripe(s), &c.blobs)
}

// ripe gives the blobs that were unused, and not written again, for long enough.
func (c *Collector) ripe(s *survey) []deletion {
	now := c.cfg.Now()
	seen := make(map[string]sighting, len(s.blobs))
	var out []deletion
	for _, b := range s.blobs {
		if s.used[b.hash] {
			continue
		}
		first, ok := c.unused[b.key]
		if !ok || first.mod != b.mod {
			first = sighting{mod: b.mod, at: now}
		}
		seen[b.key] = first
		if now.Sub(first.at) >= c.cfg.Age {
			out = append(out, deletion{key: b.key, conds: []store.Cond{{Key: b.key, ModRevision: b.mod}}})
		}
	}
	c.unused = seen
	return out
}

// deletion removes one key, if the conditions hold.
type deletion struct {
	key   string
	conds []store.Cond
}

// remove deletes in batches. A batch of which something was written meanwhile is left for the next look.
func (c *Collector) remove(ctx context.Context, in store.Store, list []deletion, count *atomic.Uint64) error {
	pause := time.NewTimer(c.cfg.Pause)
	defer pause.Stop()
	for round := 0; len(list) > 0 && round < maxRounds; round++ {
		n := min(batch, len(list))
		t := store.Txn{}
		known := map[store.Cond]bool{}
		for _, d := range list[:n] {
			t.Deletes = append(t.Deletes, d.key)
			for _, cond := range d.conds {
				if !known[cond] {
					known[cond] = true
					t.If = append(t.If, cond)
				}
			}
		}
		list = list[n:]
		bounded, cancel := context.WithTimeout(ctx, storeWait)
		_, err := in.Commit(bounded, t)
		cancel()
		switch {
		case err == nil:
			count.Add(uint64(n))
		case !errs.Is(err, errs.Conflict):
			return err
		}
		pause.Reset(c.cfg.Pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
	return nil
}
