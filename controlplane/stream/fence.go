package stream

import (
	"context"
	"log/slog"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
)

// behind compares an instance's fence with what we know (semantics.md 4). Within one cluster and epoch an instance that is
// ahead of our view waits for it, or is sent away for a moment; one that is ahead of the store itself is refused.
func (h *Hub) behind(ctx context.Context, in introduction) (*pushv1.Goaway, error) {
	cluster := h.cfg.View.Cluster()
	if in.fence.ClusterID != cluster.ID || in.fence.Epoch < cluster.Epoch {
		return nil, nil //nolint:nilnil // nothing to compare and nothing wrong
	}
	wait, cancel := context.WithTimeout(ctx, h.cfg.BehindWait)
	defer cancel()
	if in.fence.Epoch > cluster.Epoch {
		return goaway("replica is behind: epoch", h.cfg.BehindWait), nil
	}
	if at := h.cfg.View.Revision(); in.fence.Generation <= at {
		return nil, h.fell(ctx, in, at)
	}
	newest, err := h.cfg.Newest(wait)
	if err != nil {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "store can't be asked for its newest revision", slog.Any("error", err))
		return goaway("replica is behind and the store is away", h.cfg.BehindWait), nil
	}
	if in.fence.Generation > newest {
		return nil, h.wentBack(ctx, in, newest)
	}
	if err := h.cfg.View.WaitFor(wait, in.fence.Generation); err != nil {
		return goaway("replica is behind", h.cfg.BehindWait), nil
	}
	return nil, h.fell(ctx, in, newest)
}

// fell finds a store that went back and was written further since: an agent's generation never falls within an epoch, so one below
// what its instance has seen is of another history, however great the store's revision is now.
func (h *Hub) fell(ctx context.Context, in introduction, newest int64) error {
	if h.cfg.Generation == nil {
		return nil
	}
	g, ok := h.cfg.Generation(in.ID.Namespace, in.ID.Agent)
	if !ok || g >= in.fence.Generation {
		return nil
	}
	return h.wentBack(ctx, in, newest)
}

// wentBack raises the alarm: an instance has seen what the store no longer holds.
func (h *Hub) wentBack(ctx context.Context, in introduction, newest int64) error {
	h.mu.Lock()
	h.ahead[in.ID.Namespace+"/"+in.ID.Agent] = true
	h.back = h.back || len(h.ahead) >= 2
	stopped := h.back
	h.mu.Unlock()
	h.cfg.Logger.LogAttrs(ctx, slog.LevelError, "STORE_WENT_BACK: an instance has seen a newer generation than the store holds",
		slog.String("namespace", in.ID.Namespace), slog.String("agent", in.ID.Agent), slog.String("instance", in.ID.Instance),
		slog.Int64("generation", in.fence.Generation), slog.Int64("store_revision", newest), slog.Bool("push_stopped", stopped))
	return errs.New(errs.Precondition,
		"STORE_WENT_BACK: this instance has seen generation %d, the store is at revision %d", in.fence.Generation, newest)
}

// greetWait bounds the one write that the first Hello ever causes.
const greetWait = 2 * time.Second

// greet notes the first Hello in the store. While it can't, instances are served all the same and the next one tries.
func (h *Hub) greet(ctx context.Context) {
	h.mu.RLock()
	done := h.hello || h.cfg.View.Cluster().Greeted
	h.mu.RUnlock()
	if done || !h.greeted.TryLock() {
		return
	}
	defer h.greeted.Unlock()
	ctx, cancel := context.WithTimeout(ctx, greetWait)
	defer cancel()
	if err := h.cfg.Greet(ctx); err != nil {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "first hello can't be noted in the store", slog.Any("error", err))
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hello = true
}
