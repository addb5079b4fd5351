package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Bounds of what Adopt moves in one transaction: the log of a control plane that has just begun.
const (
	adoptEntries = 300
	adoptBytes   = 512 << 10
)

// NextFunc gives one key below view.AuditPrefix after another, in order, with its value; false at the end.
type NextFunc func() (key string, value []byte, ok bool, err error)

// Adopt brings the log of another control plane into a store that becomes that one's: walk begins to give what a backup holds of it, at
// every call anew. What the store's own log says is chained behind it, so nothing is lost. Where that is more than one transaction
// holds the store's own log stays and the other one doesn't come; note says so. It may be repeated: what had no place yet may then come
// twice.
func Adopt(ctx context.Context, s store.Store, walk func() NextFunc) (note string, written int64, err error) {
	theirs, waiting, err := ending(walk())
	switch {
	case err != nil:
		return "", 0, err
	case theirs.Seq == 0 && len(waiting) > 0: // it began a moment before the backup: its entries wait for their place here
		waiting = waiting[:min(len(waiting), adoptEntries)]
		_, err := s.Commit(ctx, store.Txn{Puts: waiting})
		return "", int64(len(waiting)), err
	case theirs.Seq == 0:
		return "", 0, nil
	}
	for range races {
		ours, mod, err := ReadHead(ctx, s)
		if err != nil {
			return "", 0, err
		}
		goes, err := continues(ctx, s, ours, theirs)
		if err != nil {
			return "", 0, err
		}
		if goes {
			written, err := refill(ctx, s, walk(), theirs)
			return "", written, err
		}
		t, ok, err := behind(ctx, s, ours, theirs, waiting)
		if err != nil {
			return "", 0, err
		}
		if !ok {
			return fmt.Sprintf("the audit log of this control plane stays, it has %d entries; that of the backup isn't brought back", ours.Seq), 0, nil
		}
		t.If = []store.Cond{{Key: headKey, ModRevision: mod}}
		if _, err = s.Commit(ctx, t); err != nil && !errs.Is(err, errs.Conflict) {
			return "", 0, err
		}
	}
	return "", 0, errs.New(errs.Conflict, "others write the audit log all the time")
}

// ending gives the head of a log and what waits for its place.
func ending(next NextFunc) (Head, []store.KV, error) {
	var h Head
	var waiting []store.KV
	for {
		key, value, ok, err := next()
		if err != nil || !ok {
			return h, waiting, err
		}
		switch {
		case key == headKey:
			if err := json.Unmarshal(value, &h); err != nil {
				return Head{}, nil, errs.New(errs.Invalid, "head of the backup's audit chain: %w", err)
			}
		case strings.HasPrefix(key, pendingPrefix):
			waiting = append(waiting, store.KV{Key: key, Value: value})
		}
	}
}

// continues says whether a chain goes on from the end of another.
func continues(ctx context.Context, s store.Store, ours, theirs Head) (bool, error) {
	if ours.Seq == theirs.Seq || ours.Seq < theirs.Seq {
		return ours.Seq == theirs.Seq && ours.Hash == theirs.Hash, nil
	}
	next, _, err := Read(ctx, s, theirs.Seq+1, 1)
	return err == nil && len(next) == 1 && next[0].Seq == theirs.Seq+1 && next[0].Previous == theirs.Hash, err
}

// behind makes the other chain the store's, and has the store's own entries wait for their place behind it.
func behind(ctx context.Context, s store.Store, ours, theirs Head, waiting []store.KV) (store.Txn, bool, error) {
	own, _, err := Read(ctx, s, ours.AnchorSeq+1, adoptEntries+1)
	if err != nil || ours.AnchorSeq > 0 || len(own)+len(waiting) > adoptEntries {
		return store.Txn{}, false, err
	}
	head, err := json.Marshal(theirs)
	if err != nil {
		return store.Txn{}, false, fmt.Errorf("head of the audit chain: %w", err)
	}
	t := store.Txn{Puts: append([]store.KV{{Key: headKey, Value: head}}, waiting...)}
	size := 0
	for _, c := range own {
		c.Entry.Seq = 0
		id := fmt.Sprintf("%020d-%016x", c.Entry.Time.UnixNano(), c.Seq)
		t.Puts = append(t.Puts, store.KV{Key: pendingPrefix + id, Value: c.Entry.bytes()})
		t.Deletes = append(t.Deletes, chainKey(c.Seq))
	}
	for _, kv := range t.Puts {
		size += len(kv.Value)
	}
	return t, size <= adoptBytes, nil
}

// refill writes the entries of the adopted window that aren't there yet.
func refill(ctx context.Context, s store.Store, next NextFunc, theirs Head) (written int64, err error) {
	var t store.Txn
	size := 0
	flush := func() error {
		if len(t.Puts) == 0 {
			return nil
		}
		_, err := s.Commit(ctx, t)
		written += int64(len(t.Puts))
		t, size = store.Txn{}, 0
		return err
	}
	for {
		key, value, ok, err := next()
		if err != nil {
			return written, err
		}
		if !ok {
			return written, flush()
		}
		seq, isLink := strings.CutPrefix(key, chainPrefix)
		if n, err := strconv.ParseInt(seq, 10, 64); !isLink || err != nil || n > theirs.Seq || n <= theirs.AnchorSeq {
			continue
		}
		t.Puts = append(t.Puts, store.KV{Key: key, Value: value})
		if size += len(value); len(t.Puts) == batchEntries || size > batchBytes {
			if err := flush(); err != nil {
				return written, err
			}
		}
	}
}
