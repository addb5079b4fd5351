package view

import (
	"context"
	"fmt"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

const (
	listRounds = 5
	// A listing begins with firstPage keys and then asks for as many as make about pageBytes: etcd counts the rest of
	// the range for every page, and a page must fit into memory.
	firstPage = 500
	minPage   = 100
	maxPage   = 20_000
	pageBytes = 1 << 20
)

// listing is the difference of the store at one revision to what the view holds.
type listing struct {
	prepared

	revision int64
	found    []manifest.Hash // blobs that weren't known
	gone     []string
}

// relist reads everything at one store revision and takes in the difference to what is held, as one batch.
func (v *View) relist(ctx context.Context) error {
	l, err := v.list(ctx)
	if err != nil {
		return fmt.Errorf("list the store: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if l.revision < v.revision {
		return errs.New(errs.Precondition, "the store went back: it is at revision %d, the view has shown %d", l.revision, v.revision)
	}
	c := v.begin(l.ready)
	for _, h := range l.found {
		c.blobItem(item{hash: h, Event: store.Event{KV: store.KV{Value: l.ready[h]}}})
	}
	c.stats.Events += int64(len(l.found))
	for _, it := range l.items {
		c.take(it)
	}
	for _, it := range v.decodeAll(deletions(l.gone, l.revision)) {
		c.take(it)
	}
	v.stats.Relists++
	c.finish(l.revision)
	return nil
}

func deletions(keys []string, revision int64) []store.Event {
	var out []store.Event
	for _, key := range keys {
		out = append(out, store.Event{KV: store.KV{Key: key, ModRevision: revision}, Deleted: true})
	}
	return out
}

// list pages through Root at the revision of the first page. When that is compacted meanwhile it starts over.
func (v *View) list(ctx context.Context) (listing, error) {
	var last error
	for range listRounds {
		l, err := v.listOnce(ctx)
		if !errs.Is(err, errs.OutOfRange) {
			return l, err
		}
		last = err
	}
	return listing{}, errs.New(errs.Unavailable, "compacted under %d listings: %w", listRounds, last)
}

// listOnce reads heads first: they say which blobs' bytes are worth keeping.
func (v *View) listOnce(ctx context.Context) (listing, error) {
	l := lister{
		View: v, listing: listing{prepared: prepared{ready: map[manifest.Hash][]byte{}}}, wanted: map[manifest.Hash]struct{}{},
		there: map[string]struct{}{}, first: v.revision == 0,
	}
	for _, part := range []struct {
		prefix string
		take   func([]store.KV)
	}{
		{headPrefix, l.heads},
		{blobPrefix, l.content},
		{appliedPrefix, l.rest},
		{refusalPrefix, l.rest},
		{movePrefix, l.rest},
		{settingsPrefix, l.rest},
		{ClusterKey, l.rest},
	} {
		if err := v.walk(ctx, part.prefix, &l.listing.revision, part.take); err != nil {
			return listing{}, err
		}
	}
	v.readSpecs(l.prepared)
	if !l.first {
		for key := range v.keys() {
			if _, ok := l.there[key]; !ok {
				l.gone = append(l.gone, key)
			}
		}
	}
	return l.listing, nil
}

// lister is one listing under way.
type lister struct {
	*View
	listing

	wanted map[manifest.Hash]struct{} // blobs that heads name
	there  map[string]struct{}        // keys that the store has; empty the first time, when nothing can be gone
	first  bool
}

// changed gives what isn't held as it is.
func (l *lister) changed(kvs []store.KV) []store.Event {
	var out []store.Event
	for _, kv := range kvs {
		l.see(kv.Key)
		if l.modOf(kv.Key) != kv.ModRevision {
			out = append(out, store.Event{KV: kv})
		}
	}
	return out
}

func (l *lister) see(key string) {
	if !l.first {
		l.there[key] = struct{}{}
	}
}

func (l *lister) heads(kvs []store.KV) {
	items := l.decodeAll(l.changed(kvs))
	for _, it := range items {
		for _, h := range namedBy(it.rec) {
			l.wanted[h] = struct{}{}
		}
	}
	l.items = append(l.items, items...)
}

func (l *lister) content(kvs []store.KV) {
	events := make([]store.Event, len(kvs))
	for i, kv := range kvs {
		l.see(kv.Key)
		events[i] = store.Event{KV: kv}
	}
	for _, it := range l.decodeAll(events) {
		if it.err != nil {
			l.items = append(l.items, it)
			continue
		}
		if _, keep := l.wanted[it.hash]; keep {
			l.ready[it.hash] = it.Value
		}
		if _, known := l.blobs.known[it.hash]; !known {
			l.found = append(l.found, it.hash)
		}
	}
}

func (l *lister) rest(kvs []store.KV) { l.items = append(l.items, l.decodeAll(l.changed(kvs))...) }

// walk reads the keys under a prefix at a revision (0: the newest, which is then set). The next page is on its way while
// take works.
func (v *View) walk(ctx context.Context, prefix string, revision *int64, take func([]store.KV)) error {
	type answer struct {
		page store.Page
		err  error
	}
	read := func(from string, limit int, at int64) answer {
		page, err := v.store.List(ctx, prefix, store.ListOptions{From: from, Limit: limit, Revision: at})
		return answer{page, err}
	}
	limit := firstPage
	now := read("", limit, *revision)
	for {
		if now.err != nil {
			return now.err
		}
		if *revision == 0 {
			*revision = now.page.Revision
		}
		if now.page.Next == "" {
			take(now.page.KVs)
			return nil
		}
		limit = nextLimit(now.page.KVs)
		next := make(chan answer, 1)
		go func(at int64) { next <- read(now.page.Next, limit, at) }(*revision)
		take(now.page.KVs)
		now = <-next
	}
}

// nextLimit gives how many keys like these make a page.
func nextLimit(kvs []store.KV) int {
	size := 0
	for _, kv := range kvs {
		size += len(kv.Key) + len(kv.Value)
	}
	if size == 0 {
		return firstPage
	}
	return min(max(len(kvs)*pageBytes/size, minPage), maxPage)
}
