package view

import (
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// link puts an agent in and brings the index of dependents from its old references to its new ones. read are the
// specs that were read outside of the lock.
func (c change) link(id headID, a *agentNode, read map[manifest.Hash]*specFacts) {
	old := c.agents[id]
	next := &agentNode{node: a.node, active: map[manifest.Hash]*specFacts{}, seen: c.sighted(old, a)}
	for _, h := range inPlay(a.head.State) {
		if old != nil && old.active[h] != nil {
			next.active[h] = old.active[h]
			continue
		}
		if f, ok := read[h]; ok {
			next.active[h] = f
			continue
		}
		if c.awaitBlob(id, h) {
			continue
		}
		f, err := c.readSpec(id.namespace, h)
		if err != nil {
			c.skip(BlobKey(h), err)
			continue
		}
		next.active[h] = f
	}
	next.refs = c.one(union(next.active))
	if len(next.active) == 1 {
		for _, f := range next.active {
			f.refs = next.refs
		}
	}
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

// readSpec reads a spec that came after its head, or one that can't be read, which is told.
func (c change) readSpec(namespace string, h manifest.Hash) (*specFacts, error) {
	b, ok := c.ready[h]
	if !ok {
		b, ok = c.blobs.held(h)
	}
	if !ok {
		return nil, errs.New(errs.Internal, "its bytes can't be read")
	}
	c.parsed.Add(1)
	return readSpec(namespace, b)
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
