// Package epoch is a store that writes only as long as the cluster record is the one it knows: nothing that was judged before a restore
// is written into what the restore brings back, however late it arrives, and while one is under way nobody but who restores writes.
// app puts it around the store; it knows of the stored shapes only the cluster record.
package epoch

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// rereads bounds how often a write that lost against a change of the cluster record that doesn't matter (the first Hello) is sent again.
const rereads = 3

// Fence is the store. It is safe for concurrent use.
type Fence struct {
	store.Store

	mu    sync.Mutex // guards known
	known standing   // zero: not read yet
}

// standing is the cluster record as it was read.
type standing struct {
	cluster view.Cluster
	mod     int64
}

// Wrap makes a Fence.
func Wrap(s store.Store) *Fence { return &Fence{Store: s} }

// RefusedError is a write that the fence refused: surely nothing was written. Its kind is errs.Unavailable.
type RefusedError struct{ err error }

// Error says why.
func (e *RefusedError) Error() string { return e.err.Error() }

// Unwrap gives the error with its kind.
func (e *RefusedError) Unwrap() error { return e.err }

// Refused marks the error for those who try again after an unknown outcome: this one is known.
func (*RefusedError) Refused() bool { return true }

func refuse(format string, args ...any) error {
	return &RefusedError{err: errs.New(errs.Unavailable, format, args...)}
}

type restoreKey struct{}

// WithRestore gives a context whose writes pass the fence unchanged: who restores makes conditions of his own.
func WithRestore(ctx context.Context) context.Context {
	return context.WithValue(ctx, restoreKey{}, true)
}

type pinKey struct{}

// Pin gives a context whose writes are refused in any epoch but this one: for what is judged first, by what a view shows, and written
// later.
func Pin(ctx context.Context, epoch uint64) context.Context {
	return context.WithValue(ctx, pinKey{}, epoch)
}

func pinned(ctx context.Context) (uint64, bool) {
	e, ok := ctx.Value(pinKey{}).(uint64)
	return e, ok && e != 0
}

// Commit writes t in the epoch that is known, or nothing. A refusal is a *RefusedError.
func (f *Fence) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if restores, _ := ctx.Value(restoreKey{}).(bool); restores || exempt(t) {
		return f.Store.Commit(ctx, t)
	}
	own := touches(t)
	var last error
	for range rereads {
		at, err := f.standing(ctx)
		if errs.Is(err, errs.NotFound) && own { // the one who makes the record
			return f.Store.Commit(ctx, t)
		}
		if err != nil {
			return 0, fmt.Errorf("cluster record: %w", err)
		}
		if err := at.refuses(ctx); err != nil {
			return 0, err
		}
		fenced := t
		if !own {
			fenced.If = append(slices.Clone(t.If), store.Cond{Key: view.ClusterKey, ModRevision: at.mod})
		}
		revision, err := f.Store.Commit(ctx, fenced)
		if own {
			f.forget(at.mod)
		}
		if own || !errs.Is(err, errs.Conflict) {
			return revision, err
		}
		last = err
		f.forget(at.mod)
		now, gerr := f.standing(ctx)
		if gerr != nil || now.mod == at.mod { // it is another condition that failed, or nobody knows: either way nothing was written
			return 0, err
		}
		if now.cluster.ID != at.cluster.ID || now.cluster.Epoch != at.cluster.Epoch {
			return 0, refuse("the store began epoch %d while this was on its way: try again", now.cluster.Epoch)
		}
	}
	return 0, last
}

// refuses says whether nothing may be written as the record stands.
func (s standing) refuses(ctx context.Context) error {
	if r := s.cluster.Restoring; r != nil {
		return refuse("the store is being restored by %s since %s: try again when that is done", r.By, r.Began.UTC().Format("15:04:05Z"))
	}
	if e, ok := pinned(ctx); ok && e != s.cluster.Epoch {
		return refuse("the store began epoch %d while this was on its way: try again", s.cluster.Epoch)
	}
	return nil
}

// standing gives the record as it is known, or reads it.
func (f *Fence) standing(ctx context.Context) (standing, error) {
	f.mu.Lock()
	known := f.known
	f.mu.Unlock()
	if known.mod != 0 && known.refuses(ctx) == nil { // if it isn't so any more the store refuses the write
		return known, nil
	}
	kv, err := f.Get(ctx, view.ClusterKey)
	if err != nil {
		return standing{}, err
	}
	c, err := view.Decode[view.Cluster](kv.Value)
	if err != nil {
		return standing{}, err
	}
	read := standing{cluster: c, mod: kv.ModRevision}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.mod < read.mod {
		f.known = read
	}
	return read, nil
}

// forget has the record read again, if nobody did since mod.
func (f *Fence) forget(mod int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known.mod == mod {
		f.known = standing{}
	}
}

// touches reports whether a transaction is about the cluster record itself: whoever writes or fences by it has read it.
func touches(t store.Txn) bool {
	is := func(key string) bool { return key == view.ClusterKey }
	return slices.ContainsFunc(t.If, func(c store.Cond) bool { return is(c.Key) }) ||
		slices.ContainsFunc(t.Puts, func(kv store.KV) bool { return is(kv.Key) }) || slices.ContainsFunc(t.Deletes, is)
}

// exempt reports whether a transaction writes nothing that a restore brings back.
func exempt(t store.Txn) bool {
	other := func(key string) bool {
		return key != view.LeaderKey && !strings.HasPrefix(key, view.AuditPrefix) &&
			!strings.HasPrefix(key, view.ReplicaPrefix) && !strings.HasPrefix(key, view.OncePrefix)
	}
	return !slices.ContainsFunc(t.Puts, func(kv store.KV) bool { return other(kv.Key) }) && !slices.ContainsFunc(t.Deletes, other)
}
