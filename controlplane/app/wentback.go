package app

import (
	"context"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// Of the look whether the store is still at least where this replica has seen it.
const (
	storeLookEvery = 2 * time.Second
	storeLookWait  = 2 * time.Second
)

// followed fails once the store is behind what the view has shown: somebody brought an older state of it back under this process, whose
// watch waits for revisions that may come again with other contents. A new process begins with what the store holds now.
func followed(ctx context.Context, s store.Store, v *view.View) error {
	t := time.NewTicker(storeLookEvery)
	defer t.Stop()
	var former view.Witness // of the look before: the newest may be of what came since the store went back
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		newest, _ := v.Witness()
		bounded, cancel := context.WithTimeout(ctx, storeLookWait)
		err := wentBack(bounded, s, v, former, newest)
		cancel()
		if err != nil && ctx.Err() == nil {
			return err
		}
		former = newest
	}
}

// wentBack compares the store's revision with the view's, and looks for what the view has seen and nobody writes twice: the revision may
// have passed the view's before anybody looked. A store that doesn't answer is no answer.
func wentBack(ctx context.Context, s store.Store, v *view.View, seen ...view.Witness) error {
	shown := v.Revision()
	newest, err := s.Commit(ctx, store.Txn{})
	if err == nil && newest < shown {
		return errs.New(errs.Precondition, "STORE_WENT_BACK: the store is at revision %d, and was at %d: it was brought back under this process, which must begin anew", newest, shown)
	}
	for _, w := range seen {
		if err != nil {
			return nil //nolint:nilerr // it is told elsewhere
		}
		if !v.Shows(w) {
			continue
		}
		kv, gerr := s.Get(ctx, w.Key)
		if gerr != nil && !errs.Is(gerr, errs.NotFound) || gerr == nil && kv.ModRevision == w.ModRevision {
			continue
		}
		// Either it was removed a moment ago, which the view shows soon, or it never was in this store.
		if newest, err = s.Commit(ctx, store.Txn{}); err == nil && v.WaitFor(ctx, newest) == nil && v.Shows(w) {
			return errs.New(errs.Precondition, "STORE_WENT_BACK: the store doesn't have what it held at revision %d: it was brought back under this process, which must begin anew", w.ModRevision)
		}
	}
	return nil
}

// generationBy gives the generation of an agent's configs as the view shows them, whatever the publisher has rendered.
func generationBy(v *view.View) func(namespace, agent string) (int64, bool) {
	desired := desiredBy(v)
	return func(namespace, agent string) (int64, bool) {
		ref, err := desired(namespace, agent)
		return ref.Token.Generation, err == nil && ref.Token.Generation != 0
	}
}
