package spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Validate answers every fault of an Agent that was made by code: what Check finds in its JSON, and what only the whole shows.
func (a *Agent) Validate() []Fault { return validate(a, agentFields(), a.faults) }

// Validate answers every fault of a Prompt. Its template's are package prompt's to find.
func (p *Prompt) Validate() []Fault { return validate(p, promptFields(false), p.faults) }

// Validate answers every fault of an MCP entry.
func (s *MCPServer) Validate() []Fault { return validate(s, mcpFields(false), s.faults) }

func validate(v any, fields []Field, own func() []Fault) []Fault {
	raw, err := Canonical(v)
	if err != nil {
		return []Fault{{Message: err.Error()}}
	}
	doc, err := generic(raw)
	if err != nil {
		return []Fault{{Message: err.Error()}}
	}
	_, faults := Check(doc, fields)
	return merge(faults, own())
}

type faultList []Fault

func (l *faultList) add(path, format string, args ...any) {
	*l = append(*l, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

// unique adds a fault for each later entry whose name was there before, without regard to case.
func (l *faultList) unique(n int, what string, at func(int) (name, path string)) {
	seen := map[string]int{}
	for i := range n {
		name, path := at(i)
		if name == "" {
			continue
		}
		key := strings.ToLower(name)
		if first, ok := seen[key]; ok {
			l.add(path, "is there already, as number %d of the list (%s must differ, without regard to case)", first+1, what)
			continue
		}
		seen[key] = i
	}
}

// faults are those that no single field shows.
func (a *Agent) faults() []Fault {
	var l faultList
	if a.PromptVersion != "" && a.PromptLabel != "" {
		l.add("promptLabel", "stands beside promptVersion (only one of them is allowed)")
	}
	l.unique(len(a.Skills), "skill ids", func(i int) (string, string) { return a.Skills[i].ID, Index("skills", i) + ".id" })
	l.model(a.Model, "model")
	for i := range a.Model.Fallbacks {
		l.model(a.Model.Fallbacks[i], Index("model.fallbacks", i))
	}
	l.unique(len(a.MCPServers), "server names", func(i int) (string, string) {
		return a.MCPServers[i].MCPServerName, Index("mcpServers", i) + ".mcpServerName"
	})
	for i, s := range a.MCPServers {
		l.toolFilter(s.Tools, Index("mcpServers", i)+".tools")
	}
	l.unique(len(a.PartnerAgents), "partner names and aliases", func(i int) (string, string) {
		p := a.PartnerAgents[i]
		if p.Alias != "" {
			return p.Alias, Index("partnerAgents", i) + ".alias"
		}
		return p.AgentName, Index("partnerAgents", i) + ".agentName"
	})
	for i, p := range a.PartnerAgents {
		if p.Version != "" && p.Label != "" {
			l.add(Index("partnerAgents", i)+".label", "stands beside version (only one of them is allowed)")
		}
	}
	l.memory(a.Memory)
	l.approval(a)
	l.expose(a.Expose)
	l.unique(len(a.KnowledgeBases), "names", func(i int) (string, string) {
		return a.KnowledgeBases[i].Name, Index("knowledgeBases", i) + ".name"
	})
	return l
}

func (l *faultList) model(m Model, path string) {
	if len(m.ExtraBody) > 0 && m.ExtraBody[0] != '{' {
		l.add(path+".extraBody", "must be an object")
	}
}

func (l *faultList) toolFilter(t *ToolFilter, path string) {
	if t == nil {
		return
	}
	l.twice(t.Allow, path+".allow")
	l.twice(t.Deny, path+".deny")
}

func (l *faultList) twice(tools []string, path string) {
	seen := map[string]bool{}
	for i, name := range tools {
		if seen[name] && name != "" {
			l.add(Index(path, i), "%s is there already", shown(name))
		}
		seen[name] = true
	}
}

func (p *Prompt) faults() []Fault {
	var l faultList
	for _, name := range slices.Sorted(maps.Keys(p.Variables)) {
		if v := p.Variables[name]; v.Required && v.Default != nil {
			l.add(Child("variables", name), "is required and has a default (only one of them is allowed)")
		}
	}
	return l
}

func (s *MCPServer) faults() []Fault {
	var l faultList
	if s.Transport == "stdio" {
		return nil
	}
	if len(s.Endpoints) == 0 {
		l.add("endpoints", "is missing (transport %s needs an http or https address)", s.Transport)
	}
	for i, e := range s.Endpoints {
		if e.URL != "" && !httpURL(e.URL) {
			l.add(Index("endpoints", i)+".url", "is not allowed (allowed: %s)", RuleURL)
		}
	}
	l.unique(len(s.Endpoints), "addresses", func(i int) (string, string) {
		return s.Endpoints[i].URL, Index("endpoints", i) + ".url"
	})
	return l
}
