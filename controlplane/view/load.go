package view

import (
	"context"
	"fmt"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	pageSize   = 500
	listRounds = 5
)

// relist reads everything at one store revision and takes in the difference to what is held, as one batch.
func (v *View) relist(ctx context.Context) error {
	kvs, revision, err := v.list(ctx)
	if err != nil {
		return fmt.Errorf("list the store: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if revision < v.revision {
		return errs.New(errs.Precondition, "the store went back: it is at revision %d, the view has shown %d", revision, v.revision)
	}
	c := v.begin()
	there := make(map[string]struct{}, len(kvs))
	for _, kv := range kvs {
		there[kv.Key] = struct{}{}
		if c.mods[kv.Key] != kv.ModRevision {
			c.event(store.Event{KV: kv})
		}
	}
	var gone []string
	for key := range c.mods {
		if _, ok := there[key]; !ok {
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		c.event(store.Event{KV: store.KV{Key: key, ModRevision: revision}, Deleted: true})
	}
	v.stats.Relists++
	c.finish(revision)
	return nil
}

// list pages through Root at the revision of the first page. When that is compacted meanwhile it starts over.
func (v *View) list(ctx context.Context) ([]store.KV, int64, error) {
	var last error
	for range listRounds {
		kvs, revision, err := v.listOnce(ctx)
		if !errs.Is(err, errs.OutOfRange) {
			return kvs, revision, err
		}
		last = err
	}
	return nil, 0, errs.New(errs.Unavailable, "compacted under %d listings: %w", listRounds, last)
}

func (v *View) listOnce(ctx context.Context) ([]store.KV, int64, error) {
	var all []store.KV
	opts := store.ListOptions{Limit: pageSize}
	for {
		page, err := v.store.List(ctx, Root, opts)
		if err != nil {
			return nil, 0, err
		}
		all = append(all, page.KVs...)
		if opts.Revision == 0 {
			opts.Revision = page.Revision
		}
		if page.Next == "" {
			return all, opts.Revision, nil
		}
		opts.From = page.Next
	}
}
