package spec

import (
	"bytes"
	"strconv"
)

// Requirements lists what an agentd must be able to do to honour every field of a, in field order.
func Requirements(a Agent) []Requirement {
	var r requirements
	r.when(len(a.Skills) > 0, CapCard, "skills")
	r.when(a.Version != "", CapCard, "version")
	if l := a.Limits; l != nil {
		r.when(l.ToolCalls > 0, CapLimitToolCalls, "limits.toolCalls")
		r.when(l.Tokens > 0, CapLimitTokens, "limits.tokens")
		r.when(l.CostUSD > 0, CapLimitCost, "limits.costUsd")
		r.when(l.PartnerDepth > 0, CapLimitDepth, "limits.partnerDepth")
		r.when(l.Concurrency > 0, CapLimitParallel, "limits.concurrency")
		r.when(l.SameCall > 0, CapLimitSameCall, "limits.sameCall")
	}
	r.must(a.Approval != nil && len(a.Approval.Tools) > 0, CapApproval, "approval")
	r.expose(a.Expose)
	r.model(a.Model)
	r.when(len(a.PartnerAgents) > 0, CapPartners, "partnerAgents")
	m := a.Memory
	r.when(m.StorageType == "redis", CapMemoryRedis, "memory.storageType")
	r.when(m.Address != "", CapMemoryRedis, "memory.address")
	r.when(!m.Credential.IsZero(), CapMemoryRedis, "memory.credential")
	r.when(m.CompressionStrategy == "summarize", CapMemorySummary, "memory.compressionStrategy")
	r.when(m.SearchStrategy != "" && m.SearchStrategy != "recency" && m.SearchStrategy != "default", CapMemorySearch, "memory.searchStrategy")
	r.when(m.EmbeddingModel != "", CapMemorySearch, "memory.embeddingModel")
	r.when(m.ToolPayloadBytes > 0, CapMemoryPayload, "memory.toolPayloadBytes")
	r.when(len(a.KnowledgeBases) > 0, CapKnowledge, "knowledgeBases")
	return r
}

// MCPRequirements lists what an agentd must be able to do to use s.
func MCPRequirements(s MCPServer) []Requirement {
	var r requirements
	r.when(s.Transport == "sse", CapMCPSSE, "transport")
	r.when(s.Transport == "stdio", CapMCPStdio, "transport")
	r.when(len(s.Endpoints) > 1, CapMCPEndpoints, "endpoints")
	return r
}

type requirements []Requirement

func (r *requirements) when(needed bool, capability, field string) {
	if needed {
		*r = append(*r, Requirement{Capability: capability, Field: field})
	}
}

// must is when for what would be open, or run unasked, on an agentd that can't do it: such an agentd refuses the config.
func (r *requirements) must(needed bool, capability, field string) {
	if needed {
		*r = append(*r, Requirement{Capability: capability, Field: field, Refuse: true})
	}
}

func (r *requirements) expose(e *Expose) {
	if e == nil {
		return
	}
	r.when(len(e.A2A) > 0 && !bytes.Equal(e.A2A, []byte("false")), CapCard, "expose.a2a")
	if settings, open := e.A2ASettings(); open {
		r.when(settings.V03, CapA2AV03, "expose.a2a.v03")
	}
	r.when(e.REST != nil && *e.REST, CapExposeREST, "expose.rest")
	r.when(e.MCP != nil && *e.MCP, CapExposeMCP, "expose.mcp")
	r.must(e.Auth != nil, CapExposeAuth, "expose.auth")
	r.when(e.RateLimit != nil, CapExposeRate, "expose.rateLimit")
	r.when(e.MaxBodyBytes > 0, CapExposeBody, "expose.maxBodyBytes")
	r.when(e.CORS != nil, CapExposeCORS, "expose.cors")
}

func (r *requirements) model(m Model) {
	r.api(m, "model")
	r.when(m.Price != nil, CapModelPrice, "model.price")
	r.when(m.SendMetadata, CapModelMetadata, "model.sendMetadata")
	for i := range m.Fallbacks {
		at := "model.fallbacks[" + strconv.Itoa(i) + "]"
		r.when(true, CapModelFallbacks, at)
		r.api(m.Fallbacks[i], at)
	}
}

// api says what an endpoint at a path needs to be asked in its way.
func (r *requirements) api(m Model, at string) {
	if m.API != "responses" {
		return
	}
	r.when(true, CapModelResponses, at+".api")
	r.when(len(m.Stop) > 0, CapModelResponsesStop, at+".stop")
	r.when(m.Seed != nil, CapModelResponsesSeed, at+".seed")
}
