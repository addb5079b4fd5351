package specfile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/agentry/agentry/internal/spec"
)

// Files writes a set as canonical files: a folder per agent, prompts/ and mcp/. Credentials are write-only and never written; nor is a
// namespace, for which a folder has no place. Parse reads the same objects from them.
func Files(s *Set) ([]File, error) {
	var w writer
	for _, a := range s.Agents {
		w.agent(a.Spec)
	}
	for _, p := range s.Prompts {
		w.json("prompts/"+p.Spec.PromptKey+".json", p.Spec)
	}
	for _, m := range s.MCPServers {
		w.json("mcp/"+m.Spec.Name+".json", mcpFile(m))
	}
	slices.SortFunc(w.files, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return w.files, w.err
}

type writer struct {
	files []File
	err   error
}

func (w *writer) json(path string, v any) {
	b, err := pretty(v)
	if err != nil {
		w.err = fmt.Errorf("write %s: %w", path, err)
		return
	}
	w.files = append(w.files, File{Path: path, Content: b})
}

func pretty(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// baseFile is agent-base.json. A field of a file that isn't in spec.Agent can't be: the property test compares both.
type baseFile struct {
	AgentName       string            `json:"agentName,omitempty"`
	DisplayName     string            `json:"displayName,omitempty"`
	Description     string            `json:"description,omitempty"`
	Version         string            `json:"version,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	PromptKey       string            `json:"promptKey"`
	PromptVersion   string            `json:"promptVersion,omitempty"`
	PromptLabel     string            `json:"promptLabel,omitempty"`
	PromptVariables map[string]string `json:"promptVariables,omitempty"`
	MaxIterations   int               `json:"maxIterations"`
	Skills          []spec.Skill      `json:"skills,omitempty"`
	Limits          *spec.Limits      `json:"limits,omitempty"`
	Release         spec.Release      `json:"release"`
	Approval        *spec.Approval    `json:"approval,omitempty"`
	Expose          *spec.Expose      `json:"expose,omitempty"`
}

func base(a spec.Agent) baseFile {
	return baseFile{
		AgentName: a.AgentName, DisplayName: a.DisplayName, Description: a.Description, Version: a.Version, Labels: a.Labels,
		PromptKey: a.PromptKey, PromptVersion: a.PromptVersion, PromptLabel: a.PromptLabel, PromptVariables: a.PromptVariables,
		MaxIterations: a.MaxIterations, Skills: a.Skills, Limits: a.Limits, Release: a.Release, Approval: a.Approval, Expose: a.Expose,
	}
}

func (w *writer) agent(a spec.Agent) {
	folder, b := a.AgentName, base(a)
	if folder == "prompts" || folder == "mcp" {
		folder = "agent-" + folder // those names are taken, so the file names the agent
	} else {
		b.AgentName = ""
	}
	w.json(folder+"/agent-base.json", b)
	w.json(folder+"/model.json", a.Model)
	if len(a.MCPServers) > 0 {
		w.json(folder+"/mcp-servers.json", map[string]any{"mcpServers": a.MCPServers})
	}
	if len(a.PartnerAgents) > 0 {
		w.json(folder+"/partner-agents.json", map[string]any{"agents": a.PartnerAgents})
	}
	w.json(folder+"/memory.json", a.Memory)
	if len(a.KnowledgeBases) > 0 {
		w.json(folder+"/knowledge.json", map[string]any{"knowledgeBases": a.KnowledgeBases})
	}
}

// entryFile is mcp/NAME.json: the entry and what a person decided about it.
type entryFile struct {
	Name            string                 `json:"name"`
	Version         string                 `json:"version"`
	Transport       string                 `json:"transport"`
	Endpoints       []spec.Endpoint        `json:"endpoints"`
	Parameters      *spec.MCPParameters    `json:"parameters,omitempty"`
	Owner           string                 `json:"owner,omitempty"`
	Description     string                 `json:"description,omitempty"`
	ProtocolVersion string                 `json:"protocolVersion,omitempty"`
	Enabled         *bool                  `json:"enabled,omitempty"`
	Tools           map[string]switchEntry `json:"tools,omitempty"`
}

type switchEntry struct {
	Enabled     *bool    `json:"enabled,omitempty"`
	Description string   `json:"description,omitempty"`
	Approve     []string `json:"approve,omitempty"`
}

func mcpFile(m *MCPServer) entryFile {
	f := entryFile{
		Name: m.Spec.Name, Version: m.Spec.Version, Transport: m.Spec.Transport, Endpoints: m.Spec.Endpoints,
		Parameters: m.Spec.Parameters, Owner: m.Spec.Owner, Description: m.Spec.Description,
		ProtocolVersion: m.Spec.ProtocolVersion, Enabled: m.Head.Enabled,
	}
	for name, t := range m.Head.Tools {
		if f.Tools == nil {
			f.Tools = map[string]switchEntry{}
		}
		f.Tools[name] = switchEntry{Enabled: t.Enabled, Description: t.Description, Approve: t.Approved}
	}
	return f
}

// Manifest writes a set as one YAML text with a document per object: shared things first, then agents. Credentials are write-only and
// never written. Parse reads the same objects from it, namespaces included.
func Manifest(s *Set) ([]byte, error) {
	var b bytes.Buffer
	doc := func(kind, name string, o Object, v any) error {
		meta := map[string]any{"name": name}
		if o.Namespace != "" {
			meta["namespace"] = o.Namespace
		}
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		if err := writeYAML(&b, map[string]any{"kind": kind, "metadata": meta, "spec": v}); err != nil {
			return fmt.Errorf("write %s %s: %w", kind, name, err)
		}
		return nil
	}
	for _, p := range s.Prompts {
		if err := doc(kindPrompt, p.Spec.PromptKey, p.Object, p.Spec); err != nil {
			return nil, err
		}
	}
	for _, m := range s.MCPServers {
		if err := doc(kindMCPServer, m.Spec.Name, m.Object, mcpFile(m)); err != nil {
			return nil, err
		}
	}
	for _, a := range s.Agents {
		spec := manifestAgent{baseFile: base(a.Spec), Model: a.Spec.Model, MCPServers: a.Spec.MCPServers, PartnerAgents: a.Spec.PartnerAgents, Memory: a.Spec.Memory}
		spec.AgentName = ""
		if len(a.Spec.KnowledgeBases) > 0 {
			spec.Knowledge = map[string]any{"knowledgeBases": a.Spec.KnowledgeBases}
		}
		if err := doc(kindAgent, a.Spec.AgentName, a.Object, spec); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

type manifestAgent struct {
	baseFile
	Model         spec.Model          `json:"model"`
	MCPServers    []spec.MCPServerRef `json:"mcpServers,omitempty"`
	PartnerAgents []spec.PartnerRef   `json:"partnerAgents,omitempty"`
	Memory        spec.Memory         `json:"memory"`
	Knowledge     map[string]any      `json:"knowledge,omitempty"`
}
