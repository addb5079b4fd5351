package mcptool

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/tool"
)

// supervise owns the connection: nobody else connects, lists or retires.
func (s *Server) supervise(ctx context.Context) {
	defer close(s.done)
	failures := 0
	var ended time.Time
	var last error
	attempt := func() error {
		err := s.connect(ctx)
		ended, last = time.Now(), err
		if err != nil {
			failures++
		} else {
			failures = 0
		}
		return err
	}
	defer func() { s.retire(s.conn.Load(), true) }()
	_ = attempt() // the error is in Health
	for {
		timer := time.NewTimer(s.pause(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case p := <-s.probes:
			switch cur := s.conn.Load(); {
			case cur != nil && cur != p.stale:
				p.reply <- nil
			case ended.After(p.asked): // the attempt that was under way
				p.reply <- last
			default:
				p.reply <- attempt()
			}
		case <-s.kick:
			if cur := s.conn.Load(); cur == nil || s.refresh(ctx, cur) != nil {
				_ = attempt()
			}
		case <-timer.C:
			if cur := s.conn.Load(); cur == nil || s.refresh(ctx, cur) != nil {
				_ = attempt()
			}
		}
		timer.Stop()
	}
}

func (s *Server) pause(failures int) time.Duration {
	if failures == 0 {
		return s.cfg.Poll
	}
	d := s.cfg.MinBackoff << min(failures-1, 16)
	if d <= 0 || d > s.cfg.MaxBackoff {
		d = s.cfg.MaxBackoff
	}
	return d/2 + rand.N(d/2+1) // #nosec G404 -- jitter
}

// look makes the supervisor check the server soon.
func (s *Server) look() {
	select {
	case s.kick <- struct{}{}:
	default: // a look is already due
	}
}

// connect replaces the connection: the old one, if any, answers its running calls and closes.
func (s *Server) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	var last error
	for _, e := range s.order() {
		c, err := s.dial(ctx, e)
		if err == nil {
			var defs []definition
			if defs, err = c.list(ctx); err == nil {
				old := s.conn.Swap(c)
				s.retire(old, false)
				s.publish(defs, Health{Healthy: true, Tried: true})
				return nil
			}
			s.retire(c, true)
		}
		last = err
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return errClosed
	}
	s.retire(s.conn.Swap(nil), false)
	fault := s.fault(last)
	s.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "mcp server not connected", slog.String("server", s.cfg.Name), slog.String("error", fault.Error()))
	s.publish(nil, Health{Tried: true, Code: fault.Code, Err: fault.Err.Error()})
	return fault
}

// refresh looks at the tool list again.
func (s *Server) refresh(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ConnectTimeout)
	defer cancel()
	defs, err := c.list(ctx)
	if err != nil {
		return err
	}
	s.publish(defs, Health{Healthy: true, Tried: true})
	return nil
}

// publish shows tools and health, and tells of a change. A tool that did not change keeps its identity.
func (s *Server) publish(defs []definition, h Health) {
	before := *s.tools.Load()
	after := make([]tool.Tool, 0, len(defs))
	for _, d := range defs {
		i := slices.IndexFunc(before, func(t tool.Tool) bool {
			mt, ok := t.(*Tool)
			return ok && mt.digest == d.digest
		})
		if i >= 0 {
			after = append(after, before[i])
			continue
		}
		after = append(after, newTool(s, d))
	}
	slices.SortFunc(after, byName)
	same := slices.Equal(before, after) && *s.health.Load() == h
	if same {
		return
	}
	s.tools.Store(&after)
	s.health.Store(&h)
	s.cfg.OnChange()
}

// retire closes c once nobody calls through it; now: at once.
func (s *Server) retire(c *conn, now bool) {
	if c == nil {
		return
	}
	s.conn.CompareAndSwap(c, nil)
	s.closing.Go(func() {
		if !now {
			select {
			case <-c.idle(s.cfg.Timeout):
			case <-s.quit:
			}
		}
		c.close()
	})
}

// order gives the endpoints, a heavier one earlier more often. One of weight 0 comes after every other.
func (s *Server) order() []Endpoint {
	if len(s.cfg.Endpoints) == 1 {
		return s.cfg.Endpoints
	}
	rest := slices.Clone(s.cfg.Endpoints)
	out := make([]Endpoint, 0, len(rest))
	for {
		sum := 0
		for _, e := range rest {
			sum += max(e.Weight, 0)
		}
		if sum == 0 {
			return append(out, rest...)
		}
		n := rand.IntN(sum) // #nosec G404 -- balance
		i := 0
		for ; n >= max(rest[i].Weight, 0); i++ {
			n -= max(rest[i].Weight, 0)
		}
		out = append(out, rest[i])
		rest = slices.Delete(rest, i, i+1)
	}
}
