package spec

import (
	"maps"
	"slices"
)

// ReadAgent makes an Agent of a document in canonical spelling: it checks it, fills in every default and computes Requires.
// With faults the Agent holds what could be read, so that references can be checked all the same.
func ReadAgent(doc map[string]any) (Agent, []Fault) {
	doc = maps.Clone(doc)
	delete(doc, "requires") // computed, never given
	clean, faults := Check(doc, agentFields())
	a, err := fromDoc[Agent](clean)
	if err != nil {
		return a, append(faults, Fault{Message: err.Error()})
	}
	a.FillDefaults()
	return a, merge(faults, a.faults())
}

// ReadPrompt makes a Prompt of a document in canonical spelling.
func ReadPrompt(doc map[string]any) (Prompt, []Fault) {
	clean, faults := Check(doc, promptFields(false))
	p, err := fromDoc[Prompt](clean)
	if err != nil {
		return p, append(faults, Fault{Message: err.Error()})
	}
	return p, merge(faults, p.faults())
}

// MCPHead is what a file of an MCP entry says about the entry's head; nil and absent mean unchanged.
type MCPHead struct {
	Enabled *bool                 `json:"enabled,omitempty"`
	Tools   map[string]ToolSwitch `json:"tools,omitempty"`
}

// ReadMCPServer makes an MCP entry of a document in canonical spelling: the immutable part, and what it says about the head.
func ReadMCPServer(doc map[string]any) (MCPServer, MCPHead, []Fault) {
	doc = maps.Clone(doc)
	delete(doc, "requires")
	fields := slices.Concat(mcpFields(false), mcpHeadFields())
	clean, faults := Check(doc, fields)
	var head MCPHead
	if tools, ok := clean["tools"].(map[string]any); ok {
		for _, t := range tools {
			if m, ok := t.(map[string]any); ok && m["approve"] != nil {
				m["approved"] = m["approve"]
				delete(m, "approve")
			}
		}
	}
	head, err := fromDoc[MCPHead](map[string]any{"enabled": clean["enabled"], "tools": clean["tools"]})
	if err != nil {
		return MCPServer{}, head, append(faults, Fault{Message: err.Error()})
	}
	delete(clean, "enabled")
	delete(clean, "tools")
	s, err := fromDoc[MCPServer](clean)
	if err != nil {
		return s, head, append(faults, Fault{Message: err.Error()})
	}
	s.FillDefaults()
	return s, head, merge(faults, s.faults())
}

// merge appends later faults to those of the table, save where the table already found something at the same path or
// below: one mistake, one fault.
func merge(first, later []Fault) []Fault {
	for _, f := range later {
		if !slices.ContainsFunc(first, func(g Fault) bool { return within(g.Path, f.Path) || within(f.Path, g.Path) }) {
			first = append(first, f)
		}
	}
	return first
}

// within reports whether path is outer or lies below it.
func within(path, outer string) bool {
	if len(path) < len(outer) || path[:len(outer)] != outer {
		return false
	}
	return len(path) == len(outer) || path[len(outer)] == '.' || path[len(outer)] == '['
}
