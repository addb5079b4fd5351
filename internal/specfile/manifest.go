package specfile

import (
	"github.com/agentry/agentry/internal/spec"
)

// The kinds of a manifest.
const (
	kindAgent      = "Agent"
	kindPrompt     = "Prompt"
	kindMCPServer  = "McpServer"
	kindCredential = "Credential"
	kindRoute      = "Route"
	kindKnowledge  = "Knowledge"
)

// isManifest tells a manifest's document from a file of a folder.
func isManifest(n *node) bool {
	return n.get("kind") != nil && (n.get("spec") != nil || n.get("metadata") != nil)
}

func (p *reader) manifest(docs []*node) {
	for _, n := range docs {
		p.manifestDoc(n)
	}
}

func (p *reader) manifestDoc(n *node) {
	n.take("$schema")
	kind := n.get("kind")
	if kind == nil || kind.kind != text {
		p.faults = append(p.faults, Object{root: n}.Fault("kind", "is missing (Agent, Prompt, McpServer or Credential)", ""))
		return
	}
	for _, m := range n.members {
		if m.name != "kind" && m.name != "metadata" && m.name != "spec" {
			f := Object{root: n}.Place(spec.Fault{Path: spec.Child("", m.name), Message: "unknown field", AtKey: true})
			f.Hint = "known here: kind, metadata, spec"
			p.faults = append(p.faults, f)
		}
	}
	switch kind.text {
	case kindAgent, kindPrompt, kindMCPServer, kindCredential:
	case kindRoute, kindKnowledge:
		p.faults = append(p.faults, Object{root: n}.Fault("kind", kind.text+" is not supported yet (supported: Agent, Prompt, McpServer, Credential)", ""))
		return
	default:
		f := Object{root: n}.Fault("kind", "unknown kind (Agent, Prompt, McpServer, Credential)", "")
		if near, ok := spec.Nearest(kind.text, []string{kindAgent, kindPrompt, kindMCPServer, kindCredential}); ok {
			f.Hint = "did you mean " + near + "?"
		}
		p.faults = append(p.faults, f)
		return
	}
	name, namespace, labels := p.metadata(n, kind.text)
	body := n.get("spec")
	if body == nil || body.kind != object {
		p.faults = append(p.faults, Object{root: n}.Fault("spec", "is missing (an object)", ""))
		return
	}
	p.manifestBody(kind.text, body, name, namespace, labels)
}

func (p *reader) manifestBody(kind string, body, name *node, namespace string, labels *node) {
	own := map[string]string{kindAgent: "agentName", kindPrompt: "promptKey", kindMCPServer: "name"}[kind]
	if own != "" && name != nil {
		if inner := body.get(own); inner != nil && inner.kind == text && inner.text != name.text {
			p.faults = append(p.faults, inner.fault("differs from metadata.name"))
		} else if inner == nil {
			body.set(own, name)
		}
	}
	switch kind {
	case kindAgent:
		p.manifestAgent(body, namespace, labels)
	case kindPrompt:
		p.prompt(body, "", namespace)
	case kindMCPServer:
		p.mcpServer(body, "", namespace)
	default:
		if name != nil {
			p.credential(body, name.text, namespace)
		}
	}
}

func (p *reader) manifestAgent(body *node, namespace string, labels *node) {
	if m, ok := body.take("knowledge"); ok {
		inner := m.value
		if inner.kind == object && len(inner.members) == 1 && inner.get("knowledgeBases") != nil {
			inner = inner.get("knowledgeBases")
		}
		if body.get("knowledgeBases") != nil {
			p.faults = append(p.faults, m.value.fault("stands beside knowledgeBases (only one of them is allowed)"))
		}
		body.set("knowledgeBases", inner)
	}
	if labels != nil {
		if twice := body.get("labels"); twice != nil {
			p.faults = append(p.faults, twice.fault("stands beside metadata.labels (only one of them is allowed)"))
		}
		body.set("labels", labels)
	}
	p.agent(body, namespace, nil)
}

// metadata checks and answers a document's metadata. labels is nil unless given.
func (p *reader) metadata(n *node, kind string) (name *node, namespace string, labels *node) {
	meta := n.get("metadata")
	if meta == nil || meta.kind != object {
		p.faults = append(p.faults, Object{root: n}.Fault("metadata.name", "is missing (a name)", ""))
		return nil, "", nil
	}
	valid, rule := spec.ValidName, spec.RuleName
	if kind == kindPrompt {
		valid, rule = spec.ValidPromptKey, spec.RulePromptKey
	}
	for _, m := range meta.members {
		switch m.name {
		case "name":
			name = m.value
		case "namespace":
			namespace = m.value.text
			if m.value.kind != text || !spec.ValidName(namespace) {
				p.faults = append(p.faults, m.value.fault("is not allowed (allowed: "+string(spec.RuleName)+")"))
			}
		case "labels":
			labels = m.value
			if kind != kindAgent {
				p.faults = append(p.faults, m.value.fault("only an Agent has labels"))
			}
		default:
			f := m.value.fault("unknown field")
			f.Hint = "known here: name, namespace, labels"
			p.faults = append(p.faults, f)
		}
	}
	switch {
	case name == nil:
		p.faults = append(p.faults, Object{root: n}.Fault("metadata.name", "is missing (a name)", ""))
	case name.kind != text || !valid(name.text):
		p.faults = append(p.faults, name.fault("is not allowed (allowed: "+string(rule)+")"))
		name = nil
	}
	return name, namespace, labels
}
