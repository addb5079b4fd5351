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
	SameCall     int      `json:"sameCall,omitempty"` // the most times one tool is called with the same arguments
}

// Release says how a new revision reaches the instances.
type Release struct {
	Strategy         string   `json:"strategy"`         // "immediate"
	OnReject         string   `json:"onReject"`         // "rollback" (default) or "hold"
	ProgressDeadline Duration `json:"progressDeadline"` // default 60s
}

// Approval lists tools that need a person's consent.
type Approval struct {
	Tools   []ApprovalTool `json:"tools"`
	Timeout Duration       `json:"timeout,omitempty"` // how long a decision is waited for, default 1h
}

// ApprovalTool is a tool, or a whole server, whose calls need consent. Its JSON is a string where When is empty, else an object.
type ApprovalTool struct {
	Tool string // server/tool, or server
	When string // CEL over `args`, `tool`, `server`, `session`, `principal`; empty: always
}

// Expose switches doors; nil means the door's default (on). What it says of callers holds for every door but the admin one.
type Expose struct {
	A2A          json.RawMessage `json:"a2a,omitempty"` // true, false, or A2A
	OpenAI       *bool           `json:"openai,omitempty"`
	REST         *bool           `json:"rest,omitempty"`
	MCP          *bool           `json:"mcp,omitempty"`
	Auth         *InboundAuth    `json:"auth,omitempty"` // nil: everybody, on loopback only
	RateLimit    *RateLimit      `json:"rateLimit,omitempty"`
	MaxBodyBytes int64           `json:"maxBodyBytes,omitempty"` // of one request, default 4 MiB
	CORS         *CORS           `json:"cors,omitempty"`
}

// InboundAuth says who may call: bearers of one of the keys, as "Authorization: Bearer KEY" or "X-API-Key: KEY".
type InboundAuth struct {
	Keys []InboundKey `json:"keys"`
}

// InboundKey is one caller. Sessions and tasks belong to its name.
type InboundKey struct {
	Name     string `json:"name"`
	Key      Value  `json:"key"`
	Approver bool   `json:"approver,omitempty"` // may decide about suspended runs of every caller
}

// RateLimit bounds each caller's requests.
type RateLimit struct {
	RequestsPerMinute int `json:"requestsPerMinute"`
	Burst             int `json:"burst,omitempty"` // default: a sixth of RequestsPerMinute, at least 1
}

// CORS names the origins whose pages may call; "*" is every one, and then without credentials.
type CORS struct {
	Origins []string `json:"origins"`
}

// A2A are the settings of the A2A door.
type A2A struct {
	V03        bool     `json:"v03,omitempty"`       // protocol 0.3 is served too
	Tools      []string `json:"tools,omitempty"`     // built-in tools that the model is offered: ask_user, request_auth, reject, give_up, attach, reply
	SigningKey Value    `json:"signingKey,omitzero"` // a credential with a PEM private key that the card is signed with
	Streaming  *bool    `json:"streaming,omitempty"` // default true
	Push       *bool    `json:"push,omitempty"`      // push notifications, default true
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
	// EmbeddingModel is asked for at the agent's model endpoint (POST /embeddings); vector and hybrid need it.
	EmbeddingModel string `json:"embeddingModel,omitempty"`
	// ToolPayloadBytes is how large a tool's arguments and result may be together to be remembered; 0 (default): none are.
	ToolPayloadBytes int `json:"toolPayloadBytes,omitempty"`
}

// KnowledgeRef is a knowledge base that the agent may search.
type KnowledgeRef struct {
	Name     string   `json:"name"`
	TopK     int      `json:"topK,omitempty"`
	MinScore *float64 `json:"minScore,omitempty"`
	As       string   `json:"as,omitempty"` // "tool"
}
