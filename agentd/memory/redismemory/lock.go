package redismemory

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
)

// How requests wait for a session that another process answers.
const (
	firstWait  = 5 * time.Millisecond // between two questions, growing by half
	longestGap = 100 * time.Millisecond
	silence    = 2 * time.Second // after which a waiter that asks no more counts as gone
	fenceTTL   = 24 * time.Hour  // longer than any request takes
)

// hold is a session that this process has entered.
type hold struct {
	ticket string
	fence  int64
	names  keys
	lost   bool // another process was let in; guarded by store.mu
	waited bool // for a server that was gone, once; guarded by store.mu
}

func takenOver() error {
	return errs.New(errs.Conflict, "another instance took the session over: this one was silent for too long; what it answered is not remembered")
}

// Enter implements strategy.Order: first in the order of this process, then in that of all. Who is in says so again and again until it
// leaves; when it is killed the session opens after LockTTL.
func (s *store) Enter(ctx context.Context, k memory.Key) (leave func(), err error) {
	out, err := s.turnstile.Enter(ctx, k)
	if err != nil {
		return nil, err
	}
	h := &hold{ticket: ticket(), names: keysOf(k)}
	if err := s.await(ctx, h); err != nil {
		s.giveUp(ctx, h)
		out()
		return nil, err
	}
	s.mu.Lock()
	s.holds[k] = h
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		delete(s.holds, k)
		s.mu.Unlock()
		s.giveUp(ctx, h)
		out()
	}), nil
}

// await asks until it is let in.
func (s *store) await(ctx context.Context, h *hold) error {
	wait := firstWait
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		out, err := s.client.Eval(ctx, s.scripts.enter, []string{h.names.lock, h.names.fence, h.names.queue, h.names.alive},
			h.ticket, s.cfg.LockTTL.Milliseconds(), silence.Milliseconds(), fenceTTL.Milliseconds())
		if err != nil {
			return fmt.Errorf("enter the session: %w", err)
		}
		if h.fence = number(out); h.fence > 0 {
			return nil
		}
		timer.Reset(wait)
		wait = min(wait+wait/2, longestGap)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return errs.New(errs.Timeout, "another request of the session is still under way: %w", context.Cause(ctx))
		}
	}
}

// giveUp ends a ticket, whatever became of it. Where that fails the lock ends by itself.
func (s *store) giveUp(ctx context.Context, h *hold) {
	_, err := s.client.Eval(context.WithoutCancel(ctx), s.scripts.leave, []string{h.names.lock, h.names.fence, h.names.queue, h.names.alive},
		h.ticket, fenceTTL.Milliseconds())
	if err != nil {
		s.cfg.Log.LogAttrs(ctx, slog.LevelDebug, "a session's lock is left to end by itself", slog.String("error", err.Error()))
	}
}

// fence gives what a writer of the session carries; 0 where this process hasn't entered it.
func (s *store) fence(k memory.Key) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[k]
	switch {
	case h == nil:
		return 0, nil
	case h.lost:
		return 0, takenOver()
	default:
		return h.fence, nil
	}
}

// mayWait reports whether a writer of the session may wait for a server that is gone: once for each time that it was entered.
func (s *store) mayWait(k memory.Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holds[k]
	if h == nil || h.waited {
		return false
	}
	h.waited = true
	return true
}

// start begins to renew what is held.
func (s *store) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.done)
		tick := time.NewTicker(s.cfg.LockTTL / 4)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.renew(ctx)
			}
		}
	}()
}

// renew says for every session that is held that its holder lives.
func (s *store) renew(ctx context.Context) {
	s.mu.Lock()
	held := make([]*hold, 0, len(s.holds))
	for _, h := range s.holds {
		if !h.lost {
			held = append(held, h)
		}
	}
	s.mu.Unlock()
	for _, h := range held {
		out, err := s.client.Eval(ctx, s.scripts.renew, []string{h.names.lock, h.names.fence},
			h.ticket, h.fence, s.cfg.LockTTL.Milliseconds(), fenceTTL.Milliseconds())
		if err != nil {
			return // the server is gone, or this process ends; the next tick tries all again
		}
		if number(out) != 1 {
			s.mu.Lock()
			h.lost = true
			s.mu.Unlock()
		}
	}
}

func (s *store) close() {
	s.closing.Do(func() {
		s.stop()
		<-s.done
		s.mu.Lock()
		held := s.holds
		s.holds = map[memory.Key]*hold{}
		s.mu.Unlock()
		for _, h := range held {
			s.giveUp(context.Background(), h)
		}
		if s.cfg.OnClose != nil {
			s.cfg.OnClose()
		}
	})
}
