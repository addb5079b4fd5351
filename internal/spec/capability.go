package spec

// Capabilities that a spec's field can require of an agentd. One that is not listed by ThisRelease is answered
// WARNING not_supported with the field's path.
const (
	CapMemoryRedis    = "memory.redis"
	CapMemorySearch   = "memory.search"    // any searchStrategy but recency
	CapMemorySummary  = "memory.summarize" // compressionStrategy summarize
	CapPartners       = "partners"
	CapKnowledge      = "knowledge"
	CapMCPSSE         = "mcp.sse"
	CapMCPStdio       = "mcp.stdio"
	CapModelFallbacks = "model.fallbacks"
	CapModelResponses = "model.responses"
	// The Responses API has neither: no agentd can do these.
	CapModelResponsesStop = "model.responses.stop"
	CapModelResponsesSeed = "model.responses.seed"
	CapModelMetadata      = "model.metadata" // sendMetadata
	CapModelPrice         = "model.price"
	CapMCPEndpoints       = "mcp.endpoints" // more than one endpoint
	CapApproval           = "approval"
	CapCard               = "a2a.card" // skills, version, expose.a2a
	CapA2AV03             = "a2a.v03"  // protocol 0.3
	CapExposeREST         = "expose.rest"
	CapExposeMCP          = "expose.mcp"
	CapLimitCost          = "limits.cost"
	CapLimitTokens        = "limits.tokens"
	CapLimitToolCalls     = "limits.toolCalls"
	CapLimitDepth         = "limits.partnerDepth"
	CapLimitParallel      = "limits.concurrency"
	CapLimitSameCall      = "limits.sameCall"
	CapMemoryPayload      = "memory.toolPayload"
	CapExposeAuth         = "expose.auth"
	CapExposeRate         = "expose.rateLimit"
	CapExposeBody         = "expose.maxBodyBytes"
	CapExposeCORS         = "expose.cors"
)

// ThisRelease lists what this release's agentd can do. Hello carries it; Apply's notes use it where no
// instance is live.
func ThisRelease() []string {
	return []string{
		CapLimitTokens, CapLimitToolCalls, CapLimitParallel, CapLimitCost, CapLimitSameCall,
		CapModelMetadata, CapModelFallbacks, CapModelPrice, CapModelResponses, CapMCPEndpoints,
		CapMemoryRedis, CapMemorySearch, CapMemorySummary, CapMemoryPayload,
		CapApproval, CapCard, CapA2AV03, CapExposeREST, CapExposeMCP, CapExposeAuth, CapExposeRate, CapExposeBody, CapExposeCORS,
	}
}
