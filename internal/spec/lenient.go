package spec

import (
	"encoding/json"
	"fmt"
	"slices"
)

// DecodeAgentFor reads the canonical bytes of an agent's revision for an agentd that can do can. It is as strict as DecodeAgent but for
// what the document itself says needs more: what can't be read at or below the field of a requirement whose capability isn't in can
// is left out, as if it had not been given. Requires still names it, so whoever decodes can say so (semantics.md 6).
func DecodeAgentFor(b []byte, can []string) (*Agent, error) {
	a, left, err := decodeFor[Agent](b, KindAgent, agentFields(), can)
	if err != nil {
		return nil, err
	}
	if left {
		needs := a.Requires
		a.FillDefaults()
		a.Requires = needs
	}
	return a, nil
}

// DecodeMCPServerFor reads the canonical bytes of an MCP entry's version as DecodeAgentFor does.
func DecodeMCPServerFor(b []byte, can []string) (*MCPServer, error) {
	s, left, err := decodeFor[MCPServer](b, KindMCP, mcpFields(false), can)
	if err != nil {
		return nil, err
	}
	if left {
		needs := s.Requires
		s.FillDefaults()
		s.Requires = needs
	}
	return s, nil
}

// decodeFor reports also whether something was left out.
func decodeFor[T any](b []byte, kind string, fields []Field, can []string) (*T, bool, error) {
	doc, err := generic(b)
	if err != nil {
		return nil, false, fmt.Errorf("decode %s: %w", kind, err)
	}
	_, faults := Check(doc, fields)
	if len(faults) == 0 {
		v := new(T)
		if err := json.Unmarshal(b, v); err != nil {
			return nil, false, fmt.Errorf("decode %s: %w", kind, err)
		}
		return v, false, nil
	}
	needs := lacking(doc, can)
	for _, f := range faults {
		if slices.ContainsFunc(needs, func(field string) bool { return within(f.Path, field) }) {
			leaveOut(doc, SplitPath(f.Path))
		}
	}
	if _, faults = Check(doc, fields); len(faults) > 0 {
		return nil, false, fmt.Errorf("decode %s: %w", kind, FaultsError(faults))
	}
	v, err := fromDoc[T](doc)
	if err != nil {
		return nil, false, fmt.Errorf("decode %s: %w", kind, err)
	}
	return &v, true, nil
}

// lacking lists the fields of a document's requirements whose capability isn't in can. Requirements can't excuse themselves.
func lacking(doc map[string]any, can []string) []string {
	var needs struct {
		Requires []Requirement `json:"requires"`
	}
	raw, err := json.Marshal(map[string]any{"requires": doc["requires"]})
	if err != nil || json.Unmarshal(raw, &needs) != nil {
		return nil
	}
	var out []string
	for _, r := range needs.Requires {
		if r.Field != "" && !within(r.Field, "requires") && !slices.Contains(can, r.Capability) {
			out = append(out, r.Field)
		}
	}
	return out
}

// leaveOut removes the field at the end of a path. Elements of lists stay: their removal would move the others.
func leaveOut(at any, path []Step) {
	for i, s := range path {
		switch container := at.(type) {
		case map[string]any:
			if s.IsIndex {
				return
			}
			if i == len(path)-1 {
				delete(container, s.Name)
				return
			}
			at = container[s.Name]
		case []any:
			if !s.IsIndex || s.Index < 0 || s.Index >= len(container) {
				return
			}
			at = container[s.Index]
		default:
			return
		}
	}
}
