// Package inmemory remembers sessions in the process. One Store lives as long as agentd; each config looks at it through a Memory with its
// own compression, so that a config change loses no session. Nothing is written to disk.
package inmemory

import (
	"container/list"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a StoreConfig and a Config.
const (
	DefaultMaxSessions     = 10_000
	DefaultMaxBytes        = 16 << 20
	DefaultMaxSessionBytes = 512 << 10
	DefaultMaxSessionTurns = 1_000
	DefaultTTL             = 24 * time.Hour
)

// overhead is what a session and a turn cost beside their text, roughly, in bytes.
const (
	sessionOverhead = 400
	turnOverhead    = 48
)

// StoreConfig bounds a Store; zero values take the defaults. Full: the session unused for longest goes; within a session the oldest turns.
type StoreConfig struct {
	MaxSessions     int
	MaxBytes        int
	MaxSessionBytes int
	MaxSessionTurns int
	Now             func() time.Time // nil: the wall clock
}

// Store holds sessions.
type Store struct {
	cfg StoreConfig

	mu       sync.Mutex // guards what follows; never held over I/O
	sessions map[memory.Key]*list.Element
	order    *list.List // of *session, the most recently used first
	bytes    int
}

type session struct {
	key    memory.Key
	turns  []memory.Turn
	config string
	bytes  int
	until  time.Time
}

// NewStore makes an empty Store.
func NewStore(cfg StoreConfig) (*Store, error) {
	if cfg.MaxSessions < 0 || cfg.MaxBytes < 0 || cfg.MaxSessionBytes < 0 || cfg.MaxSessionTurns < 0 {
		return nil, errs.New(errs.Invalid, "memory: a bound is negative")
	}
	cfg.MaxSessions = orDefault(cfg.MaxSessions, DefaultMaxSessions)
	cfg.MaxBytes = orDefault(cfg.MaxBytes, DefaultMaxBytes)
	cfg.MaxSessionBytes = orDefault(cfg.MaxSessionBytes, DefaultMaxSessionBytes)
	cfg.MaxSessionTurns = orDefault(cfg.MaxSessionTurns, DefaultMaxSessionTurns)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, sessions: map[memory.Key]*list.Element{}, order: list.New()}, nil
}

func orDefault(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

// Sessions gives the number of sessions held.
func (s *Store) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// recall gives a session's turns; they are immutable.
func (s *Store) recall(k memory.Key) ([]memory.Turn, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.sessions[k]
	if !ok {
		return nil, ""
	}
	ses, _ := el.Value.(*session)
	if s.cfg.Now().After(ses.until) {
		s.drop(el)
		return nil, ""
	}
	s.order.MoveToFront(el)
	return ses.turns[:len(ses.turns):len(ses.turns)], ses.config
}

func (s *Store) remember(k memory.Key, config string, turns []memory.Turn, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	el, ok := s.sessions[k]
	if ok {
		if ses, _ := el.Value.(*session); now.After(ses.until) {
			s.drop(el)
			ok = false
		}
	}
	if !ok {
		el = s.order.PushFront(&session{key: k, bytes: sessionOverhead})
		s.sessions[k] = el
		s.bytes += sessionOverhead
	}
	s.order.MoveToFront(el)
	ses, _ := el.Value.(*session)
	ses.config, ses.until = config, now.Add(ttl)
	before := ses.bytes
	for _, t := range turns {
		ses.bytes += size(t)
	}
	ses.turns = append(ses.turns, turns...)
	cut := 0
	for cut < len(ses.turns)-1 && (ses.bytes > s.cfg.MaxSessionBytes || len(ses.turns)-cut > s.cfg.MaxSessionTurns) {
		ses.bytes -= size(ses.turns[cut])
		cut++
	}
	if cut > 0 { // a copy: the dropped ones must not be kept alive
		ses.turns = append([]memory.Turn(nil), ses.turns[cut:]...)
	}
	s.bytes += ses.bytes - before
	for s.order.Len() > 1 && (s.bytes > s.cfg.MaxBytes || len(s.sessions) > s.cfg.MaxSessions || s.stale(now)) {
		s.drop(s.order.Back())
	}
}

// stale reports whether the longest unused session has expired.
func (s *Store) stale(now time.Time) bool {
	ses, _ := s.order.Back().Value.(*session)
	return now.After(ses.until)
}

func (s *Store) forget(k memory.Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if el, ok := s.sessions[k]; ok {
		s.drop(el)
	}
}

func (s *Store) drop(el *list.Element) {
	ses, _ := s.order.Remove(el).(*session)
	delete(s.sessions, ses.key)
	s.bytes -= ses.bytes
}

func size(t memory.Turn) int { return len(t.Text) + turnOverhead }
