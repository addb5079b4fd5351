package spec

import (
	"slices"
	"time"
)

// The defaults that a whole document carries even where a file names no part of it.
const (
	defaultIterations = 10
	defaultLabel      = "latest"
	defaultWallTime   = Duration(10 * time.Minute)
	defaultDeadline   = Duration(60 * time.Second)
	defaultModelTime  = Duration(2 * time.Minute)
	defaultBackoff    = Duration(500 * time.Millisecond)
	defaultMCPTime    = Duration(30 * time.Second)
	defaultPartner    = Duration(60 * time.Second)
	defaultApproval   = Duration(time.Hour)
	defaultAttempts   = 3
)

// FillDefaults writes every stated default where nothing is given, makes "default" strategies explicit and computes
// Requires. MCPServerRef.Required can't be told from false here: ReadAgent fills it. It is idempotent.
func (a *Agent) FillDefaults() {
	fill(&a.MaxIterations, defaultIterations)
	if a.PromptVersion == "" {
		fill(&a.PromptLabel, defaultLabel)
	}
	fill(&a.Release.Strategy, "immediate")
	fill(&a.Release.OnReject, "rollback")
	fill(&a.Release.ProgressDeadline, defaultDeadline)
	if a.Limits == nil {
		a.Limits = &Limits{}
	}
	fill(&a.Limits.WallTime, defaultWallTime)
	a.Model.fillDefaults()
	for i := range a.Model.Fallbacks {
		a.Model.Fallbacks[i].fillDefaults()
	}
	for i := range a.MCPServers {
		fill(&a.MCPServers[i].Timeout, defaultMCPTime)
		if t := a.MCPServers[i].Tools; t != nil && len(t.Allow)+len(t.Deny) == 0 {
			a.MCPServers[i].Tools = nil
		}
	}
	for i := range a.PartnerAgents {
		fill(&a.PartnerAgents[i].Timeout, defaultPartner)
	}
	a.Memory.fillDefaults()
	for i := range a.KnowledgeBases {
		fill(&a.KnowledgeBases[i].TopK, 5)
		fill(&a.KnowledgeBases[i].As, "tool")
	}
	if a.Approval != nil {
		fill(&a.Approval.Timeout, defaultApproval)
	}
	if a.Expose != nil {
		a.Expose.fillDefaults()
		if a.Expose.empty() {
			a.Expose = nil
		}
	}
	a.Requires = Requirements(*a)
}

func (e *Expose) fillDefaults() {
	if r := e.RateLimit; r != nil {
		fill(&r.Burst, max(1, r.RequestsPerMinute/6))
	}
	if e.CORS != nil {
		for i, o := range e.CORS.Origins {
			if canonical := Origin(o); canonical != "" {
				e.CORS.Origins[i] = canonical // as browsers send it
			}
		}
	}
}

func (e *Expose) empty() bool {
	return len(e.A2A) == 0 && e.OpenAI == nil && e.REST == nil && e.MCP == nil && e.Auth == nil && e.RateLimit == nil && e.MaxBodyBytes == 0 && e.CORS == nil
}

func (m *Model) fillDefaults() {
	fill(&m.API, "chat-completions")
	fill(&m.Timeout, defaultModelTime)
	if m.Retry == nil {
		m.Retry = &Retry{}
	}
	fill(&m.Retry.Attempts, defaultAttempts)
	fill(&m.Retry.Backoff, defaultBackoff)
}

func (m *Memory) fillDefaults() {
	fill(&m.StorageType, "in-process")
	if m.CompressionStrategy == "default" {
		m.CompressionStrategy = ""
	}
	fill(&m.CompressionStrategy, "token-budget")
	if m.SearchStrategy == "default" {
		m.SearchStrategy = ""
	}
	fill(&m.SearchStrategy, "recency")
	fill(&m.OnUnavailable, "fail")
}

// FillDefaults writes every stated default and computes Requires. Parameter.Secret can't be told from false here:
// ReadMCPServer fills it; so it does Endpoint.Weight, for which 0 is a value.
func (s *MCPServer) FillDefaults() {
	fill(&s.Version, "1.0.0")
	fill(&s.Transport, "streamable-http")
	if s.Endpoints == nil {
		s.Endpoints = []Endpoint{}
	}
	if p := s.Parameters; p != nil && len(p.Headers)+len(p.QueryParams) == 0 {
		s.Parameters = nil
	}
	s.Requires = slices.Clip(MCPRequirements(*s))
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
