package view

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Bounds of the loop that follows the store.
const (
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Config says what a View follows.
type Config struct {
	Store  store.Store
	Logger *slog.Logger
}

// View is everything under Root at one store revision. All methods are safe for concurrent use. What readers get
// is their own, but for snapshot.Heads, blobs and settings, which are shared and must not be changed.
type View struct {
	store store.Store
	log   *slog.Logger

	mu       sync.RWMutex
	revision int64
	changed  chan struct{} // closed and replaced at every batch
	subs     map[*Subscription]struct{}
	stats    Stats
	index

	decoded, parsed, fetched atomic.Int64 // counted without the lock
}

// Stats counts what the view holds and what happened to it.
type Stats struct {
	Revision    int64
	Keys        int
	Agents      int // tombstones included, as in the heads below
	Prompts     int
	MCP         int
	Credentials int
	Blobs       int
	BlobBytes   int64 // in memory because a head names them
	Applied     int
	Refusals    int
	Batches     int64 // applied since Open
	Events      int64
	Relists     int64
	Breaks      int64 // ends of the watch that were not asked for
	Undecodable int64 // records and specs left out
	// What it took: a change costs what it touches.
	Decoded int64 // records decoded
	Parsed  int64 // agents' specs read for what they refer to
	Fetched int64 // blobs read from the store on demand
	Touched int64 // agents that changes concerned
}

// Open loads everything under Root at one store revision.
func Open(ctx context.Context, cfg Config) (*View, error) {
	v := &View{
		store:   cfg.Store,
		log:     cfg.Logger,
		changed: make(chan struct{}),
		subs:    map[*Subscription]struct{}{},
		index:   newIndex(),
	}
	if err := v.relist(ctx); err != nil {
		return nil, err
	}
	return v, nil
}

// Run follows the store until ctx ends, and answers nil then. It outlives outages and compactions; the one error it
// answers is Precondition, when the store went back behind what this view has shown.
func (v *View) Run(ctx context.Context) error {
	wait := backoffMin
	for {
		before := v.Revision()
		err := v.store.Watch(ctx, Root, before, func(b store.Batch) error { return v.apply(ctx, b) })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how Run is asked to end
		}
		v.count(func(s *Stats) { s.Breaks++ })
		if errs.Is(err, errs.OutOfRange) {
			v.log.LogAttrs(ctx, slog.LevelInfo, "view lists again: its revision was compacted", slog.Int64("revision", before))
			err = v.relist(ctx)
			if errs.Is(err, errs.Precondition) {
				return err
			}
		}
		if v.Revision() > before {
			wait = backoffMin
		}
		if err != nil {
			v.log.LogAttrs(ctx, slog.LevelWarn, "view lost the store", slog.Any("error", err), slog.Duration("retry_in", wait))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, backoffMax)
	}
}

// Revision is the store revision that the view shows.
func (v *View) Revision() int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// WaitFor waits until the view shows revision rev or a later one, or ctx ends (Timeout or Canceled).
func (v *View) WaitFor(ctx context.Context, rev int64) error {
	for {
		v.mu.RLock()
		at, changed := v.revision, v.changed
		v.mu.RUnlock()
		if at >= rev {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errs.New(errs.KindOf(ctx.Err()), "view at revision %d, wanted %d: %w", at, rev, ctx.Err())
		}
	}
}

// Stats gives the counts as of now.
func (v *View) Stats() Stats {
	v.mu.RLock()
	defer v.mu.RUnlock()
	s := v.stats
	s.Revision = v.revision
	s.Agents, s.Prompts, s.MCP, s.Credentials = len(v.agents), len(v.prompts), len(v.mcp), len(v.credentials)
	s.Blobs, s.BlobBytes = len(v.blobs.known), v.blobs.bytes
	s.Applied = v.appliedCount
	s.Keys = s.Agents + s.Prompts + s.MCP + s.Credentials + s.Blobs + s.Applied + len(v.moves.byKey) + len(v.mods)
	for _, r := range v.refusals {
		s.Refusals += len(r)
	}
	s.Decoded, s.Parsed, s.Fetched = v.decoded.Load(), v.parsed.Load(), v.fetched.Load()
	return s
}

func (v *View) count(f func(*Stats)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.stats)
}
