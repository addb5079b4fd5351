package view

import (
	"maps"
	"slices"
	"strconv"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
)

// holds takes over what the head pins and vetoes. Their heads count as referred to: what they resolve to, and the
// generation, depends on them.
func (a *agentNode) holds(namespace string) {
	if a.head.Deleted || (a.head.State.Pin == nil && len(a.head.State.Vetoes) == 0) {
		return
	}
	a.refs = maps.Clone(a.refs)
	if p := a.head.State.Pin; p != nil {
		a.pins = map[string]manifest.Line{}
		for _, l := range p.Lines {
			a.pins[l.Resource()] = l
			a.refs[headOf(l.Kind, namespace, l.Name)] = struct{}{}
		}
	}
	if vetoes := a.head.State.Vetoes; len(vetoes) > 0 {
		a.vetoes = map[string]snapshot.Veto{}
		for _, v := range vetoes {
			a.vetoes[v.Resource()] = snapshot.Veto{Refused: v.Refused, Use: v.Use}
			a.refs[headOf(v.Kind, namespace, v.Name)] = struct{}{}
		}
	}
}

// headOf names the head behind a manifest line: a policy's is its MCP entry's.
func headOf(kind, namespace, name string) headID {
	if kind == manifest.KindPolicy {
		kind = manifest.KindMCP
	}
	return idOf(kind, namespace, name)
}

// Pinnable gives the pin of a config that an instance of an agent APPLIED, found by its revision and the first digits of its
// hash ("8-3f2a91c4" is 8 and "3f2a91c4"), the newest first. lost names the credentials whose value at that time isn't kept
// any more: they aren't in the pin and resolve as they do today. The caller sets Since.
func (v *View) Pinnable(namespace, agent string, revision int64, digits string) (pin release.Pin, lost []string, ok bool) {
	for _, c := range v.AppliedConfigs(namespace, agent) {
		text := c.Hash.String()
		if c.Revision != revision || len(digits) < 8 || len(digits) > len(text) || text[:len(digits)] != digits {
			continue
		}
		pin = release.Pin{Revision: revision, Hash: c.Hash, Lines: release.Shared(c.Lines)}
		pin.Lines = slices.DeleteFunc(pin.Lines, func(l manifest.Line) bool {
			gone := l.Kind == manifest.KindCredential && !v.keeps(namespace, l)
			if gone {
				lost = append(lost, l.Name)
			}
			return gone
		})
		return pin, lost, true
	}
	return release.Pin{}, nil, false
}

// keeps reports whether the value of a credential line is kept.
func (v *View) keeps(namespace string, l manifest.Line) bool {
	h, _, ok := v.Credential(namespace, l.Name)
	n, err := strconv.ParseInt(l.Version, 10, 64)
	_, kept := h.Sealed[n]
	return ok && err == nil && !h.Deleted && kept
}

// NeededVersions gives the versions of a shared head, sorted, that dependent agents may still be given: those that a veto uses, a
// pin names, or the newest APPLIED configs hold, on which a veto would fall back. A writer that drops old values or versions
// (a rotation of a credential) keeps these.
func (v *View) NeededVersions(kind, namespace, name string) []string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	id := idOf(kind, namespace, name)
	needed := map[string]struct{}{}
	for agent := range v.dependents[id] {
		a := v.agents[agent]
		if a == nil || a.head.Deleted {
			continue
		}
		for _, veto := range a.head.State.Vetoes {
			if veto.Kind == kind && headOf(kind, namespace, veto.Name) == id {
				needed[veto.Use] = struct{}{}
			}
		}
		lines := map[manifest.Line]struct{}{}
		if p := a.head.State.Pin; p != nil {
			addLines(lines, p.Lines)
		}
		for _, c := range v.lastApplied(agent) {
			addLines(lines, c.Lines)
		}
		for l := range lines {
			if l.Kind == kind && idOf(kind, namespace, l.Name) == id {
				needed[l.Version] = struct{}{}
			}
		}
	}
	return slices.Sorted(maps.Keys(needed))
}

// keptBases is how many of an agent's newest APPLIED configs count as what it may fall back to.
const keptBases = 3

// lastApplied gives an agent's newest APPLIED configs. v.mu is held.
func (v *View) lastApplied(agent headID) []AppliedConfig {
	set := v.applied[agent]
	if set == nil {
		return nil
	}
	return set.newest(keptBases)
}

func addLines(to map[manifest.Line]struct{}, lines []manifest.Line) {
	for _, l := range lines {
		to[l] = struct{}{}
	}
}
