package peers

import (
	"context"
	"encoding/json"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
)

// Bounds of the registration.
const (
	holdWait    = 5 * time.Second // for one try
	releaseWait = 2 * time.Second
	registerMin = 100 * time.Millisecond // between two tries
	registerMax = 3 * time.Second
)

// register keeps this replica registered until ctx ends.
func (p *Peers) register(ctx context.Context) {
	value, err := json.Marshal(p.cfg.Self)
	if err != nil { // a struct of texts and a time
		p.cfg.Logger.LogAttrs(ctx, slog.LevelError, "this replica can't be registered", slog.Any("error", err))
		return
	}
	kv := store.KV{Key: view.ReplicaPrefix + p.cfg.Self.ID, Value: value}
	wait := registerMin
	for ctx.Err() == nil {
		held, err := p.hold(ctx, kv)
		if err != nil {
			p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "this replica can't be registered now", slog.Any("error", err), slog.Duration("retry_in", wait))
			pause(ctx, jitter(wait))
			wait = min(2*wait, registerMax)
			continue
		}
		wait = registerMin
		select {
		case <-ctx.Done():
			p.release(ctx, held)
			return
		case <-held.Lost():
			p.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "this replica's registration is lost: it registers anew")
			p.release(ctx, held)
			pause(ctx, jitter(wait))
		}
	}
}

func (p *Peers) hold(ctx context.Context, kv store.KV) (store.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, holdWait)
	defer cancel()
	return p.cfg.Leases.Hold(ctx, kv, p.cfg.TTL)
}

func (p *Peers) release(ctx context.Context, held store.Held) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseWait)
	defer cancel()
	if err := held.Release(ctx); err != nil {
		p.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "this replica's registration ends by itself", slog.Any("error", err))
	}
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// jitter gives between half of d and d.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // spreads load, guards nothing
}
