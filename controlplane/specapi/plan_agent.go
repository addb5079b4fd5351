package specapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/prompt"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// agent checks an agent against what it refers to, splits its secrets out and asks package release what becomes of it.
func (p *plan) agent(x *specfile.Agent) error {
	a := &x.Spec
	head, mod, existed := p.svc.view.Agent(p.namespace, a.AgentName)
	before := p.agentContent(head, existed)
	p.before = namedBy(before)
	if was, err := spec.DecodeAgent([]byte(before)); before != "" && err == nil {
		p.before.reached = p.stands().reached(was)
	}
	p.references(x)
	p.required(x)
	if err := p.split(x); err != nil {
		return err
	}
	if err := p.uses(a); err != nil {
		return err
	}
	p.destinations(x)
	a.FillDefaults()
	raw, err := spec.Canonical(a)
	if err != nil {
		p.fault(x.Object, "", err.Error(), "")
		return nil
	}
	p.unsupported(a)
	if len(p.faults) > 0 {
		return nil // nothing will be written
	}
	sum := manifest.Sum(raw)
	config, err := p.manifest(a, raw, sum)
	if err != nil {
		return err
	}
	if !existed {
		p.change.Read(kindAgent, a.AgentName, 0)
	}
	created := !existed || head.Deleted
	st := step(head, release.Apply{
		At: p.now, Spec: sum, Manifest: config, Live: p.svc.fleet.Live(p.namespace, a.AgentName),
		Policy: release.Policy{OnReject: a.Release.OnReject, ProgressDeadline: a.Release.ProgressDeadline.Std()},
	})
	switch {
	case st.refused != nil:
		p.result(kindAgent, a.AgentName, head.State.Desired(), actionRefused, st.refused.Reason)
		return p.diff(kindAgent, a.AgentName, before, string(raw)) // what it would have changed
	case st.unchanged:
		p.result(kindAgent, a.AgentName, head.State.Desired(), actionUnchanged, "")
		return nil
	}
	p.change.Keep(raw)
	head.Name, head.Deleted = a.AgentName, false
	if st.moved != nil && st.moved.Config == "" {
		st.moved.Config = manifest.ConfigName(st.state.Desired(), config)
	}
	p.svc.moveAgent(p.change, head, mod, st, p.who)
	action := actionUpdated
	if created {
		action = actionCreated
	}
	revision := st.state.Desired()
	p.result(kindAgent, a.AgentName, revision, action, "")
	p.notices = append(p.notices, Notice{
		Namespace: p.namespace, Agent: a.AgentName, Type: "revision", Config: manifest.ConfigName(revision, config),
		Message: fmt.Sprintf("%s applied revision %d", p.who, revision),
	})
	return p.diff(kindAgent, a.AgentName, before, string(raw))
}

func (p *plan) agentContent(head view.AgentHead, existed bool) string {
	if !existed || head.Deleted {
		return ""
	}
	r, _ := head.State.Find(head.State.Desired())
	b, _ := p.blob(r.Spec)
	return string(b)
}

// references checks that everything the agent names is there, in the set or in the store. A partner may come later.
func (p *plan) references(x *specfile.Agent) {
	for _, r := range x.Spec.References() {
		if !p.visible(r.Kind, r.Name) {
			p.unseen(x, r)
			continue
		}
		switch r.Kind {
		case kindPrompt:
			p.promptReference(x, r)
		case kindMCP:
			p.mcpReference(x, r)
		case kindCredential:
			h, ok := p.credentialHead(r.Name)
			if !ok || h.head.Deleted || h.head.Name != r.Name {
				p.missing(x, r, "credential", h.head.Name, ok && !h.head.Deleted, p.names(kindCredential))
			}
		case kindAgent:
			h, _, ok := p.svc.view.Agent(p.namespace, r.Name)
			if (!ok || h.Deleted) && !p.agents[strings.ToLower(r.Name)] {
				p.note("agent %s: partner %s doesn't exist yet", x.Spec.AgentName, r.Name)
			}
		}
	}
}

// unseen answers for a reference to what the caller may not see what it would be told if it weren't there.
func (p *plan) unseen(x *specfile.Agent, r spec.Reference) {
	what := map[string]string{kindPrompt: "prompt", kindMCP: "MCP server", kindCredential: "credential"}[r.Kind]
	switch {
	case what != "":
		p.missing(x, r, what, "", false, p.names(r.Kind))
	case !p.agents[strings.ToLower(r.Name)]:
		p.note("agent %s: partner %s doesn't exist yet", x.Spec.AgentName, r.Name)
	}
}

