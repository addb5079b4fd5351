package stream

import (
	"context"
	"log/slog"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// restored is why streams end when an era does.
const restored = "restore"

// restoreSpread is the least time over which instances come back after a restore: the view of every replica has ended it by then.
const restoreSpread = time.Second

// errRestoring refuses streams while a restore is under way.
func errRestoring() error {
	return errs.New(errs.Unavailable, "a backup is being brought back: come again")
}

// whole says whether no restore is under way.
func (h *Hub) whole() bool { return h.cfg.View.Cluster().Restoring == nil }

// Renew ends every stream because the era ended: a restore began, or a new epoch did. What instances have seen in another epoch says
// nothing about the store any more, so the alarms that it raised end with it.
func (h *Hub) Renew() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.back || len(h.ahead) > 0 {
		h.back = false
		clear(h.ahead)
		h.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "STORE_WENT_BACK is over: a new epoch began")
	}
	spread := max(restoreSpread, h.spread(h.streams))
	for _, c := range h.early {
		c.stop(end{goaway: goaway(restored, spread)})
	}
	for _, conns := range h.agents {
		for _, c := range conns {
			c.stop(end{goaway: goaway(restored, spread)})
		}
	}
}

// ofEra says whether a config may be sent over a stream: it is of the epoch that the stream was welcomed to. One of an earlier epoch
// waits for the publisher, which is on its way; one of a later ends the stream, whose instance must be welcomed anew.
func (c *conn) ofEra(r *snapshot.Rendered) bool {
	welcomed := c.epoch.Load()
	if welcomed != 0 && r.Snapshot.Token.Epoch > welcomed {
		c.stop(end{goaway: goaway(restored, restoreSpread)})
	}
	return r.Snapshot.Token.Epoch == welcomed
}

// restoringAlarm says what is under way.
func restoringAlarm(r *view.Restoring) string {
	return "RESTORING: a restore by " + r.By + " began at " + r.Began.UTC().Format(time.RFC3339) + " on replica " + r.Replica +
		" and has not ended; nothing is pushed or written (if it was broken off, run agentctl cluster restore again)"
}
