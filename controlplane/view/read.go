package view

import (
	"cmp"
	"maps"
	"slices"

	"github.com/agentry/agentry/internal/manifest"
)

// Entry is one head of a listing. Namespace is the key's, the head carries the name.
type Entry[H any] struct {
	Namespace      string
	Head           H
	ModRevision    int64
	CreateRevision int64
}

// Cluster gives the cluster record; zero before Init.
func (v *View) Cluster() Cluster {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.cluster
}

// Agent gives an agent's head, tombstones included, and its ModRevision. Names are found without case: a caller to
// whom case matters compares Name.
func (v *View) Agent(namespace, name string) (AgentHead, int64, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a, ok := v.agents[idOf(manifest.KindAgent, namespace, name)]
	if !ok {
		return AgentHead{}, 0, false
	}
	return cloneAgent(a.head), a.mod, true
}

// Labels gives the labels of an agent's spec as key=value, sorted, which the caller must not change; false for a spec that
// isn't stable, candidate or held.
func (v *View) Labels(namespace, agent string, spec manifest.Hash) ([]string, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, agent)]
	if a == nil || a.active[spec] == nil {
		return nil, false
	}
	return a.active[spec].labels, true
}

// Prompt gives a prompt's head; see Agent.
func (v *View) Prompt(namespace, key string) (PromptHead, int64, bool) {
	return get(v, v.prompts, idOf(manifest.KindPrompt, namespace, key), clonePrompt)
}

// MCP gives an MCP entry's head; see Agent.
func (v *View) MCP(namespace, name string) (MCPHead, int64, bool) {
	return get(v, v.mcp, idOf(manifest.KindMCP, namespace, name), cloneMCP)
}

// Credential gives a credential's head; see Agent.
func (v *View) Credential(namespace, name string) (CredentialHead, int64, bool) {
	return get(v, v.credentials, idOf(manifest.KindCredential, namespace, name), cloneCredential)
}

// Agents lists the agents of a namespace ("": all), tombstones included, by namespace and name without case.
func (v *View) Agents(namespace string) []Entry[AgentHead] {
	return v.AgentPage(Page{Namespace: namespace})
}

// AgentPage lists a part of Agents. It costs what it answers.
func (v *View) AgentPage(p Page) []Entry[AgentHead] {
	return listHeads(v, manifest.KindAgent, p, func(id headID) (Entry[AgentHead], bool) {
		n := v.agents[id]
		if n == nil {
			return Entry[AgentHead]{}, false
		}
		return entry(id, &n.node, cloneAgent), true
	})
}

// Prompts lists prompts; see Agents.
func (v *View) Prompts(namespace string) []Entry[PromptHead] {
	return v.PromptPage(Page{Namespace: namespace})
}

// PromptPage lists a part of Prompts.
func (v *View) PromptPage(p Page) []Entry[PromptHead] {
	return listIn(v, v.prompts, manifest.KindPrompt, p, clonePrompt)
}

// MCPs lists MCP entries; see Agents.
func (v *View) MCPs(namespace string) []Entry[MCPHead] {
	return v.MCPPage(Page{Namespace: namespace})
}

// MCPPage lists a part of MCPs.
func (v *View) MCPPage(p Page) []Entry[MCPHead] {
	return listIn(v, v.mcp, manifest.KindMCP, p, cloneMCP)
}

// Credentials lists credentials; see Agents.
func (v *View) Credentials(namespace string) []Entry[CredentialHead] {
	return v.CredentialPage(Page{Namespace: namespace})
}

// CredentialPage lists a part of Credentials.
func (v *View) CredentialPage(p Page) []Entry[CredentialHead] {
	return listIn(v, v.credentials, manifest.KindCredential, p, cloneCredential)
}

// Setting gives the bytes of a setting, which the caller must not change.
func (v *View) Setting(name string) ([]byte, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	b, ok := v.settings[name]
	return b, ok
}