// missing lists a reference to something that isn't there, with the nearest name that is.
func (p *plan) missing(x *specfile.Agent, r spec.Reference, what, spelled string, otherCase bool, known []string) {
	hint := ""
	if otherCase {
		hint = "names are case-sensitive: write " + spelled
	} else if near, ok := spec.Nearest(r.Name, known); ok {
		hint = "did you mean " + near + "?"
	}
	p.fault(x.Object, r.Path, fmt.Sprintf("%s %s doesn't exist, neither in this set nor in namespace %s", what, r.Name, p.namespace), hint)
}

// names lists what exists of a kind. The store's part is listed once: a set may miss the same thing in every agent.
func (p *plan) names(kind string) []string {
	if _, ok := p.stored[kind]; !ok {
		p.stored[kind] = p.svc.names(p.namespace, kind)
	}
	out := slices.Clone(p.stored[kind])
	switch kind {
	case kindPrompt:
		for _, h := range p.prompts {
			out = append(out, h.head.Name)
		}
	case kindMCP:
		for _, h := range p.mcp {
			out = append(out, h.head.Name)
		}
	case kindCredential:
		for _, h := range p.credentials {
			out = append(out, h.head.Name)
		}
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if p.caller.all {
		return out
	}
	return slices.DeleteFunc(out, func(name string) bool { return !p.visible(kind, name) })
}

// names lists what isn't deleted of a kind of shared heads.
func (s *Service) names(namespace, kind string) []string {
	var out []string
	add := func(name string, deleted bool) {
		if !deleted {
			out = append(out, name)
		}
	}
	switch kind {
	case kindPrompt:
		for _, e := range s.view.Prompts(namespace) {
			add(e.Head.Name, e.Head.Deleted)
		}
	case kindMCP:
		for _, e := range s.view.MCPs(namespace) {
			add(e.Head.Name, e.Head.Deleted)
		}
	case kindCredential:
		for _, e := range s.view.Credentials(namespace) {
			add(e.Head.Name, e.Head.Deleted)
		}
	}
	return out
}

func (p *plan) promptReference(x *specfile.Agent, r spec.Reference) {
	h, ok := p.promptHead(r.Name)
	if !ok || h.head.Deleted || h.head.Name != r.Name {
		p.missing(x, r, "prompt", h.head.Name, ok && !h.head.Deleted, p.names(kindPrompt))
		return
	}
	path, version := "promptVersion", r.Version
	if version == "" {
		path = "promptLabel"
		label := cmp.Or(r.Label, labelLatest)
		if version = h.head.Labels[label]; version == "" {
			hint := ""
			if near, ok := spec.Nearest(label, slices.Sorted(maps.Keys(h.head.Labels))); ok {
				hint = "did you mean " + near + "?"
			}
			p.fault(x.Object, path, fmt.Sprintf("prompt %s has no label %s", r.Name, label), hint)
			return
		}
	}
	ref, ok := findVersion(h.head.Versions, version)
	if !ok || !ref.Online {
		p.fault(x.Object, path, fmt.Sprintf("prompt %s has no version %s online (there are %s)", r.Name, version, versionsText(h.head.Versions)), "")
		return
	}
	b, ok := p.blob(ref.Hash)
	if !ok {
		return
	}
	content, err := spec.DecodePrompt(b)
	if err != nil {
		p.fault(x.Object, "promptKey", err.Error(), "")
		return
	}
	for _, f := range prompt.CheckValues(*content, x.Spec.PromptVariables) {
		p.faults = append(p.faults, x.Place(f))
	}
}

func versionsText(versions []view.VersionRef) string {
	const most = 5
	var out []string
	for _, v := range slices.Backward(versions) {
		if v.Online {
			out = append(out, v.Version)
		}
		if len(out) == most {
			out = append(out, "...")
			break
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// mcpEntry gives the entry's version that a server reference resolves to now.
func (p *plan) mcpEntry(name, version string) (*spec.MCPServer, bool) {
	h, ok := p.mcpHead(name)
	if !ok || h.head.Deleted || h.head.Name != name {
		return nil, false
	}
	ref, ok := findVersion(h.head.Versions, cmp.Or(version, h.head.Current))
	if !ok {
		return nil, false
	}
	b, ok := p.blob(ref.Hash)
	if !ok {
		return nil, false
	}
	s, err := spec.DecodeMCPServer(b)
	return s, err == nil
}

func (p *plan) mcpReference(x *specfile.Agent, r spec.Reference) {
	h, ok := p.mcpHead(r.Name)
	if !ok || h.head.Deleted || h.head.Name != r.Name {
		p.missing(x, r, "MCP server", h.head.Name, ok && !h.head.Deleted, p.names(kindMCP))
		return
	}
	if r.Version == "" {
		return
	}
	if _, ok := findVersion(h.head.Versions, r.Version); !ok {
		path := strings.TrimSuffix(r.Path, "mcpServerName") + "version"
		p.fault(x.Object, path, fmt.Sprintf("MCP server %s has no version %s (there are %s)", r.Name, r.Version, versionsText(h.head.Versions)), "")
	}
}

// required checks that every parameter which an entry's schema requires is given.
func (p *plan) required(x *specfile.Agent) {
	for i, ref := range x.Spec.MCPServers {
		entry, ok := p.mcpEntry(ref.MCPServerName, ref.Version)
		if !ok || entry.Parameters == nil || !p.visible(kindMCP, ref.MCPServerName) {
			continue
		}
		at := spec.Index("mcpServers", i)
		p.requiredOf(x, at, "headers", ref.MCPServerName, entry.Parameters.Headers, ref.Headers, strings.EqualFold)
		p.requiredOf(x, at, "queryParams", ref.MCPServerName, entry.Parameters.QueryParams, ref.QueryParams, func(a, b string) bool { return a == b })
	}
}

func (p *plan) requiredOf(x *specfile.Agent, at, section, server string, wanted map[string]spec.Parameter, given map[string]spec.Value, same func(a, b string) bool) {
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !wanted[name].Required {
			continue
		}
		there := false
		for g, v := range given {
			there = there || (same(g, name) && !v.IsZero())
		}
		if !there {
			p.fault(x.Object, spec.Child(at+"."+section, name), fmt.Sprintf("is missing: MCP server %s requires it", server), "")
		}
	}
}

// split takes the literal secrets out of an agent: each becomes a credential named after its place, and a reference
// stands where it was. A parameter that its MCP entry declares with secret: false stays.
func (p *plan) split(x *specfile.Agent) error {
	a := &x.Spec
	for _, place := range specfile.Literals(a) {
		if p.isPlain(a, place.Place) {
			continue
		}
		name := place.CredentialName
		if other, ok := p.svc.livingName(kindCredential, p.namespace, name); ok && other != name {
			p.fault(x.Object, place.Path, fmt.Sprintf("its credential would be %s, but %s exists (names must differ, without regard to case)", name, other), "")
			continue
		}
		if err := p.splitable(name, place.Path); err != nil {
			return err
		}
		if _, err := p.credential(name, place.Secret()); err != nil {
			return err
		}
		place.Set(spec.Value{Ref: name})
		at := x.Locate(place.Path)
		p.note("%s:%d: %s: secret split out into credential %s", at.File, at.Line, at.Path, name)
	}
	return nil
}

// isPlain reports whether a place is a parameter that its MCP entry declares with secret: false.
func (p *plan) isPlain(a *spec.Agent, place spec.Place) bool {
	if place.Server == "" {
		return false
	}
	version := ""
	for _, ref := range a.MCPServers {
		if ref.MCPServerName == place.Server {
			version = ref.Version
		}
	}
	entry, ok := p.mcpEntry(place.Server, version)
	if !ok || entry.Parameters == nil {
		return false
	}
	if place.Section == "queryParams" {
		param, ok := entry.Parameters.QueryParams[place.Parameter]
		return ok && !param.Secret
	}
	for name, param := range entry.Parameters.Headers {
		if strings.EqualFold(name, place.Parameter) {
			return !param.Secret
		}
	}
	return false
}

// unsupported notes the fields that no live instance honours; where none is live, this release's agentd is asked.
func (p *plan) unsupported(a *spec.Agent) {
	live := p.svc.fleet.Capabilities(p.namespace, a.AgentName)
	if len(live) == 0 {
		live = [][]string{spec.ThisRelease()}
	}
	check := func(resource string, requires []spec.Requirement) {
		for _, r := range requires {
			lacking := slices.ContainsFunc(live, func(can []string) bool { return !slices.Contains(can, r.Capability) })
			switch {
			case lacking && r.Refuse:
				p.note("WARNING not_supported %s: %s needs %s, which agentd can't do yet: it refuses the config", resource, r.Field, r.Capability)
			case lacking:
				p.note("WARNING not_supported %s: %s needs %s, which agentd can't do yet: the field has no effect", resource, r.Field, r.Capability)
			}
		}
	}
	check(kindAgent+"/"+a.AgentName, a.Requires)
	for _, ref := range a.MCPServers {
		if entry, ok := p.mcpEntry(ref.MCPServerName, ref.Version); ok && p.visible(kindMCP, ref.MCPServerName) {
			check(kindMCP+"/"+ref.MCPServerName, entry.Requires)
		}
	}
}
