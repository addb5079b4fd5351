// Package spec holds the nouns of an agent spec: their types, defaults, validation with paths, canonical
// bytes (RFC 8785), hash and diff. The control plane validates with it, agentd decodes with it, agentctl explains
// from it. It reads no files (package specfile does) and imports the standard library and jcs only.
package spec

import "encoding/json"

// Agent is one agent's own spec: the whole file set as one document. Its canonical JSON is the "agent"
// resource of a manifest. Every optional field has its default filled in before it is stored.
type Agent struct {
	AgentName       string            `json:"agentName"`
	DisplayName     string            `json:"displayName,omitempty"`
	Description     string            `json:"description,omitempty"`
	Version         string            `json:"version,omitempty"` // of the AgentCard
	Labels          map[string]string `json:"labels,omitempty"`
	PromptKey       string            `json:"promptKey"`
	PromptVersion   string            `json:"promptVersion,omitempty"` // at most one of version and label
	PromptLabel     string            `json:"promptLabel,omitempty"`   // default "latest", written at apply
	PromptVariables map[string]string `json:"promptVariables,omitempty"`
	MaxIterations   int               `json:"maxIterations"` // model calls per request, default 10
	Skills          []Skill           `json:"skills,omitempty"`
	Limits          *Limits           `json:"limits,omitempty"`
	Release         Release           `json:"release"`
	Approval        *Approval         `json:"approval,omitempty"`
	Expose          *Expose           `json:"expose,omitempty"`
	Model           Model             `json:"model"`
	MCPServers      []MCPServerRef    `json:"mcpServers,omitempty"`
	PartnerAgents   []PartnerRef      `json:"partnerAgents,omitempty"`
	Memory          Memory            `json:"memory"`
	KnowledgeBases  []KnowledgeRef    `json:"knowledgeBases,omitempty"`
	// Requires lists what an agentd must be able to do to honour every field; computed at apply.
	Requires []Requirement `json:"requires,omitempty"`
}

// Requirement names a capability that a field needs. An agentd without it answers WARNING not_supported with
// the field, or REJECTED when Refuse is set (semantics.md 6).
type Requirement struct {
	Capability string `json:"capability"`
	Field      string `json:"field"`
	Refuse     bool   `json:"refuse,omitempty"`
}

// Skill is one entry of the AgentCard.
type Skill struct {
	ID          string   `json:"id"`
	Name        string   `json:"name,omitempty"`
	Description string   `json:"description,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Examples    []string `json:"examples,omitempty"`
}

// Limits bound one request. Zero means no limit of its own.
type Limits struct {
	ToolCalls    int      `json:"toolCalls,omitempty"`
	Tokens       int64    `json:"tokens,omitempty"`
	CostUSD      float64  `json:"costUsd,omitempty"`
	WallTime     Duration `json:"wallTime,omitempty"` // default 10m (semantics.md 10)
	PartnerDepth int      `json:"partnerDepth,omitempty"`
	Concurrency  int      `json:"concurrency,omitempty"`
}

// Release says how a new revision reaches the instances.
type Release struct {
	Strategy         string   `json:"strategy"`         // "immediate"
	OnReject         string   `json:"onReject"`         // "rollback" (default) or "hold"
	ProgressDeadline Duration `json:"progressDeadline"` // default 60s
}

// Approval lists tools that need a person's consent.
type Approval struct {
	Tools []string `json:"tools"`
}

// Expose switches doors; nil means the door's default (on).
type Expose struct {
	A2A    json.RawMessage `json:"a2a,omitempty"`
	OpenAI *bool           `json:"openai,omitempty"`
	REST   *bool           `json:"rest,omitempty"`
	MCP    *bool           `json:"mcp,omitempty"`
}

// Model is one model endpoint with its parameters.
type Model struct {
	Model        string           `json:"model"`
	BaseURL      string           `json:"baseUrl,omitempty"`
	APIKey       Value            `json:"apiKey,omitzero"`
	API          string           `json:"api"` // "chat-completions" (default) or "responses"
	Temperature  *float64         `json:"temperature,omitempty"`
	TopP         *float64         `json:"topP,omitempty"`
	MaxTokens    *int             `json:"maxTokens,omitempty"`
	Stop         []string         `json:"stop,omitempty"`
	Seed         *int64           `json:"seed,omitempty"`
	Timeout      Duration         `json:"timeout,omitempty"`
	Headers      map[string]Value `json:"headers,omitempty"`
	Fallbacks    []Model          `json:"fallbacks,omitempty"`
	Retry        *Retry           `json:"retry,omitempty"`
	Price        *Price           `json:"price,omitempty"`
	ExtraBody    json.RawMessage  `json:"extraBody,omitempty"`
	SendMetadata bool             `json:"sendMetadata,omitempty"`
}

// Retry bounds how often a model call is tried again.
type Retry struct {
	Attempts int      `json:"attempts,omitempty"` // including the first, default 3
	Backoff  Duration `json:"backoff,omitempty"`  // first wait, doubled each time, default 500ms
}

// Price is in US dollars per million tokens.
type Price struct {
	Input  float64 `json:"input"`
	Output float64 `json:"output"`
}

// MCPServerRef is an agent's use of one MCP entry.
type MCPServerRef struct {
	MCPServerName   string           `json:"mcpServerName"`
	Version         string           `json:"version,omitempty"` // of the entry; empty: current
	QueryParams     map[string]Value `json:"queryParams,omitempty"`
	Headers         map[string]Value `json:"headers,omitempty"`
	Tools           *ToolFilter      `json:"tools,omitempty"`
	Timeout         Duration         `json:"timeout,omitempty"`
	ProtocolVersion string           `json:"protocolVersion,omitempty"`
	Required        bool             `json:"required"` // default true
}

// ToolFilter chooses tools by name. An allowed name that the server lacks is tool_missing.
type ToolFilter struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// PartnerRef is an agent that this one may call.
type PartnerRef struct {
	AgentName   string           `json:"agentName"`
	Headers     map[string]Value `json:"headers,omitempty"`
	Version     string           `json:"version,omitempty"`
	Label       string           `json:"label,omitempty"`
	Timeout     Duration         `json:"timeout,omitempty"`
	Alias       string           `json:"alias,omitempty"`
	Description string           `json:"description,omitempty"`
}

// Memory says what an agent remembers between requests of a session.
type Memory struct {
	StorageType         string   `json:"storageType"` // "in-process" (default) or "redis"
	Address             string   `json:"address,omitempty"`
	Credential          Value    `json:"credential,omitzero"`
	CompressionStrategy string   `json:"compressionStrategy"` // "none", "window", "token-budget" (default), "summarize"
	SearchStrategy      string   `json:"searchStrategy"`      // "recency" (default), "keyword", "vector", "hybrid"
	TTL                 Duration `json:"ttl,omitempty"`
	MaxTurns            int      `json:"maxTurns,omitempty"`
	MaxTokens           int      `json:"maxTokens,omitempty"`
	OnUnavailable       string   `json:"onUnavailable,omitempty"` // "fail" or "stateless"
}

// KnowledgeRef is a knowledge base that the agent may search.
type KnowledgeRef struct {
	Name     string   `json:"name"`
	TopK     int      `json:"topK,omitempty"`
	MinScore *float64 `json:"minScore,omitempty"`
	As       string   `json:"as,omitempty"` // "tool"
}
