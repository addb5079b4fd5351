// Package headwrite is how people's requests move heads: immutables first, in batches or, when they are few, in the same
// transaction; then one compare-and-swap transaction of all heads and one move record, planned anew when it lost a race. The
// services of the people door write by it; the releaser, whose transactions hold other things too, has its own. It decides nothing.
package headwrite

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

const (
	// MaxHeads is how many heads one transaction writes (semantics.md 12).
	MaxHeads = 100
	// maxConds bounds the conditions of one transaction.
	maxConds = 120
	// attempts is how often a write that lost a race is planned again.
	attempts = 5
	// viewWait bounds the wait for the view to show a write; reads may lag after it, the write stands.
	viewWait = 5 * time.Second
	// storeWait bounds one exchange with the store, elections included: the store tries again within it (package once).
	storeWait = 15 * time.Second
	// writeWait bounds the writing of one plan. It leaves room for the wait for the view.
	writeWait = storeWait + viewWait
)

// Bounds of one batch of immutables.
const (
	batchBytes = 512 << 10
	batchKeys  = 64
)

// Config is what a Writer needs; everything is required.
type Config struct {
	Store  store.Store
	View   *view.View
	Now    func() time.Time
	Logger *slog.Logger
}

// Writer writes changes. It is safe for concurrent use.
type Writer struct{ cfg Config }

// New makes a Writer.
func New(cfg Config) (*Writer, error) {
	if cfg.Store == nil || cfg.View == nil || cfg.Now == nil || cfg.Logger == nil {
		return nil, errs.New(errs.Invalid, "headwrite: something required is missing")
	}
	return &Writer{cfg: cfg}, nil
}

// Why is what a move record says about its transaction.
type Why struct{ Actor, Cause, Message string }

// Retrying plans and writes until a write isn't raced, a few times (then errs.Conflict). plan is called with the view
// at the newest revision; a change without writes is not written and answers revision 0.
func (w *Writer) Retrying(ctx context.Context, why Why, plan func() (*Change, error)) (int64, error) {
	var last error
	for range attempts {
		if err := w.Current(ctx); err != nil {
			return 0, err
		}
		c, err := plan()
		if err != nil || c.Empty() {
			return 0, err
		}
		rev, err := w.write(ctx, c, why)
		if !errs.Is(err, errs.Conflict) {
			return rev, err
		}
		last = err
	}
	return 0, errs.New(errs.Conflict, "others keep writing the same objects, try again: %w", last)
}

// Current waits until the view shows at least what the store holds now, by a linearizable read. A store that doesn't answer is
// errs.Unavailable.
func (w *Writer) Current(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeWait)
	defer cancel()
	rev, err := w.cfg.Store.Commit(ctx, store.Txn{})
	if err != nil {
		return unavailable(err)
	}
	if err := w.cfg.View.WaitFor(ctx, rev); err != nil {
		return errs.New(errs.Unavailable, "catch up with the store: %w", err)
	}
	return nil
}

// write stores a change: immutables first, in batches unless they fit into one, then all heads and the one move record at
// one revision. A lost
// race is errs.Conflict. It waits until the view shows the write.
func (w *Writer) write(ctx context.Context, c *Change, why Why) (int64, error) {
	if c.Heads() > MaxHeads {
		return 0, errs.New(errs.Precondition, "%d objects change, at most %d fit into one transaction: apply the set in parts, shared things first", c.Heads(), MaxHeads)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWait)
	defer cancel()
	var blobs []store.KV
	if c.small() { // in the transaction of the heads: one write to disk instead of two, and nothing left over when it fails
		blobs = c.blobKVs()
	} else if err := w.writeBlobs(ctx, c.blobs); err != nil {
		return 0, fmt.Errorf("write immutables: %w", unavailable(err))
	}
	now := w.cfg.Now().UTC()
	record := view.Encode(view.MoveRecord{Actor: why.Actor, Cause: why.Cause, Message: why.Message, Time: now, Heads: c.moves})
	key := view.MoveKey(c.namespace, fmt.Sprintf("%020d-%s", now.UnixNano(), random()))
	t := store.Txn{If: append(c.conds(), store.Cond{Key: key}), Puts: slices.Concat(blobs, c.puts, []store.KV{{Key: key, Value: record}})}
	rev, err := w.cfg.Store.Commit(ctx, t)
	if err != nil {
		return 0, unavailable(err)
	}
	// gofail: var afterCommitBeforeView struct{}
	// go panic("failpoint afterCommitBeforeView")
	// select {}

	seen, stop := context.WithTimeout(ctx, viewWait)
	defer stop()
	if err := w.cfg.View.WaitFor(seen, rev); err != nil {
		w.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "written, but the view doesn't show it yet", slog.Int64("revision", rev), slog.Any("error", err))
	}
	// gofail: var afterCommitBeforeAnswer struct{}
	// go panic("failpoint afterCommitBeforeAnswer")
	// select {}

	return rev, nil
}

// writeBlobs stores the immutables. One that is there already is written again: that keeps package collector from removing it
// between here and the write of the head that names it.
func (w *Writer) writeBlobs(ctx context.Context, blobs map[manifest.Hash][]byte) error {
	var batch []store.KV
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := w.cfg.Store.Commit(ctx, store.Txn{Puts: batch})
		batch, size = nil, 0
		return err
	}
	for h, b := range blobs {
		if len(batch) == batchKeys || size+len(b) > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, store.KV{Key: view.BlobKey(h), Value: b})
		size += len(b)
	}
	return flush()
}

// unavailable turns a store that is silent into one that is known to be away: the caller should try again.
func unavailable(err error) error {
	if errs.Is(err, errs.Timeout) || errs.Is(err, errs.Internal) {
		return errs.New(errs.Unavailable, "store: %w", err)
	}
	return err
}

func random() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
