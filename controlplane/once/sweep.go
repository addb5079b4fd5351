package once

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// Keep is how long at least a call may be asked again under its key, and no try of it may be under way any more.
const Keep = time.Hour

const (
	sweepEvery = 5 * time.Minute
	sweepPage  = 500
	sweepBatch = 100
	sweepWait  = 10 * time.Second
	sweepPause = 50 * time.Millisecond
)

// Sweeper removes records of calls that are older than Keep. It goes by store revisions that it saw and by its own clock, so a new one
// removes nothing before Keep has passed. Run is for one goroutine; Swept may be called by any.
type Sweeper struct {
	log   *slog.Logger
	now   func() time.Time
	marks []mark // oldest first: at most Keep/sweepEvery and one
	swept atomic.Uint64
}

// mark says that everything up to a revision was there at a time.
type mark struct {
	revision int64
	at       time.Time
}

// NewSweeper makes a Sweeper; now is time.Now outside tests.
func NewSweeper(log *slog.Logger, now func() time.Time) (*Sweeper, error) {
	if log == nil || now == nil {
		return nil, errs.New(errs.Invalid, "once: a sweeper needs a logger and a clock")
	}
	return &Sweeper{log: log, now: now}, nil
}

// Swept counts the records that were removed since the start.
func (w *Sweeper) Swept() uint64 { return w.swept.Load() }

// Run sweeps s until ctx ends (nil). It may be called again after it ended.
func (w *Sweeper) Run(ctx context.Context, s store.Store) error {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		if err := w.Sweep(ctx, s); err != nil && ctx.Err() == nil {
			w.log.LogAttrs(ctx, slog.LevelWarn, "records of calls not removed", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Sweep removes once what is old.
func (w *Sweeper) Sweep(ctx context.Context, s store.Store) error {
	bounded, cancel := context.WithTimeout(ctx, sweepWait)
	revision, err := s.Commit(bounded, store.Txn{})
	cancel()
	if err != nil {
		return err
	}
	now := w.now()
	w.marks = append(w.marks, mark{revision: revision, at: now})
	old := int64(0)
	for len(w.marks) > 0 && now.Sub(w.marks[0].at) >= Keep {
		old = w.marks[0].revision
		w.marks = w.marks[1:]
	}
	if old == 0 {
		return nil
	}
	// What is left of a sweep that breaks off is older than the next mark too.
	return w.remove(ctx, s, old)
}

// remove deletes the records up to a revision.
func (w *Sweeper) remove(ctx context.Context, s store.Store, old int64) error {
	opts := store.ListOptions{Limit: sweepPage, KeysOnly: true}
	for {
		bounded, cancel := context.WithTimeout(ctx, sweepWait)
		page, err := s.List(bounded, view.OncePrefix, opts)
		cancel()
		if err != nil {
			return err
		}
		var batch []store.KV
		for i, kv := range page.KVs {
			if kv.ModRevision <= old {
				batch = append(batch, kv)
			}
			if len(batch) == sweepBatch || len(batch) > 0 && i == len(page.KVs)-1 {
				if err := w.drop(ctx, s, batch); err != nil {
					return err
				}
				batch = nil
			}
		}
		if page.Next == "" {
			return nil
		}
		opts.From = page.Next
	}
}

// drop deletes a batch, and pauses, so that others' writes come in between.
func (w *Sweeper) drop(ctx context.Context, s store.Store, batch []store.KV) error {
	var t store.Txn
	for _, kv := range batch {
		t.Deletes = append(t.Deletes, kv.Key)
	}
	bounded, cancel := context.WithTimeout(ctx, sweepWait)
	defer cancel()
	if _, err := s.Commit(bounded, t); err != nil {
		return err
	}
	w.swept.Add(uint64(len(batch)))
	pause := time.NewTimer(sweepPause)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-pause.C:
		return nil
	}
}
