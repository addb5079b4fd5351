package specapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// Bounds of one batch of immutables.
const (
	batchBytes = 512 << 10
	batchKeys  = 64
)

// change is one transaction being put together: the heads it writes, what it read on the way, and its log.
type change struct {
	namespace string
	reads     map[string]int64 // head key -> ModRevision it was read at; 0: it wasn't there
	written   map[string]bool  // the heads among them that are written
	puts      []store.KV
	blobs     map[manifest.Hash][]byte
	moves     []view.HeadMove
}

func newChange(namespace string) *change {
	return &change{namespace: namespace, reads: map[string]int64{}, written: map[string]bool{}, blobs: map[manifest.Hash][]byte{}}
}

// read notes that the change depends on a head as it is.
func (c *change) read(kind, name string, mod int64) {
	c.reads[view.HeadKey(kind, c.namespace, name)] = mod
}

// head writes a head that was read at mod.
func (c *change) head(kind, name string, mod int64, value []byte) {
	key := view.HeadKey(kind, c.namespace, name)
	c.reads[key] = mod
	c.written[key] = true
	c.puts = append(c.puts, store.KV{Key: key, Value: value})
}

// replace writes a head together with its log entry; a second write of the same head takes the place of the first.
func (c *change) replace(kind, name string, mod int64, value []byte, m view.HeadMove) {
	key := view.HeadKey(kind, c.namespace, name)
	if i := slices.IndexFunc(c.puts, func(kv store.KV) bool { return kv.Key == key }); i >= 0 {
		c.puts[i].Value = value
	} else {
		c.head(kind, name, mod, value)
	}
	c.move(m)
}

func (c *change) blob(b []byte) manifest.Hash {
	h := manifest.Sum(b)
	c.blobs[h] = b
	return h
}

func (c *change) move(m view.HeadMove) {
	m.Namespace = c.namespace
	c.moves = append(c.moves, m)
}

// empty reports whether there is nothing to write.
func (c *change) empty() bool { return len(c.puts) == 0 }

// conds gives the conditions: every head that is written, and of those that were only read as many as fit.
func (c *change) conds() []store.Cond {
	var out []store.Cond
	for _, written := range []bool{true, false} {
		for _, key := range slices.Sorted(maps.Keys(c.reads)) {
			if c.written[key] == written && (written || len(out) < maxConds) {
				out = append(out, store.Cond{Key: key, ModRevision: c.reads[key]})
			}
		}
	}
	return out
}

// why is what a move record says about its transaction.
type why struct {
	actor, cause, message string
}

// write stores a change: immutables first, in batches, then all heads and the one move record at one revision. A lost
// race is errs.Conflict. It waits until the view shows the write.
func (s *Service) write(ctx context.Context, c *change, w why) (int64, error) {
	if len(c.puts) > maxHeads {
		return 0, errs.New(errs.Precondition, "%d objects change, at most %d fit into one transaction: apply the set in parts, shared things first", len(c.puts), maxHeads)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*storeWait)
	defer cancel()
	if err := s.writeBlobs(ctx, c.blobs); err != nil {
		return 0, fmt.Errorf("write immutables: %w", unavailable(err))
	}
	now := s.now().UTC()
	record := view.Encode(view.MoveRecord{Actor: w.actor, Cause: w.cause, Message: w.message, Time: now, Heads: c.moves})
	key := view.MoveKey(c.namespace, fmt.Sprintf("%020d-%s", now.UnixNano(), random()))
	t := store.Txn{If: append(c.conds(), store.Cond{Key: key}), Puts: append(slices.Clone(c.puts), store.KV{Key: key, Value: record})}
	rev, err := s.store.Commit(ctx, t)
	if err != nil {
		return 0, unavailable(err)
	}
	seen, stop := context.WithTimeout(ctx, viewWait)
	defer stop()
	if err := s.view.WaitFor(seen, rev); err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "written, but the view doesn't show it yet", slog.Int64("revision", rev), slog.Any("error", err))
	}
	return rev, nil
}

// writeBlobs stores the immutables that aren't there yet. They are content-addressed: writing one twice is no harm.
func (s *Service) writeBlobs(ctx context.Context, blobs map[manifest.Hash][]byte) error {
	var batch []store.KV
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		_, err := s.store.Commit(ctx, store.Txn{Puts: batch})
		batch, size = nil, 0
		return err
	}
	for h, b := range blobs {
		if _, ok := s.view.Blob(h); ok {
			continue
		}
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

// retrying plans and writes until a write isn't raced, a few times. plan is called with the view at the newest
// revision; a change without writes is not written and answers revision 0.
func (s *Service) retrying(ctx context.Context, w why, plan func() (*change, error)) (int64, error) {
	var last error
	for range attempts {
		if err := s.current(ctx); err != nil {
			return 0, err
		}
		c, err := plan()
		if err != nil || c.empty() {
			return 0, err
		}
		rev, err := s.write(ctx, c, w)
		if !errs.Is(err, errs.Conflict) {
			return rev, err
		}
		last = err
	}
	return 0, errs.New(errs.Conflict, "others keep writing the same objects, try again: %w", last)
}

func random() string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
