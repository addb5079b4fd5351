// Package memstore is a store.Store in memory, for the tests of packages that stand on the store. It keeps every
// revision until Compact, so that paging, watching and resuming behave as they do over etcd, and it can be told to
// fail. It never touches a disk or a network, and no binary links it.
package memstore

import (
	"context"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Store is the whole key space with its history. Use New.
type Store struct {
	mu        sync.Mutex
	revision  int64
	compacted int64                // revisions below it can't be listed, those up to it not be watched
	keys      []string             // every key that has history
	sorted    bool                 // keys is in order
	history   map[string][]version // oldest first
	log       []store.Batch        // one for each revision after compacted
	changed   chan struct{}        // closed and replaced when something is there to see
	leases    map[string]*held     // by key
	closed    bool
	failures  []error
	broken    error // what breaks the watches of this breaks count
	breaks    int
}

// version is a key's state from one revision on.
type version struct {
	kv      store.KV
	deleted bool
}

// New makes an empty store at revision 1, as etcd's.
func New() *Store {
	return &Store{revision: 1, history: map[string][]version{}, changed: make(chan struct{}), leases: map[string]*held{}}
}

// FailNext makes the next Get, List or Commit answer err without doing anything. Several calls queue up.
func (s *Store) FailNext(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = append(s.failures, err)
}

// BreakWatches ends every Watch that runs now with err; later ones are not concerned.
func (s *Store) BreakWatches(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
	s.breaks++
	s.wake()
}

// Compact forgets what was overwritten or deleted before revision. It answers OutOfRange for a future revision.
func (s *Store) Compact(revision int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision > s.revision {
		return errs.New(errs.OutOfRange, "revision %d is in the future of %d", revision, s.revision)
	}
	s.compacted = max(s.compacted, revision)
	s.log = slices.DeleteFunc(s.log, func(b store.Batch) bool { return b.Revision <= s.compacted })
	for key, versions := range s.history {
		last := 0
		for i, v := range versions {
			if v.kv.ModRevision <= s.compacted {
				last = i
			}
		}
		s.history[key] = slices.Clone(versions[last:])
	}
	return nil
}

// Get reads one key.
func (s *Store) Get(ctx context.Context, key string) (store.KV, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return store.KV{}, err
	}
	kv, ok := s.at(key, s.revision)
	if !ok {
		return store.KV{}, errs.New(errs.NotFound, "no key %q", key)
	}
	return kv, nil
}

// List reads keys by prefix.
func (s *Store) List(ctx context.Context, prefix string, opts store.ListOptions) (store.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return store.Page{}, err
	}
	revision := opts.Revision
	switch {
	case revision == 0:
		revision = s.revision
	case revision < s.compacted:
		return store.Page{}, errs.New(errs.OutOfRange, "revision %d was compacted, %d is the oldest", revision, s.compacted)
	case revision > s.revision:
		return store.Page{}, errs.New(errs.OutOfRange, "revision %d is in the future of %d", revision, s.revision)
	}
	if !s.sorted {
		slices.Sort(s.keys)
		s.sorted = true
	}
	page := store.Page{Revision: revision}
	for _, key := range s.keys[sort.SearchStrings(s.keys, max(prefix, opts.From)):] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		kv, ok := s.at(key, revision)
		if !ok {
			continue
		}
		if opts.Limit > 0 && len(page.KVs) == opts.Limit {
			page.Next = key
			break
		}
		if opts.KeysOnly {
			kv.Value = nil
		}
		page.KVs = append(page.KVs, kv)
	}
	return page, nil
}

// Commit writes t, or nothing.
func (s *Store) Commit(ctx context.Context, t store.Txn) (int64, error) { return s.commit(ctx, t, nil) }

// commit is Commit; what it writes under by's key is by's.
func (s *Store) commit(ctx context.Context, t store.Txn, by *held) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(ctx); err != nil {
		return 0, err
	}
	if err := t.Check(); err != nil {
		return 0, err
	}
	for _, c := range t.If {
		if kv, _ := s.at(c.Key, s.revision); kv.ModRevision != c.ModRevision {
			return 0, errs.New(errs.Conflict, "key %q is at revision %d, wanted %d", c.Key, kv.ModRevision, c.ModRevision)
		}
	}
	return s.apply(t, by), nil
}

// apply writes t, whose conditions hold, and gives its revision.
func (s *Store) apply(t store.Txn, by *held) int64 {
	next := s.revision + 1
	batch := store.Batch{Revision: next}
	for _, put := range t.Puts {
		kv := store.KV{Key: put.Key, Value: slices.Clone(put.Value), CreateRevision: next, ModRevision: next}
		if old, ok := s.at(put.Key, s.revision); ok {
			kv.CreateRevision = old.CreateRevision
		}
		s.write(version{kv: kv})
		s.detach(put.Key, by)
		batch.Events = append(batch.Events, store.Event{KV: kv})
	}
	for _, key := range t.Deletes {
		if _, ok := s.at(key, s.revision); !ok {
			continue
		}
		gone := store.KV{Key: key, ModRevision: next}
		s.write(version{kv: gone, deleted: true})
		s.detach(key, nil)
		batch.Events = append(batch.Events, store.Event{KV: gone, Deleted: true})
	}
	if len(batch.Events) == 0 {
		return s.revision
	}
	s.revision = next
	s.log = append(s.log, batch)
	s.wake()
	return next
}

// Close ends everything; it is safe twice.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		for _, h := range s.leases {
			h.lose()
		}
		s.wake()
	}
	return nil
}

func (s *Store) ready(ctx context.Context) error {
	switch {
	case s.closed:
		return errClosed()
	case ctx.Err() != nil:
		return errs.New(errs.KindOf(ctx.Err()), "store: %w", ctx.Err())
	case len(s.failures) > 0:
		err := s.failures[0]
		s.failures = s.failures[1:]
		return err
	}
	return nil
}

// at gives a key as of a revision, the value being the reader's own.
func (s *Store) at(key string, revision int64) (store.KV, bool) {
	for _, v := range slices.Backward(s.history[key]) {
		if v.kv.ModRevision <= revision {
			if v.deleted {
				break
			}
			kv := v.kv
			kv.Value = slices.Clone(kv.Value)
			return kv, true
		}
	}
	return store.KV{}, false
}

func (s *Store) write(v version) {
	if _, known := s.history[v.kv.Key]; !known {
		s.keys = append(s.keys, v.kv.Key)
		s.sorted = false
	}
	s.history[v.kv.Key] = append(s.history[v.kv.Key], v)
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

func errClosed() error { return errs.New(errs.Unavailable, "store is closed") }
