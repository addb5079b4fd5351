// Package inpending keeps suspended runs in the process. They are lost with it. One Store lives as long as agentd, so that a config change
// loses no run.
package inpending

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of a Config.
const (
	DefaultMaxRuns  = 1_000
	DefaultMaxBytes = 16 << 20
)

// overhead is what a run costs beside its texts, roughly, in bytes.
const overhead = 1_000

// Config bounds a Store; zero values take the defaults. Full: the oldest run that is final goes; where none is, a new one is refused.
type Config struct {
	MaxRuns  int
	MaxBytes int              // of all runs together
	Now      func() time.Time // nil: the wall clock
}

// Store keeps runs.
type Store struct {
	cfg Config

	mu      sync.Mutex // guards what follows
	runs    map[pending.Ref]*pending.Run
	waiting map[session]string // the ID of the run that waits
	bytes   int
}

type session struct{ namespace, agent, principal, session string }

var _ pending.Store = (*Store)(nil)

// New makes an empty Store; errors are of kind Invalid.
func New(cfg Config) (*Store, error) {
	if cfg.MaxRuns < 0 || cfg.MaxBytes < 0 {
		return nil, errs.New(errs.Invalid, "pending runs: a bound is negative")
	}
	if cfg.MaxRuns == 0 {
		cfg.MaxRuns = DefaultMaxRuns
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg, runs: map[pending.Ref]*pending.Run{}, waiting: map[session]string{}}, nil
}

// Put implements pending.Store.
func (s *Store) Put(_ context.Context, r pending.Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune()
	if s.runs[r.Ref()] != nil {
		return errs.New(errs.Exists, "there is a run %s", r.ID)
	}
	if id := s.waiting[sessionOf(r)]; waits(r) && id != "" {
		return errs.New(errs.Conflict, "the session has a run that waits: %s", id)
	}
	if !s.room(size(r)) {
		return errs.New(errs.Exhausted, "too many runs wait: no more can be suspended until some are decided about")
	}
	r = r.Clone()
	r.Version = 1
	s.add(&r)
	return nil
}

// Get implements pending.Store.
func (s *Store) Get(_ context.Context, ref pending.Ref) (pending.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[ref]
	if r == nil || s.stale(r) {
		return pending.Run{}, missing(ref)
	}
	return r.Clone(), nil
}

// List implements pending.Store.
func (s *Store) List(_ context.Context, f pending.Filter) ([]pending.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []pending.Run
	give := func(r *pending.Run) {
		if r != nil && f.Matches(*r) && !s.stale(r) {
			out = append(out, *r)
		}
	}
	if f.Session != "" && slices.Equal(f.States, []pending.State{pending.Waiting}) {
		key := session{f.Namespace, f.Agent, f.Principal, f.Session}
		if id := s.waiting[key]; id != "" {
			give(s.runs[pending.Ref{Namespace: f.Namespace, Agent: f.Agent, ID: id}])
		}
	} else {
		for _, r := range s.runs {
			give(r)
		}
	}
	slices.SortFunc(out, pending.Newest)
	limit := f.Limit
	if limit <= 0 {
		limit = pending.DefaultLimit
	}
	out = out[:min(len(out), limit)]
	for i := range out {
		out[i].Engine = nil
		out[i] = out[i].Clone()
	}
	return out, nil
}

// Update implements pending.Store.
func (s *Store) Update(_ context.Context, r pending.Run) (pending.Run, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.runs[r.Ref()]
	if old == nil || s.stale(old) {
		return pending.Run{}, missing(r.Ref())
	}
	if old.Version != r.Version {
		return pending.Run{}, errs.New(errs.Conflict, "the run %s has moved on: read it again", r.ID)
	}
	r = r.Clone()
	r.Version++
	s.drop(old)
	s.add(&r)
	return r.Clone(), nil
}

// Delete implements pending.Store.
func (s *Store) Delete(_ context.Context, ref pending.Ref) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[ref]; r != nil {
		s.drop(r)
	}
	return nil
}

func missing(ref pending.Ref) error { return errs.New(errs.NotFound, "there is no run %s", ref.ID) }

func waits(r pending.Run) bool { return r.State == pending.Waiting && r.Session != "" }

func sessionOf(r pending.Run) session { return session{r.Namespace, r.Agent, r.Principal, r.Session} }

func size(r pending.Run) int {
	n := overhead + len(r.Engine) + len(r.Question)
	for _, c := range r.Calls {
		n += len(c.Arguments) + len(c.Why)
	}
	if r.Result != nil {
		n += len(r.Result.Text) + len(r.Result.Message)
	}
	return n
}

func (s *Store) add(r *pending.Run) {
	s.runs[r.Ref()] = r
	s.bytes += size(*r)
	if waits(*r) {
		s.waiting[sessionOf(*r)] = r.ID
	}
}

func (s *Store) drop(r *pending.Run) {
	delete(s.runs, r.Ref())
	s.bytes -= size(*r)
	if waits(*r) {
		delete(s.waiting, sessionOf(*r))
	}
}

func (s *Store) stale(r *pending.Run) bool {
	return s.cfg.Now().After(r.ExpiresAt.Add(pending.Keep))
}

func (s *Store) prune() {
	for _, r := range s.runs {
		if s.stale(r) {
			s.drop(r)
		}
	}
}

// room makes room for n more bytes by dropping final runs, the oldest first.
func (s *Store) room(n int) bool {
	for len(s.runs) >= s.cfg.MaxRuns || s.bytes+n > s.cfg.MaxBytes {
		var oldest *pending.Run
		for _, r := range s.runs {
			if r.State.Final() && (oldest == nil || pending.Newest(*oldest, *r) < 0) {
				oldest = r
			}
		}
		if oldest == nil {
			return false
		}
		s.drop(oldest)
	}
	return true
}
