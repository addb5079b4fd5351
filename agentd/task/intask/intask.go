// Package intask keeps tasks in the process: bounded in number and bytes, terminal ones until their time is over. Whoever watches reads a linked
// list at his own pace, so no reader delays another one or the writer.
package intask

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of Config.
const (
	DefaultTTL      = time.Hour
	DefaultMaxTasks = 20_000
	DefaultMaxBytes = 128 << 20
	DefaultMaxLag   = 2_000
)

// Config bounds a Store. Zero fields have their defaults.
type Config struct {
	TTL      time.Duration // how long a terminal task is held
	MaxTasks int           // at a time; the terminal tasks that ended first make room
	MaxBytes int           // of all tasks together, about
	MaxLag   int           // events that a reader may be behind before its feed ends
	Bounds   task.Bounds   // of one task
	Now      func() time.Time
}

// Store implements task.Store.
type Store struct {
	cfg Config

	mu     sync.Mutex // guards what follows, and every entry; no I/O and no callback but Update's change runs under it
	owners map[task.Owner]map[string]*entry
	ended  *list.List // of *entry, the one that ended first in front
	count  int
	bytes  int
}

type entry struct {
	rec   task.Record
	size  int
	tail  *node
	since time.Time     // when it ended
	place *list.Element // in ended; nil: it is under way
}

// New makes a Store.
func New(cfg Config) *Store {
	if cfg.TTL <= 0 {
		cfg.TTL = DefaultTTL
	}
	if cfg.MaxTasks <= 0 {
		cfg.MaxTasks = DefaultMaxTasks
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.MaxLag <= 0 {
		cfg.MaxLag = DefaultMaxLag
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Bounds = cfg.Bounds.WithDefaults()
	return &Store{cfg: cfg, owners: map[task.Owner]map[string]*entry{}, ended: list.New()}
}

// Run drops tasks whose time is over until ctx ends; without it they are dropped as others come.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(max(s.cfg.TTL/20, 50*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.mu.Lock()
			s.expire()
			s.mu.Unlock()
		}
	}
}

// Len gives how many tasks are held, and about how many bytes.
func (s *Store) Len() (tasks, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count, s.bytes
}

// Create implements task.Store.
func (s *Store) Create(_ context.Context, r task.Record) (task.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire()
	of := s.owners[r.Owner]
	if of[r.Task.ID] != nil {
		return task.Record{}, errs.New(errs.Exists, "task %s is there already", r.Task.ID)
	}
	r.Version, r.Seq = 1, 0
	e := &entry{rec: r, size: r.Task.Size(), tail: newNode()}
	if e.size > s.cfg.Bounds.Bytes {
		return task.Record{}, errs.New(errs.Exhausted, "task %s: it would be larger than %d bytes", r.Task.ID, s.cfg.Bounds.Bytes)
	}
	if !s.room(1, e.size) {
		return task.Record{}, errs.New(errs.Exhausted, "the agent has as many tasks under way as it can hold; try again")
	}
	if of == nil {
		of = map[string]*entry{}
		s.owners[r.Owner] = of
	}
	of[r.Task.ID] = e
	s.count++
	s.bytes += e.size
	s.settle(e)
	return r, nil
}

// Get implements task.Store.
func (s *Store) Get(_ context.Context, ref task.Ref) (task.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(ref)
	if err != nil {
		return task.Record{}, err
	}
	return e.rec, nil
}

// Update implements task.Store.
func (s *Store) Update(_ context.Context, ref task.Ref, change func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(ref)
	if err != nil {
		return task.Record{}, err
	}
	r := e.rec
	r.Push = append([]task.Push(nil), r.Push...)
	events, err := change(&r)
	if err != nil {
		return task.Record{}, err
	}
	r.Task, r.Seq, r.Version, r.Owner = e.rec.Task, e.rec.Seq, e.rec.Version+1, e.rec.Owner
	forced := false
	for i := range events {
		r.Seq++
		events[i].Seq = r.Seq
		forced = forced || events[i].Status != nil
		if r.Task, err = task.Apply(r.Task, events[i], s.cfg.Bounds); err != nil {
			return task.Record{}, err
		}
	}
	size := r.Task.Size()
	if grown := size - e.size; grown > 0 && !s.room(0, grown) && !forced {
		return task.Record{}, errs.New(errs.Exhausted, "the agent has as many bytes in tasks as it can hold; try again")
	}
	s.bytes += size - e.size
	e.rec, e.size = r, size
	for _, event := range events {
		if event.Message == nil {
			e.tail = e.tail.follow(event)
		}
	}
	s.settle(e)
	return r, nil
}

// Watch implements task.Store.
func (s *Store) Watch(_ context.Context, ref task.Ref) (task.Record, task.Feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, err := s.find(ref)
	if err != nil {
		return task.Record{}, nil, err
	}
	f := &feed{at: e.tail, lag: int64(s.cfg.MaxLag)}
	f.ended = e.rec.Task.Status.State.Terminal()
	f.newest = func() int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return e.tail.index
	}
	return e.rec, f, nil
}

func (s *Store) find(ref task.Ref) (*entry, error) {
	s.expire()
	if e := s.owners[ref.Owner][ref.ID]; e != nil {
		return e, nil
	}
	return nil, errs.New(errs.NotFound, "there is no task %q", ref.ID)
}

// settle notes that a task has ended.
func (s *Store) settle(e *entry) {
	if e.place == nil && e.rec.Task.Status.State.Terminal() {
		e.since = s.cfg.Now()
		e.place = s.ended.PushBack(e)
	}
}

// expire drops what ended long enough ago.
func (s *Store) expire() {
	over := s.cfg.Now().Add(-s.cfg.TTL)
	for front := s.ended.Front(); front != nil; front = s.ended.Front() {
		e, ok := front.Value.(*entry)
		if !ok || e.since.After(over) {
			return
		}
		s.drop(e)
	}
}

// room makes room for more by dropping terminal tasks, those that ended first before others.
func (s *Store) room(tasks, bytes int) bool {
	for s.count+tasks > s.cfg.MaxTasks || s.bytes+bytes > s.cfg.MaxBytes {
		front := s.ended.Front()
		if front == nil {
			return false
		}
		if e, ok := front.Value.(*entry); ok {
			s.drop(e)
		}
	}
	return true
}

func (s *Store) drop(e *entry) {
	s.ended.Remove(e.place)
	of := s.owners[e.rec.Owner]
	delete(of, e.rec.Task.ID)
	if len(of) == 0 {
		delete(s.owners, e.rec.Owner)
	}
	s.count--
	s.bytes -= e.size
}

var _ task.Store = (*Store)(nil)
