package assembler

import (
	"encoding/json"
	"slices"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Description is what is really loaded. It holds no secret: specs refer to credentials, values travel beside.
type Description struct {
	Agent     string                     `json:"agent"`
	Revision  int64                      `json:"revision"`
	Config    string                     `json:"config"`
	Token     manifest.Token             `json:"token"`
	Lines     []string                   `json:"lines"` // of the manifest
	Resources map[string]json.RawMessage `json:"resources"`
	ModelURL  string                     `json:"modelUrl"` // the effective one; "" if there is none
	Servers   []ServerDescription        `json:"servers"`
	Phase     phase.Phase                `json:"phase"`
	Faults    []phase.Fault              `json:"faults"`
}

// ServerDescription is one MCP server as it stands.
type ServerDescription struct {
	Name    string            `json:"name"`
	Version string            `json:"version"`
	Healthy bool              `json:"healthy"`
	Code    phase.Code        `json:"code,omitempty"`
	Message string            `json:"message,omitempty"`
	Tools   []ToolDescription `json:"tools"`
}

// ToolDescription is one discovered tool. Offered is false when the filter, the Overlay, a changed definition or another
// tool of the same name takes it away.
type ToolDescription struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Definition  string `json:"definition"` // digest
	Pin         Pin    `json:"pin"`
	Offered     bool   `json:"offered"`
	SwitchedOff bool   `json:"switchedOff"`
}

// Describe tells what is loaded; ok is false when nothing is.
func (a *Assembler) Describe() (d Description, ok bool) {
	l := a.current.Load()
	if l == nil {
		return Description{}, false
	}
	s := l.set
	a.mu.Lock()
	d.Phase, d.Faults = a.published.Phase, a.published.Faults
	a.mu.Unlock()
	d.Agent, d.Revision, d.Config, d.Token, d.ModelURL = s.agent.AgentName, l.runtime.Revision, l.runtime.Config, l.token, s.baseURL
	d.Resources = make(map[string]json.RawMessage, len(s.update.Resources))
	for name, raw := range s.update.Resources {
		d.Resources[name] = raw
	}
	for _, line := range s.update.Lines {
		d.Lines = append(d.Lines, line.Text())
	}
	_, clashes := choose(s.members)
	for _, m := range s.members {
		d.Servers = append(d.Servers, a.describeServer(m, clashes))
	}
	return d, true
}

func (a *Assembler) describeServer(m *member, clashes []clash) ServerDescription {
	st := m.client.value.State()
	sd := ServerDescription{Name: m.ref.MCPServerName, Version: m.line.Version, Healthy: st.Healthy, Tools: []ToolDescription{}}
	if !st.Healthy {
		sd.Code, sd.Message = st.Code, st.Message
	}
	for _, t := range st.Tools {
		name := t.Tool.Spec().Tool
		td := ToolDescription{Name: name, Description: t.Tool.Spec().Description, Definition: t.Digest, Pin: m.pin(t), SwitchedOff: a.denied.off(m.ref.MCPServerName, name)}
		td.Offered = chosen(m.ref.Tools, name) && !td.SwitchedOff && td.Pin != Changed &&
			!slices.ContainsFunc(clashes, func(c clash) bool { return c.member == m && c.tool.Tool.Spec().Tool == name })
		sd.Tools = append(sd.Tools, td)
	}
	return sd
}