// AppliedConfigs lists the configs that instances of an agent APPLIED, newest first.
func (v *View) AppliedConfigs(namespace, agent string) []AppliedConfig {
	v.mu.RLock()
	defer v.mu.RUnlock()
	set := v.applied[idOf(manifest.KindAgent, namespace, agent)]
	if set == nil {
		return nil
	}
	return set.newest(len(set.configs))
}

// AppliedLine reports whether an instance of an agent ever APPLIED a config with this line.
func (v *View) AppliedLine(namespace, agent string, line manifest.Line) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.applied[idOf(manifest.KindAgent, namespace, agent)].has(line)
}

// Refusals lists the first refusals of an agent's configs, newest first.
func (v *View) Refusals(namespace, agent string) []Refusal {
	v.mu.RLock()
	defer v.mu.RUnlock()
	records := v.refusals[idOf(manifest.KindAgent, namespace, agent)]
	out := slices.SortedFunc(maps.Values(records), func(a, b Refusal) int { return newestFirst(a.Seq, b.Seq, a.Hash, b.Hash) })
	for i := range out {
		out[i].Faults = slices.Clone(out[i].Faults)
	}
	return out
}

// Moves lists the newest 200 transactions that moved a head, newest first. Their Heads are shared and must not be changed.
func (v *View) Moves(namespace, kind, name string) []Move {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []Move
	for _, m := range slices.Backward(v.moves.byHead[idOf(kind, namespace, name)]) {
		out = append(out, m.Move)
	}
	return out
}

// MoveUpTo gives the newest of Moves whose seq isn't above a revision.
func (v *View) MoveUpTo(namespace, kind, name string, revision int64) (Move, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, m := range slices.Backward(v.moves.byHead[idOf(kind, namespace, name)]) {
		if m.Seq <= revision {
			return m.Move, true
		}
	}
	return Move{}, false
}

// Dependents lists the agents, deleted ones left out, whose stable, candidate or held spec refers to a head.
// Kind agent asks for those that have it as a partner.
func (v *View) Dependents(kind, namespace, name string) []AgentKey {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []AgentKey
	for id := range v.dependents[idOf(kind, namespace, name)] {
		if a := v.agents[id]; a != nil && !a.head.Deleted {
			out = append(out, AgentKey{Namespace: id.namespace, Name: a.head.Name})
		}
	}
	slices.SortFunc(out, compareAgents)
	return out
}

func newestFirst(a, b int64, ha, hb manifest.Hash) int {
	return cmp.Or(cmp.Compare(b, a), slices.Compare(ha[:], hb[:]))
}

func get[H, S any](v *View, table map[headID]*node[H, S], id headID, clone func(H) H) (H, int64, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	n, ok := table[id]
	if !ok {
		var zero H
		return zero, 0, false
	}
	return clone(n.head), n.mod, true
}

func listIn[H, S any](v *View, table map[headID]*node[H, S], kind string, p Page, clone func(H) H) []Entry[H] {
	return listHeads(v, kind, p, func(id headID) (Entry[H], bool) {
		n := table[id]
		if n == nil {
			return Entry[H]{}, false
		}
		return entry(id, n, clone), true
	})
}

func listHeads[H any](v *View, kind string, p Page, at func(headID) (Entry[H], bool)) []Entry[H] {
	v.mu.RLock()
	defer v.mu.RUnlock()
	ids := v.order.page(kind, p)
	if p.Limit > 0 {
		ids = ids[:min(len(ids), p.Limit)]
	}
	out := make([]Entry[H], 0, len(ids))
	for _, id := range ids {
		if e, ok := at(id); ok {
			out = append(out, e)
		}
	}
	return out
}

func entry[H, S any](id headID, n *node[H, S], clone func(H) H) Entry[H] {
	return Entry[H]{Namespace: id.namespace, Head: clone(n.head), ModRevision: n.mod, CreateRevision: n.create}
}
