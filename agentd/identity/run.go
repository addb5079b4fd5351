package identity

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// Run gets the first identity where there is none, renews in time, and goes on until ctx ends. Nothing that goes wrong ends it: it is
// told in Status and tried again. It is called once.
func (k *Keeper) Run(ctx context.Context) error {
	defer close(k.done)
	for failures := 0; ; {
		err := k.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		failures = k.note(ctx, err, failures)
		doubts := k.doubts
		if failures > 0 {
			doubts = nil // it is being asked about already, at a pace
		}
		timer := time.NewTimer(k.next(failures))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-doubts:
			k.onDoubt()
		}
		timer.Stop()
	}
}

// onDoubt makes a renewal due, unless that was done a moment ago and didn't help.
func (k *Keeper) onDoubt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil && (!k.doubted || k.now.age(k.cfg.clock()) > k.cfg.pace.doubt) {
		k.doubtful = true
	}
}

// step does what is due.
func (k *Keeper) step(ctx context.Context) error {
	k.recycle()
	k.mu.Lock()
	h, doubtful := k.now, k.doubtful
	k.mu.Unlock()
	if h == nil {
		return k.enroll(ctx)
	}
	if !doubtful && h.age(k.cfg.clock()) < h.due {
		k.save(ctx)
		return nil
	}
	err := k.renew(ctx)
	if err == nil || !lost(err) || !k.cfg.Proof.set() {
		return err
	}
	if other := k.enroll(ctx); other != nil {
		return errors.Join(err, other)
	}
	return nil
}

// lost reports whether an identity was refused for what it is, so that only a proof helps.
func lost(err error) bool {
	var u *untrustedError
	return errors.As(err, &u) || errs.Is(err, errs.Unauthenticated) || errs.Is(err, errs.Denied)
}

// note tells what went wrong and counts it; it gives the failures in a row.
func (k *Keeper) note(ctx context.Context, err error, failures int) int {
	if err == nil {
		return 0
	}
	k.mu.Lock()
	h := k.now
	k.problem = err.Error()
	k.counts.failed++
	k.mu.Unlock()
	level := slog.LevelWarn
	if failures > 3 {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	if h != nil {
		attrs = append(attrs, slog.Time("not_after", h.doc.NotAfter), slog.Bool("expired", h.expired(k.cfg.clock())))
	}
	k.cfg.Log.LogAttrs(ctx, level, "no new identity", attrs...)
	return failures + 1
}

// next is how long to wait until the next step.
func (k *Keeper) next(failures int) time.Duration {
	h, p := k.current(), k.cfg.pace
	limit := p.retryMax
	if h != nil {
		limit = max(min(limit, h.life()/20), p.retryMin)
	}
	switch {
	case failures > 0:
		return p.retryMin/2 + rand.N(min(p.retryMin<<min(failures-1, 20), limit)) //nolint:gosec // spreads load
	case h == nil:
		return limit
	default:
		return max(min(h.due-h.age(k.cfg.clock()), p.look, h.life()/20), time.Millisecond)
	}
}
