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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		shown := v.Revision()
		bounded, cancel := context.WithTimeout(ctx, storeLookWait)
		newest, err := s.Commit(bounded, store.Txn{})
		cancel()
		if err == nil && newest < shown {
			return errs.New(errs.Precondition, "STORE_WENT_BACK: the store is at revision %d, and was at %d: it was brought back under this process, which must begin anew", newest, shown)
		}
	}
}
