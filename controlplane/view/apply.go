package view

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/manifest"
)

// change is one batch under way: v.mu is held for writing, and touched collects whom it may concern.
type change struct {
	*View
	touched map[headID]struct{}      // what their configs are built from changed
	proven  map[headID]struct{}      // which of their lines are proven changed
	fresh   map[headID]*appliedSet   // made in this batch, so nobody has seen them
	gone    map[AgentKey]struct{}    // agents whose heads were deleted
	ready   map[manifest.Hash][]byte // blobs at hand
	added   map[headID]struct{}      // heads that weren't there
	now     time.Time                // when it is seen
}

// begin opens a change; v.mu must be held for writing until its finish.
func (v *View) begin(ready map[manifest.Hash][]byte) change {
	return change{
		View: v, touched: map[headID]struct{}{}, proven: map[headID]struct{}{}, fresh: map[headID]*appliedSet{},
		gone: map[AgentKey]struct{}{}, ready: ready, added: map[headID]struct{}{}, now: time.Now(),
	}
}

// apply takes whole store revisions in, all at once for every reader. It is the watch's emit; it fails when a blob that a head
// names again can't be read, and is then called again.
func (v *View) apply(ctx context.Context, b store.Batch) error {
	if b.Revision <= v.revision { // only this goroutine writes it
		return nil // seen before: a watch may start over
	}
	events := slices.DeleteFunc(slices.Clone(b.Events), func(e store.Event) bool { return e.ModRevision <= v.revision })
	p, err := v.prepare(ctx, events)
	if err != nil {
		return fmt.Errorf("read what changed heads name: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.begin(p.ready)
	for _, it := range p.items {
		c.take(it)
	}
	v.stats.Batches++
	c.finish(b.Revision)
	return nil
}

// finish shows the new revision to everyone.
func (c change) finish(revision int64) {
	c.revision = revision
	c.order.add(slices.Collect(maps.Keys(c.added)))
	moved := maps.Clone(c.gone)
	for id := range c.touched {
		if a, ok := c.agents[id]; ok {
			a.moved = revision
			a.sharing.end()
			moved[AgentKey{Namespace: id.namespace, Name: a.head.Name}] = struct{}{}
		}
	}
	keys := moved
	if len(c.proven) > 0 {
		keys = maps.Clone(moved)
	}
	for id := range c.proven {
		if a, ok := c.agents[id]; ok {
			keys[AgentKey{Namespace: id.namespace, Name: a.head.Name}] = struct{}{}
		}
	}
	c.stats.Touched += int64(len(keys))
	for s := range c.subs {
		if s.moves {
			s.add(moved, revision)
		} else {
			s.add(keys, revision)
		}
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// take brings one item into the index.
func (c change) take(it item) {
	c.stats.Events++
	if it.err != nil {
		c.skip(it.Key, it.err)
		return
	}
	switch {
	case strings.HasPrefix(it.Key, headPrefix):
		c.headItem(it)
	case strings.HasPrefix(it.Key, blobPrefix):
		c.blobItem(it)
	case strings.HasPrefix(it.Key, appliedPrefix):
		c.appliedItem(it)
	case strings.HasPrefix(it.Key, refusalPrefix):
		c.note(it)
		c.refusalItem(it)
	case strings.HasPrefix(it.Key, movePrefix):
		c.moveItem(it)
	case strings.HasPrefix(it.Key, settingsPrefix):
		c.note(it)
		name := strings.TrimPrefix(it.Key, settingsPrefix)
		if it.Deleted {
			delete(c.settings, name)
		} else {
			c.settings[name] = it.Value
		}
	case it.Key == ClusterKey:
		c.note(it)
		c.clusterItem(it)
	}
}

// note keeps the ModRevision of what doesn't hold it itself.
func (c change) note(it item) {
	if it.Deleted {
		delete(c.mods, it.Key)
	} else {
		c.mods[it.Key] = it.ModRevision
	}
}

// skip leaves a record out: what was known before stays.
func (c change) skip(key string, err error) {
	c.stats.Undecodable++
	c.log.LogAttrs(context.Background(), slog.LevelError, "view left a record out", slog.String("key", key), slog.Any("error", err))
}

func (c change) clusterItem(it item) {
	cluster, _ := it.rec.(Cluster) // zero if it was deleted
	if cluster.Epoch != c.cluster.Epoch {
		for id := range c.agents {
			c.touched[id] = struct{}{}
		}
		c.began = c.now
	}
	c.cluster = cluster
}

func (c change) blobItem(it item) {
	h := it.hash
	if it.Deleted {
		c.blobs.remove(h)
		return
	}
	c.blobs.add(h, it.Value)
	for id := range c.waiting[h] {
		if a, ok := c.agents[id]; ok {
			c.link(id, a, nil)
		}
		c.touch(id)
	}
	delete(c.waiting, h)
}

func (c change) headItem(it item) {
	id := it.id
	switch n := it.rec.(type) {
	case *agentNode:
		c.pins(inPlay(n.head.State), func() []manifest.Hash {
			if old := c.agents[id]; old != nil {
				return inPlay(old.head.State)
			}
			c.added[id] = struct{}{}
			return nil
		})
		c.link(id, n, it.read)
	case *node[PromptHead, snapshot.PromptHead]:
		c.await(id, n.head.Versions)
		put(c, c.prompts, id, n, inUse)
	case *node[MCPHead, snapshot.MCPHead]:
		c.await(id, n.head.Versions)
		put(c, c.mcp, id, n, current)
	case *node[CredentialHead, snapshot.CredentialHead]:
		put(c, c.credentials, id, n, func(CredentialHead) []manifest.Hash { return nil })
	default: // never in a store that we write, but a repair may delete a head
		c.drop(id)
		if id.kind == manifest.KindAgent {
			return
		}
	}
	c.touch(id)
}

// put takes one shared head into its table.
func put[H, S any](c change, table map[headID]*node[H, S], id headID, n *node[H, S], names func(H) []manifest.Hash) {
	c.pins(names(n.head), func() []manifest.Hash {
		if old := table[id]; old != nil {
			return names(old.head)
		}
		c.added[id] = struct{}{}
		return nil
	})
	n.seen = c.now
	table[id] = n
}

// pins keeps the blobs that a head names in memory, and no longer those that it named before.
func (c change) pins(now []manifest.Hash, before func() []manifest.Hash) {
	for _, h := range now {
		c.blobs.pin(h, c.ready)
	}
	for _, h := range before() {
		c.blobs.unpin(h)
	}
}

// drop takes a head out.
func (c change) drop(id headID) {
	var named []manifest.Hash
	switch id.kind {
	case manifest.KindAgent:
		if old := c.agents[id]; old != nil {
			named = inPlay(old.head.State)
		}
		c.unlink(id)
	case manifest.KindPrompt:
		if old := c.prompts[id]; old != nil {
			named = inUse(old.head)
		}
		delete(c.prompts, id)
	case manifest.KindMCP:
		if old := c.mcp[id]; old != nil {
			named = current(old.head)
		}
		delete(c.mcp, id)
	case manifest.KindCredential:
		delete(c.credentials, id)
	}
	for _, h := range named {
		c.blobs.unpin(h)
	}
	if _, fresh := c.added[id]; fresh {
		delete(c.added, id)
	} else {
		c.order.remove(id)
	}
}

// touch notes the agents whose configs depend on a head: an agent's own is itself.
func (c change) touch(id headID) {
	if id.kind == manifest.KindAgent {
		c.touched[id] = struct{}{}
		return
	}
	c.alike.end()
	maps.Copy(c.touched, c.dependents[id])
}

// await remembers which versions' blobs are missing. Writers put blobs first, so this is for broken orders only.
func (c change) await(id headID, versions []VersionRef) {
	for _, r := range versions {
		c.awaitBlob(id, r.Hash)
	}
}

func (c change) awaitBlob(id headID, h manifest.Hash) bool {
	if _, ok := c.blobs.known[h]; ok || h.IsZero() {
		return false
	}
	if c.waiting[h] == nil {
		c.waiting[h] = map[headID]struct{}{}
	}
	c.waiting[h][id] = struct{}{}
	return true
}
