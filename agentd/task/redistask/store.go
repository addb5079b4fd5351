// Package redistask keeps tasks in a Redis 7 server, for all instances of an agent: each of them reads, watches and changes every task, learns
// what the others did to those that it keeps, and which ones nobody keeps any more because their instance has died.
package redistask

import (
	"context"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// Store implements task.Shared. It starts its goroutines at first use; Close ends them.
type Store struct {
	cfg Config
}

var _ task.Shared = (*Store)(nil)

// New makes a Store; errors are of kind Invalid. It asks the server nothing.
func New(cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Store{cfg: cfg}, nil
}

var errNotYet = errs.New(errs.Unsupported, "redistask: not written yet")

// Self implements task.Shared.
func (s *Store) Self() string { return "" }

// Close says goodbye, so that others take over at once what this process keeps, ends the goroutines and waits for them. Twice is once.
func (s *Store) Close() error { return nil }

// Create implements task.Store.
func (s *Store) Create(context.Context, task.Record) (task.Record, error) {
	return task.Record{}, errNotYet
}

// Get implements task.Store.
func (s *Store) Get(context.Context, task.Ref) (task.Record, error) { return task.Record{}, errNotYet }

// Update implements task.Store.
func (s *Store) Update(context.Context, task.Ref, func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	return task.Record{}, errNotYet
}

// List implements task.Store.
func (s *Store) List(context.Context, task.Filter) (task.Page, error) { return task.Page{}, errNotYet }

// Watch implements task.Store.
func (s *Store) Watch(context.Context, task.Ref) (task.Record, task.Feed, error) {
	return task.Record{}, nil, errNotYet
}

// Orphans implements task.Shared.
func (s *Store) Orphans(context.Context, int) ([]task.Record, error) { return nil, errNotYet }

// Ended implements task.Shared.
func (s *Store) Ended(context.Context) (task.Ref, error) { return task.Ref{}, errNotYet }
