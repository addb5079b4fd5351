package telemetry

// The names of OpenTelemetry's GenAI, MCP and HTTP conventions that are used (open-telemetry/semantic-conventions-genai, status
// Development), and our own under one prefix. No other file spells one.
const (
	OpInvokeAgent = "invoke_agent"
	OpChat        = "chat"
	OpExecuteTool = "execute_tool"

	GenAIOperation     = "gen_ai.operation.name"
	GenAIProvider      = "gen_ai.provider.name"
	GenAIAgentName     = "gen_ai.agent.name"
	GenAIConversation  = "gen_ai.conversation.id"
	GenAIRequestModel  = "gen_ai.request.model"
	GenAIResponseModel = "gen_ai.response.model"
	GenAIFinishReasons = "gen_ai.response.finish_reasons"
	GenAIInputTokens   = "gen_ai.usage.input_tokens"  // #nosec G101 -- a name, not a credential
	GenAIOutputTokens  = "gen_ai.usage.output_tokens" // #nosec G101 -- a name, not a credential
	GenAIToolName      = "gen_ai.tool.name"
	GenAIToolCallID    = "gen_ai.tool.call.id"
	GenAIPromptName    = "gen_ai.prompt.name"
	ErrorType          = "error.type"

	AgentryRevision      = "agentry.revision"
	AgentryConfig        = "agentry.config"
	AgentryInstance      = "agentry.instance"
	AgentryNamespace     = "agentry.namespace"
	AgentryPromptKey     = "agentry.prompt.key"
	AgentryPromptVersion = "agentry.prompt.version"
	AgentryIteration     = "agentry.iteration"
	AgentryMCPServer     = "agentry.mcp.server"
	AgentryUsageGuessed  = "agentry.usage.estimated"

	// ProviderOpenAI is the provider name of every OpenAI-compatible endpoint.
	ProviderOpenAI = "openai"
)
