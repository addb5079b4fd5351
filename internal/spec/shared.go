package spec

// Prompt is one immutable version of a prompt; its canonical JSON is a "prompt" resource.
type Prompt struct {
	PromptKey   string                    `json:"promptKey"`
	Version     string                    `json:"version"` // semver
	Template    string                    `json:"template"`
	Description string                    `json:"description,omitempty"`
	Tags        []string                  `json:"tags,omitempty"`
	Variables   map[string]PromptVariable `json:"variables,omitempty"`
}

// PromptVariable is one {{name}} of a template.
type PromptVariable struct {
	Type        string  `json:"type,omitempty"` // "string" (default), "number", "boolean"
	Default     *string `json:"default,omitempty"`
	Required    bool    `json:"required,omitempty"`
	Description string  `json:"description,omitempty"`
}

// MCPServer is one immutable version of an MCP entry; its canonical JSON is an "mcp" resource. Tool switches
// and approvals belong to the entry's head (see ToolPolicy), never to this.
type MCPServer struct {
	Name            string         `json:"name"`
	Version         string         `json:"version"`
	Transport       string         `json:"transport"` // "streamable-http" (default), "sse", "stdio"
	Endpoints       []Endpoint     `json:"endpoints"` // "endpoint" of a file becomes one of these
	Parameters      *MCPParameters `json:"parameters,omitempty"`
	Owner           string         `json:"owner,omitempty"`
	Description     string         `json:"description,omitempty"`
	ProtocolVersion string         `json:"protocolVersion,omitempty"`
	Requires        []Requirement  `json:"requires,omitempty"`
}

// Endpoint is one address of an MCP entry. Weight defaults to 1.
type Endpoint struct {
	URL    string `json:"url"`
	Weight int    `json:"weight"`
}

// MCPParameters is the schema of what callers must send.
type MCPParameters struct {
	Headers     map[string]Parameter `json:"headers,omitempty"`
	QueryParams map[string]Parameter `json:"queryParams,omitempty"`
}

// Parameter is one header or query parameter. Secret defaults to true (semantics.md 12).
type Parameter struct {
	Required    bool   `json:"required,omitempty"`
	Secret      bool   `json:"secret"`
	Description string `json:"description,omitempty"`
}

// ToolSwitch is what a person decided about one tool of an MCP entry; it lives in the entry's head.
type ToolSwitch struct {
	Enabled     *bool    `json:"enabled,omitempty"`     // nil: on
	Description string   `json:"description,omitempty"` // override shown to the model
	Approved    []string `json:"approved,omitempty"`    // digests of tool definitions, lower hex
}

// Policy is the "policy NAME -" resource that Build renders from an MCP head: approved digests and
// description overrides. Switch-offs travel in the Overlay only. An empty policy makes no resource.
type Policy struct {
	Server string                `json:"server"`
	Tools  map[string]ToolPolicy `json:"tools"`
}

// ToolPolicy is one tool's part of a Policy.
type ToolPolicy struct {
	Description string   `json:"description,omitempty"`
	Approved    []string `json:"approved,omitempty"`
}
