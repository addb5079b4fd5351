package leader

import (
	"context"
	"slices"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// Fence gives a store that writes only within a term: every transaction carries the term's condition, so one that is sent after the
// end of the term is not written, however late the sender learns of the end. A write that shows that the term has ended also ends
// the term's context, and is errs.Unavailable: another replica leads and judges anew.
func Fence(s store.Store, t Term) store.Store { return &fenced{Store: s, term: t} }

type fenced struct {
	store.Store

	term Term
}

// Commit writes t within the term, or nothing.
func (f *fenced) Commit(ctx context.Context, t store.Txn) (int64, error) {
	if len(t.Puts)+len(t.Deletes) == 0 {
		return f.Store.Commit(ctx, t)
	}
	// gofail: var deafLeader struct{}
	// ctx = context.WithoutCancel(ctx)

	// gofail: var mutateUnfenced struct{}
	// return f.Store.Commit(ctx, t)

	t.If = append(slices.Clone(t.If), f.term.Cond())
	revision, err := f.Store.Commit(ctx, t)
	if !errs.Is(err, errs.Conflict) {
		return revision, err
	}
	kv, gerr := f.Get(ctx, view.LeaderKey)
	if errs.Is(gerr, errs.NotFound) || gerr == nil && kv.ModRevision != f.term.number {
		if f.term.end != nil {
			f.term.end()
		}
		return 0, errs.New(errs.Unavailable, "term %d of this replica's lead is over: %w", f.term.number, err)
	}
	return 0, err
}
