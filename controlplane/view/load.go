package view

import (
	"context"
	"fmt"
	"iter"
	"strings"

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
	blobs    []manifest.Hash // that weren't known
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
	for _, h := range l.blobs {
		c.blobItem(item{hash: h, Event: store.Event{KV: store.KV{Value: l.ready[h]}}})
	}
	c.stats.Events += int64(len(l.blobs))
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
	l := listing{prepared: prepared{ready: map[manifest.Hash][]byte{}}}
	there := map[string]struct{}{} // filled only if something may be gone
	first := v.revision == 0
	changed := func(kvs []store.KV) []store.Event {
		var out []store.Event
		for _, kv := range kvs {
			if !first {
				there[kv.Key] = struct{}{}
			}
			if v.modOf(kv.Key) != kv.ModRevision {
				out = append(out, store.Event{KV: kv})
			}
		}
		return out
	}
	wanted := map[manifest.Hash]struct{}{}
	heads := func(kvs []store.KV) {
		items := v.decodeAll(changed(kvs))
		for _, it := range items {
			for _, h := range namedBy(it.rec) {
				wanted[h] = struct{}{}
			}
		}
		l.items = append(l.items, items...)
	}
	blobs := func(kvs []store.KV) {
		events := make([]store.Event, len(kvs))
		for i, kv := range kvs {
			events[i] = store.Event{KV: kv}
			if !first {
				there[kv.Key] = struct{}{}
			}
		}
		for _, it := range v.decodeAll(events) {
			_, known := v.blobs.known[it.hash]
			switch _, keep := wanted[it.hash]; {
			case it.err != nil:
				l.items = append(l.items, it)
				continue
			case keep:
				l.ready[it.hash] = it.Value
			}
			if !known {
				l.blobs = append(l.blobs, it.hash)
			}
		}
	}
	rest := func(kvs []store.KV) { l.items = append(l.items, v.decodeAll(changed(kvs))...) }
	for _, part := range []struct {
		prefix string
		take   func([]store.KV)
	}{{headPrefix, heads}, {blobPrefix, blobs}, {appliedPrefix, rest}, {refusalPrefix, rest}, {movePrefix, rest}, {settingsPrefix, rest}, {ClusterKey, rest}} {
		if err := v.walk(ctx, part.prefix, &l.revision, part.take); err != nil {
			return listing{}, err
		}
	}
	v.readSpecs(l.prepared)
	if !first {
		for key := range v.keys() {
			if _, ok := there[key]; !ok {
				l.gone = append(l.gone, key)
			}
		}
	}
	return l, nil
}

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

// modOf gives the ModRevision at which a key is held; 0 if it isn't.
func (v *View) modOf(key string) int64 {
	switch {
	case strings.HasPrefix(key, headPrefix):
		id, _ := parseHead(key)
		return v.headMod(id)
	case strings.HasPrefix(key, appliedPrefix):
		id, h, _ := parseConfig(key, appliedPrefix)
		if set := v.applied[id]; set != nil && set.configs[h] != nil {
			return set.configs[h].mod
		}
		return 0
	case strings.HasPrefix(key, movePrefix):
		if m := v.moves.byKey[key]; m != nil {
			return m.mod
		}
		return 0
	default:
		return v.mods[key]
	}
}

func (v *View) headMod(id headID) int64 {
	switch id.kind {
	case manifest.KindAgent:
		if n := v.agents[id]; n != nil {
			return n.mod
		}
	case manifest.KindPrompt:
		if n := v.prompts[id]; n != nil {
			return n.mod
		}
	case manifest.KindMCP:
		if n := v.mcp[id]; n != nil {
			return n.mod
		}
	case manifest.KindCredential:
		if n := v.credentials[id]; n != nil {
			return n.mod
		}
	}
	return 0
}

// keys gives every key that is held.
func (v *View) keys() iter.Seq[string] {
	return func(yield func(string) bool) {
		for kind, ids := range v.order {
			for _, id := range ids {
				if !yield(HeadKey(kind, id.namespace, id.name)) {
					return
				}
			}
		}
		for h := range v.blobs.known {
			if !yield(BlobKey(h)) {
				return
			}
		}
		for id, set := range v.applied {
			for h := range set.configs {
				if !yield(AppliedKey(id.namespace, id.name, h)) {
					return
				}
			}
		}
		for key := range v.moves.byKey {
			if !yield(key) {
				return
			}
		}
		for key := range v.mods {
			if !yield(key) {
				return
			}
		}
	}
}
