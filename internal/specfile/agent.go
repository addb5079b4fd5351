package specfile

import (
	"path"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/approval"
	"github.com/agentry/agentry/internal/prompt"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// agents joins the files of each folder into one document.
func (p *reader) agents() {
	for _, f := range p.folders {
		base, given := f.parts[spec.KindAgentBase]
		if !given {
			p.faults = append(p.faults, spec.Fault{File: f.first, Message: "agent-base.json is missing in this folder"})
		}
		root := &node{kind: object}
		switch {
		case base != nil:
			root.src, root.off = base.src, base.off
			root.members = slices.Clone(base.members)
		case given:
			root.src = newSource(f.first, "")
		default:
			root.src = newSource(f.first, "")
		}
		var broken []string
		if base == nil {
			broken = append(broken, "promptKey")
		}
		p.misplaced(root)
		for _, s := range sections() {
			n, given := f.parts[s.kind]
			switch {
			case given && n == nil:
				broken = append(broken, s.field)
			case given:
				p.section(root, s, n)
			}
		}
		if _, given := f.parts[spec.KindModel]; !given {
			p.faults = append(p.faults, spec.Fault{File: f.first, Message: "model.json is missing in this folder"})
			broken = append(broken, "model")
		}
		if root.get("agentName") == nil {
			if name := path.Base(f.path); f.path != "" {
				root.set("agentName", root.implied("agentName", name))
			}
		}
		p.agent(root, "", broken)
	}
}

// section is one file of an agent and the field of the document that it fills.
type section struct {
	kind  string
	field string
	inner string // the field of the file that holds it; "" for the whole file
}

func sections() []section {
	return []section{
		{spec.KindModel, "model", ""},
		{spec.KindMCPServers, "mcpServers", "mcpServers"},
		{spec.KindPartnerAgents, "partnerAgents", "agents"},
		{spec.KindMemory, "memory", ""},
		{spec.KindKnowledge, "knowledgeBases", "knowledgeBases"},
	}
}

// misplaced reports what stands in agent-base though it has a file of its own.
func (p *reader) misplaced(root *node) {
	for _, s := range sections() {
		if m, ok := root.take(s.field); ok {
			f := m.value.fault("unknown field")
			f.Hint = "it belongs into " + s.kind + ".json"
			p.faults = append(p.faults, f)
		}
	}
}

func (p *reader) section(root *node, s section, n *node) {
	if s.inner == "" {
		root.set(s.field, n)
		return
	}
	if s.kind == spec.KindPartnerAgents {
		if m, ok := n.take("subAgents"); ok && n.get("agents") == nil {
			p.note(m.value.place(), `read as "agents", its canonical name`)
			n.set("agents", m.value)
		} else if ok {
			p.faults = append(p.faults, m.value.fault("stands beside agents (only one of them is allowed)"))
		}
	}
	inner, ok := n.take(s.inner)
	if !ok {
		f := n.fault("is missing (a list)")
		f.Path = s.inner
		p.faults = append(p.faults, f)
	} else {
		root.set(s.field, inner.value)
	}
	_, faults := spec.Check(n.document(), nil)
	for _, f := range faults {
		f.Hint = "known here: " + s.inner
		if near, ok := spec.Nearest(f.Path, []string{s.inner}); ok {
			f.Hint = "did you mean " + near + "?"
		}
		p.faults = append(p.faults, Object{root: n}.Place(f))
	}
}

// agent reads an agent's whole document. Faults of fields in broken are left out: their files have faults of their own.
func (p *reader) agent(root *node, namespace string, broken []string) {
	p.agentReadings(root)
	a := &Agent{Object: Object{Namespace: namespace, root: root}}
	var faults []spec.Fault
	a.Spec, faults = spec.ReadAgent(root.document())
	if a.Spec.Approval != nil {
		_, conditions := approval.Compile(a.Spec.Approval.Tools)
		faults = append(faults, conditions...)
	}
	for _, f := range faults {
		top, _, _ := strings.Cut(f.Path, ".")
		if !slices.Contains(broken, top) {
			p.faults = append(p.faults, a.Place(f))
		}
	}
	p.set.Agents = append(p.set.Agents, a)
}

func (p *reader) prompt(n *node, name, namespace string) {
	p.promptReadings(n)
	if n.get("promptKey") == nil && name != "" {
		n.set("promptKey", n.implied("promptKey", name))
	}
	x := &Prompt{Object: Object{Namespace: namespace, root: n}}
	var faults []spec.Fault
	x.Spec, faults = spec.ReadPrompt(n.document())
	if x.Spec.Template != "" && !slices.ContainsFunc(faults, func(f spec.Fault) bool { return strings.HasPrefix(f.Path, "variables") }) {
		faults = append(faults, prompt.Lint(x.Spec)...)
	}
	for _, f := range faults {
		p.faults = append(p.faults, x.Place(f))
	}
	p.set.Prompts = append(p.set.Prompts, x)
}

func (p *reader) mcpServer(n *node, name, namespace string) {
	p.mcpReadings(n)
	if n.get("name") == nil && name != "" {
		n.set("name", n.implied("name", name))
	}
	m := &MCPServer{Object: Object{Namespace: namespace, root: n}}
	var faults []spec.Fault
	m.Spec, m.Head, faults = spec.ReadMCPServer(n.document())
	for _, f := range faults {
		p.faults = append(p.faults, m.Place(f))
	}
	p.set.MCPServers = append(p.set.MCPServers, m)
}

func (p *reader) credential(n *node, name, namespace string) {
	c := &Credential{Object: Object{Namespace: namespace, root: n}, Name: name}
	clean, faults := spec.Check(n.document(), spec.Fields(spec.KindCredential))
	for _, f := range faults {
		p.faults = append(p.faults, c.Place(f))
	}
	if v, ok := clean["value"].(string); ok {
		if v == "" {
			p.faults = append(p.faults, c.Fault("value", "is empty", ""))
		}
		c.Value = secret.NewValue(v)
	}
	if list, ok := clean["allowedOrigins"].([]any); ok {
		c.AllowedOrigins = []string{}
		for _, v := range list {
			if s, ok := v.(string); ok {
				c.AllowedOrigins = append(c.AllowedOrigins, spec.Origin(s))
			}
		}
		slices.Sort(c.AllowedOrigins)
		c.AllowedOrigins = slices.Compact(c.AllowedOrigins)
	}
	if slices.ContainsFunc(faults, func(f spec.Fault) bool { return strings.HasPrefix(f.Path, "allowedOrigins") }) {
		c.AllowedOrigins = nil
	}
	if n.get("value") == nil && n.get("allowedOrigins") == nil {
		p.faults = append(p.faults, c.Fault("value", "is missing (or allowedOrigins, to change those alone)", ""))
	}
	p.set.Credentials = append(p.set.Credentials, c)
}
