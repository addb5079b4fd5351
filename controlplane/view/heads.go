package view

import (
	"cmp"
	"encoding/json"
	"slices"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
)

// Heads gives what one agent's configs are built from, all at one store revision. The maps hold every head, tombstones
// included, that the stable, candidate or held spec refers to or a pin or veto names, by the name written in the head: a
// reference that differs in case finds nothing. The values are shared and must not be changed.
func (v *View) Heads(namespace, agent string) (snapshot.Heads, snapshot.Immutables) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	id := idOf(manifest.KindAgent, namespace, agent)
	a := v.agents[id]
	if a == nil || a.head.Name != agent {
		return v.noHeads(), &immutables{view: v}
	}
	k := a.sharing.get(func() snapshot.Heads { return v.headsOf(a) })
	return k.heads, &immutables{view: v, agent: a, kept: k, applied: v.applied[id]}
}

func (v *View) noHeads() snapshot.Heads {
	return snapshot.Heads{
		Epoch:       v.cluster.Epoch,
		Prompts:     map[string]snapshot.PromptHead{},
		MCP:         map[string]snapshot.MCPHead{},
		Credentials: map[string]snapshot.CredentialHead{},
	}
}

// headsOf collects what an agent's configs are built from. v.mu is held.
func (v *View) headsOf(a *agentNode) snapshot.Heads {
	s := v.alike.of(a.refs, v.sharedOf)
	return snapshot.Heads{
		Epoch: v.cluster.Epoch, Agent: a.built, Pins: a.pins, Vetoes: a.vetoes, Stamp: a.moved,
		Prompts: s.prompts, MCP: s.mcp, Credentials: s.credentials,
	}
}

// sharedOf reads the heads behind references. v.mu is held.
func (v *View) sharedOf(r refs) sharedHeads {
	h := v.noHeads()
	for ref := range r {
		switch ref.kind {
		case manifest.KindPrompt:
			if n := v.prompts[ref]; n != nil {
				h.Prompts[n.head.Name] = n.built
			}
		case manifest.KindMCP:
			if n := v.mcp[ref]; n != nil {
				h.MCP[n.head.Name] = n.built
			}
		case manifest.KindCredential:
			if n := v.credentials[ref]; n != nil {
				h.Credentials[n.head.Name] = n.built
			}
		}
	}
	return sharedHeads{refs: r, prompts: h.Prompts, mcp: h.MCP, credentials: h.Credentials}
}

// Denied gives the switched-off tools of the MCP entries that an agent refers to, as "server" or "server/tool",
// sorted, and the greatest ModRevision of those entries' heads (semantics.md 9).
func (v *View) Denied(namespace, agent string) (names []string, revision int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, agent)]
	if a == nil || a.head.Name != agent {
		return nil, 0
	}
	for _, ref := range sortedIDs(a.refs) {
		n := v.mcp[ref]
		if ref.kind != manifest.KindMCP || n == nil {
			continue
		}
		revision = max(revision, n.mod)
		for _, tool := range n.built.Denied {
			if tool == "*" {
				names = append(names, n.head.Name)
			} else {
				names = append(names, n.head.Name+"/"+tool)
			}
		}
	}
	return names, revision
}

// immutables reads blobs from the view (what no head names now, from the store) and what can change from the moment of Heads. A blob that was collected
// since isn't there any more; then a newer Heads doesn't name it.
type immutables struct {
	view    *View
	agent   *agentNode // nil: there is none; only what never changes of it is read
	kept    *kept      // nil: nothing is kept
	applied *appliedSet
}

// Spec gives the canonical JSON of one of the agent's revisions.
func (i *immutables) Spec(revision int64) (json.RawMessage, manifest.Hash, bool) {
	h, ok := i.spec(revision)
	if !ok {
		return nil, manifest.Hash{}, false
	}
	b, ok := i.view.Blob(h)
	return b, h, ok
}

// Parsed gives what is kept of the specs in play.
func (i *immutables) Parsed(revision int64) (*snapshot.Parsed, bool) {
	h, ok := i.spec(revision)
	if !ok || i.agent.active[h] == nil {
		return nil, false
	}
	return i.agent.active[h].parsed, true
}

func (i *immutables) spec(revision int64) (manifest.Hash, bool) {
	if i.agent == nil {
		return manifest.Hash{}, false
	}
	revisions := i.agent.head.State.Revisions // ascending
	at, ok := slices.BinarySearchFunc(revisions, revision, func(r release.Revision, n int64) int { return cmp.Compare(r.N, n) })
	if !ok {
		return manifest.Hash{}, false
	}
	return revisions[at].Spec, true
}

// Blob gives the bytes of a version.
func (i *immutables) Blob(h manifest.Hash) ([]byte, bool) { return i.view.Blob(h) }

// Applied reports whether an instance of the agent had APPLIED a config with this line.
func (i *immutables) Applied(line manifest.Line) bool { return i.applied.has(line) }
