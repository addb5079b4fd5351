package backup

import (
	"context"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// attempts and retryWait bound how long a store that doesn't answer is waited for: an election takes seconds.
	attempts  = 60
	retryWait = 500 * time.Millisecond
	writeWait = 10 * time.Second
)

// unknown says whether a write may have happened all the same.
func unknown(err error) bool { return errs.Is(err, errs.Unavailable) || errs.Is(err, errs.Timeout) }

func pause(ctx context.Context) bool {
	t := time.NewTimer(retryWait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reread reads the cluster record once the store answers again.
func (r *Restorer) reread(ctx context.Context) (view.Cluster, int64, error) {
	for left := attempts; ; left-- {
		bounded, cancel := context.WithTimeout(ctx, writeWait)
		c, mod, err := r.current(bounded)
		cancel()
		if err == nil || !unknown(err) || left == 0 || !pause(ctx) {
			return c, mod, err
		}
	}
}

// writer writes for one restore. Each transaction is under the condition that the restore is still this one's.
type writer struct {
	*Restorer

	id           string
	mod          int64 // of the cluster record
	transactions int
}

// commit writes, over an outage of the store as well: all that a restore writes may be written twice.
func (w *writer) commit(ctx context.Context, t store.Txn) (int64, error) {
	if len(t.Puts) == 0 && len(t.Deletes) == 0 {
		return 0, nil
	}
	for left := attempts; ; left-- {
		t.If = []store.Cond{{Key: view.ClusterKey, ModRevision: w.mod}}
		bounded, cancel := context.WithTimeout(ctx, writeWait)
		rev, err := w.cfg.Store.Commit(bounded, t)
		cancel()
		switch {
		case err == nil:
			w.transactions++
			return rev, nil
		case errs.Is(err, errs.Conflict):
			c, mod, rerr := w.reread(ctx)
			if rerr != nil {
				return 0, rerr
			}
			if c.Restoring == nil || c.Restoring.ID != w.id {
				return 0, errs.New(errs.Conflict, "another restore took over")
			}
			w.mod = mod // a first hello was noted, or the like
			if left == 0 {
				return 0, err
			}
		case !unknown(err) || left == 0 || !pause(ctx):
			return 0, err
		}
	}
}

// bulk gathers writes whose order doesn't matter.
type bulk struct {
	w     *writer
	t     store.Txn
	bytes int
}

func (b *bulk) put(ctx context.Context, key string, value []byte) error {
	if size := len(key) + len(value); len(b.t.Puts) > 0 && b.bytes+size > batchBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.t.Puts = append(b.t.Puts, store.KV{Key: key, Value: value})
	b.bytes += len(key) + len(value)
	return b.full(ctx)
}

func (b *bulk) delete(ctx context.Context, key string) error {
	b.t.Deletes = append(b.t.Deletes, key)
	return b.full(ctx)
}

func (b *bulk) full(ctx context.Context) error {
	if len(b.t.Puts)+len(b.t.Deletes) < batchOps {
		return nil
	}
	return b.flush(ctx)
}

func (b *bulk) flush(ctx context.Context) error {
	_, err := b.w.commit(ctx, b.t)
	b.t, b.bytes = store.Txn{}, 0
	return err
}
