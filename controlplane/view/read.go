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
	v.mu.RLock()
	defer v.mu.RUnlock()
	heads := make(map[headID]*node[AgentHead, struct{}], len(v.agents))
	for id, a := range v.agents {
		heads[id] = &node[AgentHead, struct{}]{head: a.head, create: a.create, mod: a.mod}
	}
	return list(heads, namespace, cloneAgent)
}

// Prompts lists prompts; see Agents.
func (v *View) Prompts(namespace string) []Entry[PromptHead] {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return list(v.prompts, namespace, clonePrompt)
}

// MCPs lists MCP entries; see Agents.
func (v *View) MCPs(namespace string) []Entry[MCPHead] {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return list(v.mcp, namespace, cloneMCP)
}

// Credentials lists credentials; see Agents.
func (v *View) Credentials(namespace string) []Entry[CredentialHead] {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return list(v.credentials, namespace, cloneCredential)
}

// Blob gives immutable bytes, which the caller must not change.
func (v *View) Blob(h manifest.Hash) ([]byte, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	b, ok := v.blobs[h]
	return b, ok
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
	out := slices.SortedFunc(maps.Values(set.configs), func(a, b AppliedConfig) int { return newestFirst(a.Seq, b.Seq, a.Hash, b.Hash) })
	for i := range out {
		out[i].Lines = slices.Clone(out[i].Lines)
	}
	return out
}

// AppliedLine reports whether an instance of an agent ever APPLIED a config with this line.
func (v *View) AppliedLine(namespace, agent string, line manifest.Line) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.applied[idOf(manifest.KindAgent, namespace, agent)].has(line)
}

func (s *appliedSet) has(line manifest.Line) bool {
	if s == nil {
		return false
	}
	_, ok := s.lines[line]
	return ok
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

// Moves lists the newest 200 transactions that moved a head, newest first.
func (v *View) Moves(namespace, kind, name string) []Move {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var out []Move
	for _, m := range slices.Backward(v.moves.byHead[idOf(kind, namespace, name)]) {
		out = append(out, cloneMove(*m))
	}
	return out
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

func list[H, S any](table map[headID]*node[H, S], namespace string, clone func(H) H) []Entry[H] {
	var ids []headID
	for id := range table {
		if namespace == "" || id.namespace == namespace {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	out := make([]Entry[H], 0, len(ids))
	for _, id := range ids {
		n := table[id]
		out = append(out, Entry[H]{Namespace: id.namespace, Head: clone(n.head), ModRevision: n.mod, CreateRevision: n.create})
	}
	return out
}
