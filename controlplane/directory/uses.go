package directory

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	useEvery   = time.Hour   // how exactly last used is kept
	flushEvery = time.Minute // how often it is written
	sweepEvery = time.Hour   // how often what has ended is removed
	// keepEnded is how long a token is kept after it expired, so that its owner hears why it doesn't count.
	keepEnded = 24 * time.Hour
	maxUses   = 10_000
	// keepProofs is how long it is remembered that a proof made a session: longer than any proof holds, also by the clock of another
	// replica than the one that forgets it.
	keepProofs = 24 * time.Hour
)

// uses are the tokens that were used and whose records don't say so yet. When it is full, further ones wait for a later use.
type uses struct {
	mu  sync.Mutex
	ids map[string]time.Time // guarded by mu
}

func newUses() *uses { return &uses{ids: map[string]time.Time{}} }

func (u *uses) note(t *token, now time.Time) {
	if now.Sub(t.LastUsed) < useEvery {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, ok := u.ids[t.ID]; ok || len(u.ids) < maxUses {
		u.ids[t.ID] = now
	}
}

func (u *uses) take() map[string]time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ids) == 0 {
		return nil
	}
	out := u.ids
	u.ids = map[string]time.Time{}
	return out
}

// keep writes uses and removes what has ended, until ctx ends. A store that doesn't answer is met again at the next turn.
func (d *Directory) keep(ctx context.Context) error {
	flush, sweep := time.NewTicker(flushEvery), time.NewTicker(sweepEvery)
	defer flush.Stop()
	defer sweep.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-flush.C:
			err = d.flush(ctx)
		case <-sweep.C:
			err = d.sweep(ctx)
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "tokens weren't kept up", slog.Any("error", err))
		}
	}
}

// flush writes when tokens were used last. Each is a write of its own: one that lost its race says nothing of the others.
func (d *Directory) flush(ctx context.Context) error {
	for id, at := range d.used.take() {
		row, ok := d.tokens.Get(id)
		if !ok || at.Sub(row.Value.LastUsed) < useEvery {
			continue
		}
		next := *row.Value
		next.LastUsed = at.UTC().Truncate(useEvery)
		if err := d.commit(ctx, next.put(row.ModRevision), d.tokens); err != nil && !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	return nil
}

// sweep removes tokens that expired a while ago, and their names.
func (d *Directory) sweep(ctx context.Context) error {
	rows, _ := d.tokens.All()
	for _, row := range rows {
		if d.cfg.Now().Sub(row.Value.Expires) < keepEnded {
			continue
		}
		if err := d.remove(ctx, row.Value); err != nil && !errs.Is(err, errs.Conflict) {
			return err
		}
	}
	return d.forget(ctx)
}

// forget removes proofs that wouldn't hold any more.
func (d *Directory) forget(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	opts := store.ListOptions{Limit: 500}
	for {
		page, err := d.cfg.Store.List(ctx, proofPrefix, opts)
		if err != nil {
			return err
		}
		var txn store.Txn
		for _, kv := range page.KVs {
			var at time.Time
			if err := json.Unmarshal(kv.Value, &at); err != nil || d.cfg.Now().Sub(at) > keepProofs {
				txn.Deletes = append(txn.Deletes, kv.Key)
			}
		}
		if len(txn.Deletes) > 0 {
			if _, err := d.cfg.Store.Commit(ctx, txn); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		opts.From, opts.Revision = page.Next, page.Revision
	}
}
