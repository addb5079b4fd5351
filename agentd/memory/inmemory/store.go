// Package inmemory remembers sessions in the process. One Store lives as long as agentd; each config looks at it through a view with its
// own strategies, so that a config change loses no session. Nothing is written to disk.
package inmemory

import (
	"cmp"
	"container/list"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/memory/strategy"
	"github.com/agentry/agentry/agentd/memory/turnstile"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a StoreConfig.
const (
	DefaultMaxSessions     = 10_000
	DefaultMaxBytes        = 8 << 20
	DefaultMaxSessionBytes = 512 << 10
	DefaultMaxSessionTurns = 1_000
)

// StoreConfig bounds a Store; zero values take the defaults. Full: the session unused for longest goes; within a session the oldest
// exchanges.
type StoreConfig struct {
	MaxSessions     int
	MaxBytes        int
	MaxSessionBytes int
	MaxSessionTurns int
	Now             func() time.Time // nil: the wall clock
}

// Store holds sessions.
type Store struct {
	cfg       StoreConfig
	turnstile turnstile.Turnstile

	mu       sync.Mutex // guards what follows; never held over I/O
	sessions map[memory.Key]*list.Element
	order    *list.List // of *session, the most recently used first
	bytes    int
}

var _ strategy.Store = (*Store)(nil)

// NewStore makes an empty Store.
func NewStore(cfg StoreConfig) (*Store, error) {
	if cfg.MaxSessions < 0 || cfg.MaxBytes < 0 || cfg.MaxSessionBytes < 0 || cfg.MaxSessionTurns < 0 {
		return nil, errs.New(errs.Invalid, "memory: a bound is negative")
	}
	cfg.MaxSessions = cmp.Or(cfg.MaxSessions, DefaultMaxSessions)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, DefaultMaxBytes)
	cfg.MaxSessionBytes = cmp.Or(cfg.MaxSessionBytes, DefaultMaxSessionBytes)
	cfg.MaxSessionTurns = cmp.Or(cfg.MaxSessionTurns, DefaultMaxSessionTurns)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, sessions: map[memory.Key]*list.Element{}, order: list.New()}, nil
}

// Sessions gives the number of sessions held.
func (s *Store) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Load implements strategy.Log; it never fails.
func (s *Store) Load(_ context.Context, k memory.Key) (strategy.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ses := s.find(k)
	if ses == nil {
		return strategy.Session{}, nil
	}
	s.order.MoveToFront(el)
	return strategy.Session{
		Life: ses.life, First: ses.first, Config: ses.config, Summary: ses.summary,
		Exchanges: ses.exchanges[:len(ses.exchanges):len(ses.exchanges)],
	}, nil
}

// Append implements strategy.Log; it never fails.
func (s *Store) Append(_ context.Context, k memory.Key, e memory.Exchange, ttl time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	el, ses := s.find(k)
	if ses == nil {
		ses = &session{key: k, life: rand.Text(), bytes: sessionOverhead, ids: map[string]bool{}}
		el = s.order.PushFront(ses)
		s.sessions[k] = el
		s.bytes += ses.bytes
	}
	s.order.MoveToFront(el)
	if ses.ids[e.ID] {
		return nil
	}
	before := ses.bytes
	ses.add(e, now)
	ses.trim(s.cfg)
	ses.until = now.Add(ttl)
	s.bytes += ses.bytes - before
	s.evict(now)
	return nil
}

// Summarise implements strategy.Log.
func (s *Store) Summarise(_ context.Context, k memory.Key, life string, was, is strategy.Summary) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ses := s.find(k)
	if ses == nil || ses.life != life || ses.summary != was {
		return errs.New(errs.Conflict, "memory: the session moved on")
	}
	grown := len(is.Text) - len(was.Text)
	ses.summary = is
	ses.bytes += grown
	s.bytes += grown
	return nil
}

// Forget implements strategy.Log; it never fails.
func (s *Store) Forget(_ context.Context, k memory.Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el, ok := s.sessions[k]; ok {
		s.drop(el)
	}
	return nil
}

// Vectors implements strategy.Vectors; it never fails.
func (s *Store) Vectors(_ context.Context, k memory.Key, life, space string) (map[int64][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ses := s.find(k)
	if ses == nil || ses.life != life || ses.space != space {
		return nil, nil
	}
	return ses.vectors, nil
}

// KeepVectors implements strategy.Vectors; it never fails.
func (s *Store) KeepVectors(_ context.Context, k memory.Key, life, space string, vs map[int64][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ses := s.find(k)
	if ses == nil || ses.life != life {
		return nil
	}
	before := ses.bytes
	ses.keep(space, vs)
	s.bytes += ses.bytes - before
	s.evict(s.cfg.Now())
	return nil
}

// Enter implements strategy.Order.
func (s *Store) Enter(ctx context.Context, k memory.Key) (leave func(), err error) {
	return s.turnstile.Enter(ctx, k)
}

// List implements strategy.Order; it never fails.
func (s *Store) List(_ context.Context, o memory.Owner, limit int) ([]memory.Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	var out []memory.Info
	for k, el := range s.sessions {
		ses, _ := el.Value.(*session)
		if k.Owner() == o && !now.After(ses.until) {
			out = append(out, memory.Info{Session: k.Session, Turns: ses.turns, Updated: ses.updated})
		}
	}
	slices.SortFunc(out, func(a, b memory.Info) int {
		return cmp.Or(b.Updated.Compare(a.Updated), cmp.Compare(a.Session, b.Session))
	})
	return out[:min(limit, len(out))], nil
}

// find gives a session that has not expired.
func (s *Store) find(k memory.Key) (*list.Element, *session) {
	el, ok := s.sessions[k]
	if !ok {
		return nil, nil
	}
	ses, _ := el.Value.(*session)
	if s.cfg.Now().After(ses.until) {
		s.drop(el)
		return nil, nil
	}
	return el, ses
}

// evict makes room; the session used last stays.
func (s *Store) evict(now time.Time) {
	for s.order.Len() > 1 && (s.bytes > s.cfg.MaxBytes || len(s.sessions) > s.cfg.MaxSessions || s.stale(now)) {
		s.drop(s.order.Back())
	}
}

// stale reports whether the longest unused session has expired.
func (s *Store) stale(now time.Time) bool {
	ses, _ := s.order.Back().Value.(*session)
	return now.After(ses.until)
}

func (s *Store) drop(el *list.Element) {
	ses, _ := s.order.Remove(el).(*session)
	delete(s.sessions, ses.key)
	s.bytes -= ses.bytes
}
