package specfile

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

var credentialWord = regexp.MustCompile(`^\$\{credential:([^}]*)\}$`)

// agentReadings turns the accepted spellings of an agent's document into the canonical one.
func (p *reader) agentReadings(root *node) {
	texts(root.get("promptVariables"))
	p.modelReadings(root.get("model"))
	if m := root.get("model"); m != nil && m.get("fallbacks") != nil {
		for _, f := range m.get("fallbacks").items {
			p.modelReadings(f)
		}
	}
	if servers := root.get("mcpServers"); servers != nil {
		for _, s := range servers.items {
			values(s.get("headers"))
			values(s.get("queryParams"))
			p.whiteTools(s)
		}
	}
	if partners := root.get("partnerAgents"); partners != nil {
		for _, a := range partners.items {
			values(a.get("headers"))
		}
	}
	if expose := root.get("expose"); expose != nil {
		value(expose.get("a2a").get("signingKey"))
		if keys := expose.get("auth").get("keys"); keys != nil {
			for _, k := range keys.items {
				value(k.get("key"))
			}
		}
	}
	if memory := root.get("memory"); memory != nil {
		if c := memory.get("credential"); c != nil {
			p.memoryCredential(root, c)
		}
	}
}

func (p *reader) modelReadings(m *node) {
	value(m.get("apiKey"))
	values(m.get("headers"))
}

// value reads "${credential:name}" as a reference.
func value(n *node) {
	if n == nil || n.kind != text {
		return
	}
	if m := credentialWord.FindStringSubmatch(n.text); m != nil {
		name := n.derived(text, m[1])
		n.kind, n.text, n.members = object, "", []member{{name: "credentialRef", off: n.off, value: name}}
	}
}

func values(n *node) {
	if n != nil {
		for _, m := range n.members {
			value(m.value)
		}
	}
}

// texts reads plain numbers and booleans as texts.
func texts(n *node) {
	if n != nil {
		for _, m := range n.members {
			if m.value.kind == number || m.value.kind == boolean {
				m.value.kind = text
			}
		}
	}
}

func (p *reader) whiteTools(s *node) {
	m, ok := s.take("whiteTools")
	if !ok {
		return
	}
	if tools := s.get("tools"); tools != nil && tools.get("allow") != nil {
		p.faults = append(p.faults, m.value.fault("stands beside tools.allow (only one of them is allowed)"))
		return
	}
	p.note(m.value.place(), "read as tools.allow, its canonical name")
	tools := s.get("tools")
	if tools == nil {
		tools = m.value.derived(object, "")
		s.set("tools", tools)
	}
	tools.set("allow", m.value)
}

// memoryCredential reads an object, or a text that holds one, as the JSON text of username and password.
func (p *reader) memoryCredential(root, c *node) {
	value(c)
	if c.get("credentialRef") != nil {
		return
	}
	canonical := `its canonical form is {"credentialRef": "` + credentialName(root) + `"}`
	switch {
	case c.kind == object:
		if !userAndPassword(c.document()) {
			p.faults = append(p.faults, c.fault(`must be {"credentialRef": "name"}, or an object of username and password as texts`))
			c.kind, c.text, c.members = text, "", nil
			return
		}
		p.note(c.place(), "an object is read as username and password; "+canonical)
		c.text = canonicalText(c.document())
		c.kind, c.members = text, nil
	case c.kind == text && strings.HasPrefix(strings.TrimSpace(c.text), "{"):
		doc, single, ok := credentialText(c.text)
		if !ok || !userAndPassword(doc) {
			p.faults = append(p.faults, c.fault(`begins like JSON, but is no object of username and password as texts`))
			c.text = ""
			return
		}
		how := "a JSON text is read as username and password; "
		if single {
			how = "a JSON text in single quotes is read as username and password; "
		}
		p.note(c.place(), how+canonical)
		c.text = canonicalText(doc)
	}
}

func credentialName(root *node) string {
	agent := "AGENT"
	if n := root.get("agentName"); n != nil && n.kind == text {
		agent = n.text
	}
	return CredentialName(agent, "memory", "credential")
}

func userAndPassword(doc map[string]any) bool {
	for k, v := range doc {
		if _, ok := v.(string); !ok || k != "username" && k != "password" {
			return false
		}
	}
	return len(doc) > 0
}

func canonicalText(doc map[string]any) string {
	b, err := spec.Canonical(doc)
	if err != nil {
		return ""
	}
	return string(b)
}

// credentialText reads {"username": ...}, or the same in single quotes.
func credentialText(s string) (doc map[string]any, single, ok bool) {
	if json.Unmarshal([]byte(s), &doc) == nil {
		return doc, false, true
	}
	if json.Unmarshal([]byte(doubleQuoted(s)), &doc) == nil {
		return doc, true, true
	}
	return nil, false, false
}

// doubleQuoted rewrites 'texts' as "texts".
func doubleQuoted(s string) string {
	var b strings.Builder
	inText := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inText && c == '\\' && i+1 < len(s):
			i++
			if s[i] != '\'' {
				b.WriteByte('\\')
			}
			b.WriteByte(s[i])
		case c == '\'':
			inText = !inText
			b.WriteByte('"')
		case inText && c == '"':
			b.WriteString(`\"`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// promptReadings reads variables: as a text that holds an object, and name to default.
func (p *reader) promptReadings(n *node) {
	vars := n.get("variables")
	if vars == nil {
		return
	}
	if vars.kind == text {
		inner, faults := parseJSON(newSource(vars.src.path, vars.text))
		if len(faults) > 0 || inner.kind != object {
			p.faults = append(p.faults, vars.fault("is a text that holds no JSON object (an object is allowed)"))
			n.take("variables")
			return
		}
		p.note(vars.place(), "a text is read as an object; its canonical form is the object itself")
		rebase(inner, vars)
		vars.kind, vars.text, vars.members = object, "", inner.members
	}
	for i, m := range vars.members {
		v := m.value
		switch v.kind {
		case text, number, boolean:
			kind := map[kind]string{text: "string", number: "number", boolean: "boolean"}[v.kind]
			o := v.derived(object, "")
			o.set("type", v.derived(text, kind))
			o.set("default", v.derived(text, v.text))
			vars.members[i].value = o
		case object:
			if d := v.get("default"); d != nil && (d.kind == number || d.kind == boolean) {
				d.kind = text
			}
		default: // refused by the table
		}
	}
}

// rebase gives the nodes of a text's inner document the text's own place.
func rebase(n, to *node) {
	n.src, n.off = to.src, to.off
	n.path = to.path
	for i := range n.members {
		n.members[i].off = to.off
		rebase(n.members[i].value, to)
	}
	for _, item := range n.items {
		rebase(item, to)
	}
}

// mcpReadings reads endpoint as the one of endpoints, and a single digest as a list.
func (p *reader) mcpReadings(n *node) {
	if m, ok := n.take("endpoint"); ok {
		if n.get("endpoints") != nil {
			p.faults = append(p.faults, m.value.fault("stands beside endpoints (only one of them is allowed)"))
		} else {
			one := m.value.derived(object, "")
			one.members = []member{{name: "url", off: m.off, value: m.value}}
			all := m.value.derived(list, "")
			all.items = []*node{one}
			n.set("endpoints", all)
		}
	}
	if tools := n.get("tools"); tools != nil {
		for _, t := range tools.members {
			if a := t.value.get("approve"); a != nil && a.kind == text {
				all := a.derived(list, "")
				all.items = []*node{a}
				t.value.set("approve", all)
			}
		}
	}
}
