package stream

import (
	"context"
	"log/slog"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
)

// Caller is whose certificate opened a stream. The stream is this agent's alone, and ends with the certificate.
type Caller struct {
	// ID is who it is. An empty instance is any instance of the agent.
	ID snapshot.InstanceID
	// Until is when the certificate runs out.
	Until time.Time
	// Check says why the certificate doesn't count any more; nil: it does. It does no I/O.
	Check func() error
}

// Identify gives the caller of a new stream. Errors end the stream.
type Identify func(ctx context.Context) (Caller, error)

// refuses says why the caller may not speak for an instance.
func (c Caller) refuses(id snapshot.InstanceID) error {
	if c.ID.Namespace != id.Namespace || c.ID.Agent != id.Agent || (c.ID.Instance != "" && c.ID.Instance != id.Instance) {
		return errs.New(errs.Denied, "this certificate is of %s/%s, instance %q: it opens no stream of %s/%s, instance %q",
			c.ID.Namespace, c.ID.Agent, c.ID.Instance, id.Namespace, id.Agent, id.Instance)
	}
	return c.Check()
}

// Recheck ends the streams of callers whose certificate doesn't count any more. It is called when that may have changed.
func (h *Hub) Recheck() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, c := range h.early {
		h.recheck(c)
	}
	for _, conns := range h.agents {
		for _, c := range conns {
			h.recheck(c)
		}
	}
}

func (h *Hub) recheck(c *conn) {
	if err := c.caller.Check(); err != nil {
		h.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, "stream is cut", slog.String("namespace", c.caller.ID.Namespace),
			slog.String("agent", c.caller.ID.Agent), slog.String("instance", c.caller.ID.Instance), slog.Any("error", err))
		c.stop(end{err: err})
	}
}

// introducing names a stream that hasn't said who it is: by its caller, or by itself where any instance may come.
type introducing struct {
	id snapshot.InstanceID
	c  *conn // nil where the caller is one instance
}

func (c *conn) introducing() introducing {
	if c.caller.ID.Instance == "" {
		return introducing{id: c.caller.ID, c: c}
	}
	return introducing{id: c.caller.ID}
}

// begins counts a stream that hasn't said who it is. With the one that it will replace there are then two of an identity and
// instance; a third sends the older of those that haven't introduced themselves away. So whoever comes back over a connection
// that is half open is never refused.
func (h *Hub) begins(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := c.introducing()
	if old := h.early[k]; old != nil {
		old.stop(end{err: errs.New(errs.Unavailable, "a newer stream of this instance came")})
	}
	h.early[k] = c
}

// begun ends what begins began.
func (h *Hub) begun(c *conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := c.introducing(); h.early[k] == c {
		delete(h.early, k)
	}
}

// left gives how long the caller's certificate counts, and at most d.
func (c *conn) left(d time.Duration) time.Duration {
	return min(d, max(0, time.Until(c.caller.Until)))
}

// ranOut ends a stream whose certificate has run out; the instance comes back with a newer one.
func (c *conn) ranOut() bool { return !time.Now().Before(c.caller.Until) }

// admits says whether a caller may introduce itself as an instance. That it asked for another's is told.
func (h *Hub) admits(ctx context.Context, c *conn, id snapshot.InstanceID) error {
	err := c.caller.refuses(id)
	if errs.Is(err, errs.Denied) && h.cfg.Denied != nil {
		h.cfg.Denied(ctx, c.caller, id, err)
	}
	return err
}
