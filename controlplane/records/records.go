// Package records keeps a small prefix of the store in memory: it reads it once and follows its watch. The parts that own such
// prefixes (access, identity) read it at every call without I/O; they write by the store. It knows nothing of what is kept.
package records

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Config is what Open needs.
type Config[T any] struct {
	Store  store.Store
	Prefix string // ends with "/"
	// Decode reads one record; the key comes without the prefix. One that can't be read is logged and left out: default deny.
	Decode func(key string, value []byte) (T, error)
	Logger *slog.Logger
}

// Table is the records under a prefix as of one store revision. All methods are safe for concurrent use; only Run changes it.
type Table[T any] struct {
	cfg Config[T]

	mu       sync.RWMutex
	rows     map[string]Row[T] // by key without prefix; guarded by mu, like the three below
	revision int64
	changed  chan struct{} // closed at the next change of a row
	moved    chan struct{} // closed when revision moves, which it also does by changes of other keys
}

// Row is one record with the store revision of its last write, for a compare-and-swap.
type Row[T any] struct {
	Value       T
	ModRevision int64
}

// Open reads the prefix. Run follows it from there.
func Open[T any](ctx context.Context, cfg Config[T]) (*Table[T], error) {
	if cfg.Store == nil || cfg.Decode == nil || cfg.Logger == nil || !strings.HasSuffix(cfg.Prefix, "/") {
		return nil, errs.New(errs.Invalid, "records: something required is missing")
	}
	t := &Table[T]{cfg: cfg, rows: map[string]Row[T]{}, changed: make(chan struct{}), moved: make(chan struct{})}
	return t, t.list(ctx)
}

// list reads the whole prefix anew.
func (t *Table[T]) list(ctx context.Context) error {
	var all []store.KV
	opts := store.ListOptions{Limit: 1000}
	for {
		page, err := t.cfg.Store.List(ctx, t.cfg.Prefix, opts)
		if err != nil {
			return err
		}
		all = append(all, page.KVs...)
		opts.Revision, opts.From = page.Revision, page.Next
		if page.Next == "" {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.rows)
	for _, kv := range all {
		t.put(ctx, kv)
	}
	t.revision = opts.Revision
	t.tell(true)
	return nil
}

// tell wakes those who wait. The mutex is held.
func (t *Table[T]) tell(changed bool) {
	close(t.moved)
	t.moved = make(chan struct{})
	if changed {
		close(t.changed)
		t.changed = make(chan struct{})
	}
}

// The wait after a watch that broke, at first and at most.
const (
	waitMin = 50 * time.Millisecond
	waitMax = 5 * time.Second
)

// Run follows the store until ctx ends. While the store is away the table stays as it is; after a compaction it is read anew.
func (t *Table[T]) Run(ctx context.Context) error {
	wait := waitMin
	for {
		before := t.at()
		err := t.watch(ctx, before)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is how Run is asked to end
		}
		if errs.Is(err, errs.OutOfRange) {
			if err = t.list(ctx); err == nil {
				t.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "records listed again after a compaction", slog.String("prefix", t.cfg.Prefix))
				continue
			}
		}
		if t.at() > before {
			wait = waitMin
		}
		t.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "records lost the store", slog.String("prefix", t.cfg.Prefix), slog.Any("error", err),
			slog.Duration("retry_in", wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = min(2*wait, waitMax)
	}
}

func (t *Table[T]) at() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.revision
}

func (t *Table[T]) watch(ctx context.Context, after int64) error {
	return t.cfg.Store.Watch(ctx, t.cfg.Prefix, after, func(b store.Batch) error {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, e := range b.Events {
			if e.Deleted {
				delete(t.rows, strings.TrimPrefix(e.Key, t.cfg.Prefix))
				continue
			}
			t.put(ctx, e.KV)
		}
		t.revision = b.Revision
		t.tell(len(b.Events) > 0)
		return nil
	})
}

func (t *Table[T]) put(ctx context.Context, kv store.KV) {
	key := strings.TrimPrefix(kv.Key, t.cfg.Prefix)
	v, err := t.cfg.Decode(key, kv.Value)
	if err != nil {
		t.cfg.Logger.LogAttrs(ctx, slog.LevelError, "record can't be read", slog.String("key", kv.Key), slog.Any("error", err))
		delete(t.rows, key)
		return
	}
	t.rows[key] = Row[T]{Value: v, ModRevision: kv.ModRevision}
}

// Get gives one record by its key without the prefix.
func (t *Table[T]) Get(key string) (Row[T], bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	r, ok := t.rows[key]
	return r, ok
}

// All gives a copy of the table and the store revision that it is of.
func (t *Table[T]) All() (rows map[string]Row[T], revision int64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return maps.Clone(t.rows), t.revision
}

// Changed gives a channel that is closed once a row has changed.
func (t *Table[T]) Changed() <-chan struct{} {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.changed
}

// WaitFor waits until the table shows a store revision, so that who wrote reads the write.
func (t *Table[T]) WaitFor(ctx context.Context, revision int64) error {
	for {
		t.mu.RLock()
		have, moved := t.revision, t.moved
		t.mu.RUnlock()
		if have >= revision {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return errs.New(errs.Timeout, "catch up with the store: %w", ctx.Err())
		}
	}
}
