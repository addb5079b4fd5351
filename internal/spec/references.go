package spec

import (
	"cmp"
	"maps"
	"slices"
)

// Reference is one thing that an agent's spec names but doesn't hold. Kind is a manifest kind: prompt, mcp, credential, or agent
// for a partner. Version and Label are as written; both empty means current (mcp) or default (agent).
type Reference struct {
	Kind    string
	Name    string
	Version string
	Label   string
	Path    string // where it stands in the agent's document
}

// References lists everything that a refers to, in document order. Names that are empty (a faulty document) are left out.
func (a *Agent) References() []Reference {
	var refs []Reference
	add := func(r Reference) {
		if r.Name != "" {
			refs = append(refs, r)
		}
	}
	add(Reference{Kind: "prompt", Name: a.PromptKey, Version: a.PromptVersion, Label: a.PromptLabel, Path: "promptKey"})
	for i, s := range a.MCPServers {
		add(Reference{Kind: "mcp", Name: s.MCPServerName, Version: s.Version, Path: Index("mcpServers", i) + ".mcpServerName"})
	}
	for i, p := range a.PartnerAgents {
		add(Reference{Kind: "agent", Name: p.AgentName, Version: p.Version, Label: p.Label, Path: Index("partnerAgents", i) + ".agentName"})
	}
	return append(refs, a.Credentials()...)
}

// Credentials lists every credential that a refers to with its place, in document order. A name may stand in several places.
func (a *Agent) Credentials() []Reference {
	var refs []Reference
	for _, p := range a.Places() {
		if v := p.Get(); v.Ref != "" {
			refs = append(refs, Reference{Kind: "credential", Name: v.Ref, Path: p.Path})
		}
	}
	return refs
}

// Place is one place of an agent's document where a key, header or query value stands.
type Place struct {
	Path string
	// Server is the MCP entry whose schema may say secret: false; Section is "headers" or "queryParams", Parameter the
	// name there. Server is "" at every other place, which is always secret.
	Server    string
	Section   string
	Parameter string
	// Inbound is true where the value is for this agent's own use: it is compared with what callers send, or signs, and goes nowhere.
	Inbound bool
	address string // where a value goes that goes to no MCP entry; "" if that isn't known
	get     func() Value
	set     func(Value)
	parts   []string // of the credential's name, after the agent's
}

// Get gives the present value.
func (p Place) Get() Value { return p.get() }

// Set replaces it in the Agent from which the Place came.
func (p Place) Set(v Value) { p.set(v) }

// Parts gives the place's own words, from which a split-out credential is named: ["mcp", "gaode", "headers", "key"].
func (p Place) Parts() []string { return p.parts }

// Places lists every place of a where a value stands, in document order; they stay bound to a.
func (a *Agent) Places() []Place {
	places := modelPlaces(&a.Model, a.Model.BaseURL, "model", []string{"model"})
	for i := range a.Model.Fallbacks {
		at := Index("model.fallbacks", i)
		f := &a.Model.Fallbacks[i]
		places = append(places, modelPlaces(f, cmp.Or(f.BaseURL, a.Model.BaseURL), at, []string{"model", "fallbacks", Index("", i)[1 : len(Index("", i))-1]})...)
	}
	for i := range a.MCPServers {
		s := &a.MCPServers[i]
		at := Index("mcpServers", i)
		for section, values := range map[string]map[string]Value{"headers": s.Headers, "queryParams": s.QueryParams} {
			for _, p := range mapPlaces(values, Child(at, section), []string{"mcp", s.MCPServerName, section}) {
				p.Server, p.Section, p.Parameter = s.MCPServerName, section, p.parts[len(p.parts)-1]
				places = append(places, p)
			}
		}
	}
	for i := range a.PartnerAgents {
		p := &a.PartnerAgents[i]
		name := p.AgentName
		if p.Alias != "" {
			name = p.Alias
		}
		places = append(places, mapPlaces(p.Headers, Index("partnerAgents", i)+".headers", []string{"partner", name, "headers"})...)
	}
	places = append(places, valuePlace(&a.Memory.Credential, "memory.credential", []string{"memory", "credential"})...)
	places = append(places, a.Expose.places()...)
	slices.SortStableFunc(places, func(x, y Place) int { return comparePaths(x.Path, y.Path) })
	return places
}

func (e *Expose) places() []Place {
	if e == nil {
		return nil
	}
	var places []Place
	if settings, _ := e.A2ASettings(); !settings.SigningKey.IsZero() {
		places = append(places, Place{
			Path: "expose.a2a.signingKey", parts: []string{"expose", "a2a", "signingKey"},
			get: func() Value { s, _ := e.A2ASettings(); return s.SigningKey }, set: e.setSigningKey,
		})
	}
	if e.Auth != nil {
		for i := range e.Auth.Keys {
			k := &e.Auth.Keys[i]
			places = append(places, valuePlace(&k.Key, Index("expose.auth.keys", i)+".key", []string{"expose", "auth", k.Name})...)
		}
	}
	for i := range places {
		places[i].Inbound = true
	}
	return places
}

func modelPlaces(m *Model, address, path string, parts []string) []Place {
	places := valuePlace(&m.APIKey, path+".apiKey", append(slices.Clone(parts), "apiKey"))
	places = append(places, mapPlaces(m.Headers, path+".headers", append(slices.Clone(parts), "headers"))...)
	for i := range places {
		places[i].address = address
	}
	return places
}

func valuePlace(v *Value, path string, parts []string) []Place {
	if v.IsZero() {
		return nil
	}
	return []Place{{Path: path, parts: parts, get: func() Value { return *v }, set: func(n Value) { *v = n }}}
}

func mapPlaces(m map[string]Value, path string, parts []string) []Place {
	var places []Place
	for _, name := range slices.Sorted(maps.Keys(m)) {
		places = append(places, Place{
			Path: Child(path, name), parts: append(slices.Clone(parts), name),
			get: func() Value { return m[name] }, set: func(n Value) { m[name] = n },
		})
	}
	return places
}

// comparePaths orders paths by their steps, indexes as numbers, parts of the document in the order of its fields.
func comparePaths(a, b string) int {
	order := []string{"expose", "model", "mcpServers", "partnerAgents", "memory"}
	x, y := SplitPath(a), SplitPath(b)
	for i := range min(len(x), len(y)) {
		switch {
		case x[i] == y[i]:
		case x[i].IsIndex && y[i].IsIndex:
			return x[i].Index - y[i].Index
		case i == 0:
			return slices.Index(order, x[i].Name) - slices.Index(order, y[i].Name)
		case x[i].Name < y[i].Name:
			return -1
		default:
			return 1
		}
	}
	return len(x) - len(y)
}
