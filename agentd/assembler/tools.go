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
	var out []tool.Tool
	for _, m := range t.members {
		for _, st := range m.client.value.State().Tools {
			s := st.Tool.Spec()
			if !chosen(m.ref.Tools, s.Tool) || t.denied.off(m.ref.MCPServerName, s.Tool) || m.pin(st) == Changed {
				continue
			}
			if m.policy != nil && m.policy.Tools[s.Tool].Description != "" {
				s.Description = m.policy.Tools[s.Tool].Description
			}
			out = append(out, &guarded{inner: st.Tool, spec: s, server: m.ref.MCPServerName, denied: t.denied})
		}
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
