package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/auditchain"
	"github.com/agentry/agentry/internal/errs"
)

const (
	pendingPage  = 1000
	pendingPages = 10  // more wait for the next fold
	races        = 20  // lost ones until an error
	trimSlack    = 100 // entries over the window before it is trimmed
	trimMost     = 200 // entries that one transaction removes
)

// fold chains what is pending, in batches.
func (c *Chainer) fold(ctx context.Context) error {
	lost := 0
	for {
		// The head before the entries: one that another replica chains after that has moved the head.
		head, mod, err := ReadHead(ctx, c.cfg.Store)
		if err != nil {
			return err
		}
		pending, err := c.pending(ctx)
		if err != nil || len(pending) == 0 {
			return err
		}
		for err == nil && len(pending) > 0 {
			n := size(pending)
			head, mod, err = c.chain(ctx, head, mod, pending[:n])
			pending = pending[n:]
		}
		if err == nil {
			continue // there may be more than were read
		}
		if !errs.Is(err, errs.Conflict) || lost == races {
			return err
		}
		lost++
		timer := time.NewTimer(time.Hour)
		pause(ctx, timer, time.Duration(rand.Int64N(int64(20*time.Millisecond)))) //nolint:gosec // G404: spreads writers
		timer.Stop()
	}
}

// pending gives the entries without a place in the order of the store's revisions, those of one revision by key.
func (c *Chainer) pending(ctx context.Context) ([]store.KV, error) {
	var out []store.KV
	opts := store.ListOptions{Limit: pendingPage}
	for range pendingPages {
		page, err := c.cfg.Store.List(ctx, pendingPrefix, opts)
		if err != nil {
			return nil, err
		}
		out = append(out, page.KVs...)
		if opts.Revision, opts.From = page.Revision, page.Next; page.Next == "" {
			break
		}
	}
	slices.SortStableFunc(out, func(a, b store.KV) int {
		return cmp.Or(cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(a.Key, b.Key))
	})
	return out, nil
}

// size gives how many fit into one transaction.
func size(pending []store.KV) int {
	n, bytes := 0, 0
	for n < len(pending) && n < batchEntries && (n == 0 || bytes+len(pending[n].Value) <= batchBytes) {
		bytes += len(pending[n].Value)
		n++
	}
	return n
}

// chain moves pending entries behind the chain's end, and the window's beginning on, in one transaction. It gives the new head.
func (c *Chainer) chain(ctx context.Context, head Head, mod int64, pending []store.KV) (Head, int64, error) {
	t := store.Txn{If: []store.Cond{{Key: headKey, ModRevision: mod}}}
	for _, kv := range pending {
		l, err := c.link(head, kv)
		if err != nil {
			return Head{}, 0, err
		}
		t.Puts = append(t.Puts, store.KV{Key: chainKey(head.Seq + 1), Value: stored(l, head.Hash)})
		head.Seq, head.Hash, head.Bytes = head.Seq+1, l.Hash, head.Bytes+int64(len(l.Record))
		t.Deletes = append(t.Deletes, kv.Key)
	}
	if err := c.trim(ctx, &head, &t); err != nil {
		return Head{}, 0, err
	}
	b, err := json.Marshal(head)
	if err != nil {
		return Head{}, 0, fmt.Errorf("head of the audit chain: %w", err)
	}
	t.Puts = append(t.Puts, store.KV{Key: headKey, Value: b})
	mod, err = c.cfg.Store.Commit(ctx, t)
	return head, mod, err
}

// link makes the next entry of a chain. What can't be read gets an entry that says so: it must not hold up the others.
func (c *Chainer) link(head Head, kv store.KV) (auditchain.Link, error) {
	var e Entry
	err := json.Unmarshal(kv.Value, &e)
	if err == nil {
		e.Seq = head.Seq + 1
	} else {
		e = Entry{Seq: head.Seq + 1, Type: Lost, Actor: systemActor, Replica: c.cfg.Origin.Replica, Outcome: "lost", Time: c.cfg.Origin.now(), Message: fmt.Sprintf("a pending entry of %d bytes could not be read", len(kv.Value))}
	}
	record, err := e.record()
	if err != nil {
		return auditchain.Link{}, fmt.Errorf("audit record: %w", err)
	}
	return auditchain.Link{Record: record, Hash: auditchain.Sum(head.Hash, record)}, nil
}

// trim takes the oldest entries out of a window that is too large. The anchor keeps the hash that the rest goes on from.
func (c *Chainer) trim(ctx context.Context, head *Head, t *store.Txn) error {
	over := func() bool {
		return head.Seq-head.AnchorSeq > c.cfg.Window || (head.Bytes > c.cfg.WindowBytes && head.Seq-head.AnchorSeq > batchEntries)
	}
	if !over() || (head.Seq-head.AnchorSeq < c.cfg.Window+trimSlack && head.Bytes <= c.cfg.WindowBytes) {
		return nil
	}
	old, _, err := Read(ctx, c.cfg.Store, head.AnchorSeq+1, trimMost)
	if err != nil {
		return err
	}
	for _, e := range old {
		if !over() {
			break
		}
		t.Deletes = append(t.Deletes, chainKey(e.Seq))
		head.AnchorSeq, head.AnchorHash, head.Bytes = e.Seq, e.Hash, head.Bytes-int64(len(e.Record))
	}
	return nil
}
