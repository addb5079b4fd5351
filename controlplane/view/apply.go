package view

import (
	"context"
	"log/slog"
	"maps"
	"strings"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// change is one batch under way: v.mu is held for writing, and touched collects whom it may concern.
type change struct {
	*View
	touched map[headID]struct{}
	fresh   map[headID]*appliedSet // made in this batch, so nobody has seen them
	gone    map[AgentKey]struct{}  // agents whose heads were deleted
}

// begin opens a change; v.mu must be held for writing until its finish.
func (v *View) begin() change {
	return change{View: v, touched: map[headID]struct{}{}, fresh: map[headID]*appliedSet{}, gone: map[AgentKey]struct{}{}}
}

// apply takes whole store revisions in, all at once for every reader. It is the watch's emit and never fails.
func (v *View) apply(b store.Batch) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if b.Revision <= v.revision {
		return nil // seen before: a watch may start over
	}
	c := v.begin()
	for _, e := range b.Events {
		if e.ModRevision > v.revision {
			c.event(e)
		}
	}
	v.stats.Batches++
	c.finish(b.Revision)
	return nil
}

// finish shows the new revision to everyone.
func (c change) finish(revision int64) {
	c.revision = revision
	keys := maps.Clone(c.gone)
	for id := range c.touched {
		if a, ok := c.agents[id]; ok {
			keys[AgentKey{Namespace: id.namespace, Name: a.head.Name}] = struct{}{}
		}
	}
	for s := range c.subs {
		s.add(keys, revision)
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c change) event(e store.Event) {
	c.stats.Events++
	if e.Deleted {
		delete(c.mods, e.Key)
	} else {
		c.mods[e.Key] = e.ModRevision
	}
	var err error
	switch {
	case strings.HasPrefix(e.Key, headPrefix):
		err = c.headEvent(e)
	case strings.HasPrefix(e.Key, blobPrefix):
		err = c.blobEvent(e)
	case strings.HasPrefix(e.Key, appliedPrefix):
		err = c.appliedEvent(e)
	case strings.HasPrefix(e.Key, refusalPrefix):
		err = c.refusalEvent(e)
	case strings.HasPrefix(e.Key, movePrefix):
		err = c.moveEvent(e)
	case strings.HasPrefix(e.Key, settingsPrefix):
		name := strings.TrimPrefix(e.Key, settingsPrefix)
		if e.Deleted {
			delete(c.settings, name)
		} else {
			c.settings[name] = e.Value
		}
	case e.Key == ClusterKey:
		err = c.clusterEvent(e)
	}
	if err != nil {
		c.skip(e.Key, err)
	}
}

// skip leaves a record out: what was known before stays.
func (c change) skip(key string, err error) {
	c.stats.Undecodable++
	c.log.LogAttrs(context.Background(), slog.LevelError, "view left a record out", slog.String("key", key), slog.Any("error", err))
}

func (c change) clusterEvent(e store.Event) error {
	cluster := Cluster{}
	if !e.Deleted {
		var err error
		if cluster, err = Decode[Cluster](e.Value); err != nil {
			return err
		}
	}
	if cluster.Epoch != c.cluster.Epoch {
		for id := range c.agents {
			c.touched[id] = struct{}{}
		}
	}
	c.cluster = cluster
	return nil
}

func (c change) blobEvent(e store.Event) error {
	h, ok := parseHash(strings.TrimPrefix(e.Key, blobPrefix))
	if !ok {
		return errs.New(errs.Invalid, "not a blob key")
	}
	if old, ok := c.blobs[h]; ok {
		c.blobBytes -= int64(len(old))
		delete(c.blobs, h)
	}
	if e.Deleted {
		return nil
	}
	if manifest.Sum(e.Value) != h {
		return errs.New(errs.Invalid, "blob of %d bytes doesn't have its key's hash", len(e.Value))
	}
	c.blobs[h] = e.Value
	c.blobBytes += int64(len(e.Value))
	for id := range c.waiting[h] {
		if a, ok := c.agents[id]; ok {
			c.link(id, a)
		}
		c.touch(id)
	}
	delete(c.waiting, h)
	return nil
}

func (c change) headEvent(e store.Event) error {
	id, ok := parseHead(e.Key)
	if !ok {
		return errs.New(errs.Invalid, "not a head key")
	}
	switch id.kind {
	case manifest.KindAgent:
		if e.Deleted { // never in a store that we write, but a repair may do it
			c.unlink(id)
			return nil
		}
		h, err := DecodeAgent(e.KV)
		if err != nil {
			return err
		}
		a := &agentNode{node: node[AgentHead, snapshot.AgentHead]{head: h, built: agentFacts(h, e.ModRevision), create: e.CreateRevision, mod: e.ModRevision}}
		c.link(id, a)
	case manifest.KindPrompt:
		if err := put(c.prompts, id, e, func(h PromptHead, kv store.KV) (*node[PromptHead, snapshot.PromptHead], error) {
			c.await(id, h.Versions)
			return promptNode(h, kv), nil
		}); err != nil {
			return err
		}
	case manifest.KindMCP:
		if err := put(c.mcp, id, e, func(h MCPHead, kv store.KV) (*node[MCPHead, snapshot.MCPHead], error) {
			c.await(id, h.Versions)
			return mcpNode(h, kv)
		}); err != nil {
			return err
		}
	case manifest.KindCredential:
		if err := put(c.credentials, id, e, func(h CredentialHead, kv store.KV) (*node[CredentialHead, snapshot.CredentialHead], error) {
			return credentialNode(h, kv), nil
		}); err != nil {
			return err
		}
	default:
		return errs.New(errs.Unsupported, "head of unknown kind %q", id.kind)
	}
	c.touch(id)
	return nil
}

// put takes one shared head in or out of its table.
func put[H Record, S any](table map[headID]*node[H, S], id headID, e store.Event, build func(H, store.KV) (*node[H, S], error)) error {
	if e.Deleted {
		delete(table, id)
		return nil
	}
	h, err := Decode[H](e.Value)
	if err != nil {
		return err
	}
	n, err := build(h, e.KV)
	if err != nil {
		return err
	}
	table[id] = n
	return nil
}

// touch notes the agents whose configs depend on a head: an agent's own is itself.
func (c change) touch(id headID) {
	if id.kind == manifest.KindAgent {
		c.touched[id] = struct{}{}
		return
	}
	maps.Copy(c.touched, c.dependents[id])
}

// await remembers which versions' blobs are missing. Writers put blobs first, so this is for broken orders only.
func (c change) await(id headID, versions []VersionRef) {
	for _, r := range versions {
		c.awaitBlob(id, r.Hash)
	}
}

func (c change) awaitBlob(id headID, h manifest.Hash) bool {
	if _, ok := c.blobs[h]; ok || h.IsZero() {
		return false
	}
	if c.waiting[h] == nil {
		c.waiting[h] = map[headID]struct{}{}
	}
	c.waiting[h][id] = struct{}{}
	return true
}

// link puts an agent in and brings the index of dependents from its old references to its new ones.
func (c change) link(id headID, a *agentNode) {
	old := c.agents[id]
	next := &agentNode{node: a.node, active: map[manifest.Hash]refs{}, specs: map[int64]manifest.Hash{}}
	for _, r := range a.head.State.Revisions {
		next.specs[r.N] = r.Spec
	}
	for _, h := range inPlay(a.head.State) {
		if old != nil && old.active[h] != nil {
			next.active[h] = old.active[h]
			continue
		}
		if c.awaitBlob(id, h) {
			continue
		}
		r, err := readRefs(id.namespace, c.blobs[h])
		if err != nil {
			c.skip(BlobKey(h), err)
			continue
		}
		next.active[h] = r
	}
	next.refs = union(next.active)
	next.holds(id.namespace)
	if old != nil {
		for ref := range old.refs {
			if _, kept := next.refs[ref]; !kept {
				c.forget(ref, id)
			}
		}
	}
	for ref := range next.refs {
		if c.dependents[ref] == nil {
			c.dependents[ref] = map[headID]struct{}{}
		}
		c.dependents[ref][id] = struct{}{}
	}
	c.agents[id] = next
}

func (c change) unlink(id headID) {
	if old := c.agents[id]; old != nil {
		c.gone[AgentKey{Namespace: id.namespace, Name: old.head.Name}] = struct{}{}
		for ref := range old.refs {
			c.forget(ref, id)
		}
	}
	delete(c.agents, id)
}

func (c change) forget(ref, agent headID) {
	delete(c.dependents[ref], agent)
	if len(c.dependents[ref]) == 0 {
		delete(c.dependents, ref)
	}
}
