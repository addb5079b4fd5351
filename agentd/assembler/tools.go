package assembler

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/spec"
)

// Pin says how a tool's definition stands to the approved ones.
type Pin string

// The pins. A changed tool is withdrawn.
const (
	Unpinned Pin = "unpinned" // none is approved: usable
	Approved Pin = "approved"
	Changed  Pin = "changed" // others are approved
)

// pin compares a tool's definition with the policy of its server's head.
func (m *member) pin(t ServerTool) Pin {
	if m.policy == nil {
		return Unpinned
	}
	approved := m.policy.Tools[t.Tool.Spec().Tool].Approved
	switch {
	case len(approved) == 0:
		return Unpinned
	case slices.Contains(approved, t.Digest):
		return Approved
	default:
		return Changed
	}
}

// chosen reports whether the agent's filter lets a tool through.
func chosen(f *spec.ToolFilter, name string) bool {
	if f == nil {
		return true
	}
	if len(f.Allow) > 0 && !slices.Contains(f.Allow, name) {
		return false
	}
	return !slices.Contains(f.Deny, name)
}

// choice is a tool that the agent chose and whose definition stands.
type choice struct {
	member *member
	tool   ServerTool
}

// clash is a choice whose name for the model another tool has already.
type clash struct {
	choice

	first choice
}

// choose gives the tools that an agent has, in the order of its servers. Where two meet under one name the first keeps it,
// switched off or not: a call must never reach another tool than the one that was meant.
func choose(members []*member) (kept []choice, clashes []clash) {
	owners := map[string]choice{}
	for _, m := range members {
		for _, st := range m.client.value.State().Tools {
			s := st.Tool.Spec()
			if !chosen(m.ref.Tools, s.Tool) || m.pin(st) == Changed {
				continue
			}
			c := choice{member: m, tool: st}
			if first, taken := owners[s.Name]; taken {
				clashes = append(clashes, clash{choice: c, first: first})
				continue
			}
			owners[s.Name] = c
			kept = append(kept, c)
		}
	}
	return kept, clashes
}

// denied is the Overlay's list and how often anything about tools has moved.
type denied struct {
	names   atomic.Pointer[map[string]bool]
	changes atomic.Uint64
}

func (d *denied) set(names []string) {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	d.names.Store(&m)
	d.changes.Add(1)
}

// off reports whether a tool is switched off now.
func (d *denied) off(server, name string) bool {
	m := d.names.Load()
	return m != nil && ((*m)[server] || (*m)[server+"/"+name])
}

// toolset is the tools of one set as they are now. It is safe for concurrent use.
type toolset struct {
	members []*member
	denied  *denied
	cache   atomic.Pointer[toolList]
}

type toolList struct {
	at    uint64
	tools []tool.Tool
}

var _ tool.Set = (*toolset)(nil)

// Tools lists what the model may be offered, in name order.
func (t *toolset) Tools() []tool.Tool {
	at := t.denied.changes.Load()
	if c := t.cache.Load(); c != nil && c.at == at {
		return slices.Clone(c.tools)
	}
	kept, _ := choose(t.members)
	var out []tool.Tool
	for _, k := range kept {
		s := k.tool.Tool.Spec()
		if t.denied.off(k.member.ref.MCPServerName, s.Tool) {
			continue
		}
		if p := k.member.policy; p != nil && p.Tools[s.Tool].Description != "" {
			s.Description = p.Tools[s.Tool].Description
		}
		out = append(out, &guarded{inner: k.tool.Tool, spec: s, server: k.member.ref.MCPServerName, denied: t.denied})
	}
	slices.SortFunc(out, func(a, b tool.Tool) int { return strings.Compare(a.Spec().Name, b.Spec().Name) })
	t.cache.Store(&toolList{at: at, tools: out})
	return slices.Clone(out)
}

// guarded is a tool with its overridden description that is refused at call time once it is switched off.
type guarded struct {
	inner  tool.Tool
	spec   tool.Spec
	server string
	denied *denied
}

var _ tool.Tool = (*guarded)(nil)

// Spec describes the tool as the model sees it.
func (g *guarded) Spec() tool.Spec { return g.spec }

// Call calls the tool, unless it is switched off by now.
func (g *guarded) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	if g.denied.off(g.server, g.spec.Tool) {
		return tool.Result{Text: "the tool " + g.spec.Name + " is switched off", IsError: true}, nil
	}
	return g.inner.Call(ctx, args)
}
