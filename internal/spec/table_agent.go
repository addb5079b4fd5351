package spec

import "slices"

// The kinds of schema: one for each file, and "agent" for the whole.
const (
	KindAgent         = "agent"
	KindAgentBase     = "agent-base"
	KindModel         = "model"
	KindMCPServers    = "mcp-servers"
	KindPartnerAgents = "partner-agents"
	KindMemory        = "memory"
	KindKnowledge     = "knowledge"
	KindPrompt        = "prompt"
	KindMCP           = "mcp"
	KindCredential    = "credential"
)

// Kinds lists every kind that Fields and Schema know, in the order of documents.
func Kinds() []string {
	return []string{
		KindAgent, KindAgentBase, KindModel, KindMCPServers, KindPartnerAgents, KindMemory, KindKnowledge,
		KindPrompt, KindMCP, KindCredential,
	}
}

// Fields gives the table of a kind; nil for an unknown one. KindAgent is the canonical document of an agent's revision (Agent),
// the others are files.
func Fields(kind string) []Field {
	switch kind {
	case KindAgent:
		return agentFields()
	case KindAgentBase:
		return baseFields(false)
	case KindModel:
		return modelFields(true)
	case KindMCPServers:
		return []Field{mcpServersField()}
	case KindPartnerAgents:
		f := partnersField()
		f.Name = "agents"
		return []Field{f}
	case KindMemory:
		return memoryFields()
	case KindKnowledge:
		return []Field{knowledgeField()}
	case KindPrompt:
		return promptFields(true)
	case KindMCP:
		return slices.Concat(mcpFields(true), mcpHeadFields())
	case KindCredential:
		return credentialFields()
	default:
		return nil
	}
}

func agentFields() []Field {
	return slices.Concat(baseFields(true), []Field{
		object("model", OnRequest, "The model endpoint and its parameters (model.json).", modelFields(true)...).required(),
		mcpServersField(),
		partnersField(),
		object("memory", OnRequest, "What the agent remembers of a session (memory.json).", memoryFields()...),
		knowledgeField(),
		list("requires", OnApply, "What an agentd must be able to do to honour every field; computed at apply.", 0,
			object("", OnApply, "", requirementFields()...)),
	})
}

func requirementFields() []Field {
	return []Field{
		str("capability", OnApply, "The capability's name.").required(),
		str("field", OnApply, "JSON path of the field that needs it.").required(),
		typed("refuse", TypeBoolean, OnApply, "An agentd without the capability must refuse.").def("false"),
	}
}

func baseFields(whole bool) []Field {
	name := str("agentName", OnRestart, "The agent's logical name; the folder's name if absent.").rule(RuleName)
	name.Required = whole
	return []Field{
		name,
		str("displayName", OnRequest, "A name for people."),
		str("description", OnRequest, "What the agent does; partners and the AgentCard show it."),
		str("version", OnRequest, "Version shown in the AgentCard.").rule(RuleVersion),
		mapping("labels", OnApply, "Labels by which agents are selected.", RuleName, str("", OnApply, "")),
		str("promptKey", OnRequest, "The prompt that instructs the agent.").rule(RulePromptKey).required(),
		str("promptVersion", OnRequest, "A fixed version of the prompt; excludes promptLabel.").rule(RuleSemver),
		str("promptLabel", OnRequest, "The label whose version is used; \"latest\" when neither is given.").rule(RuleName),
		mapping("promptVariables", OnRequest, "Values for the prompt's variables; they override its defaults.", RuleVariable, str("", OnRequest, "")),
		typed("maxIterations", TypeInteger, OnRequest, "The most model calls per request.").min(1).def("10"),
		list("skills", OnRequest, "Skills shown in the AgentCard.", maxListLength, object("", OnRequest, "",
			str("id", OnRequest, "The skill's id.").rule(RuleName).required(),
			str("name", OnRequest, "A name for people."),
			str("description", OnRequest, "What it does."),
			list("tags", OnRequest, "Words to find it by.", maxListLength, str("", OnRequest, "").rule(RuleNonEmpty)),
			list("examples", OnRequest, "Example questions.", maxListLength, str("", OnRequest, "").rule(RuleNonEmpty)))),
		object("limits", OnRequest, "Bounds of one request; 0 is no bound.",
			typed("toolCalls", TypeInteger, OnRequest, "The most tool calls.").min(0),
			typed("tokens", TypeInteger, OnRequest, "The most tokens, input and output together.").min(0),
			typed("costUsd", TypeNumber, OnRequest, "The most money, in US dollars.").min(0),
			typed("wallTime", TypeDuration, OnRequest, "The longest time.").def(`"10m"`),
			typed("partnerDepth", TypeInteger, OnRequest, "How deep partners may call partners.").between(0, 5),
			typed("concurrency", TypeInteger, OnRequest, "The most requests at a time per instance.").min(0),
			typed("sameCall", TypeInteger, OnRequest, "The most times that one tool is called with the same arguments.").min(0)),
		object("release", OnApply, "How a new revision reaches the instances.",
			str("strategy", OnApply, "\"immediate\": all instances at once.").oneOf("immediate").def(`"immediate"`),
			str("onReject", OnApply, "What follows a refusal: back to the proven revision, or hold.").oneOf("rollback", "hold").def(`"rollback"`),
			typed("progressDeadline", TypeDuration, OnApply, "How long an unreachable dependency is tried.").def(`"60s"`)),
		object("approval", OnRequest, "Tool calls that wait for a person's consent.",
			list("tools", OnRequest, "Which calls: server/tool, a server's name, or {tool, when}.", maxListLength, approvalTool()).required(),
			typed("timeout", TypeDuration, OnRequest, "How long a decision is waited for; the run expires then.").def(`"1h"`)),
		exposeField(),
	}
}

func approvalTool() Field {
	f := object("", OnRequest, "",
		str("tool", OnRequest, "server/tool, or a server's name for all its tools.").rule(RuleTool).required(),
		str("when", OnRequest, "CEL over args, tool, server, session and principal: calls for which it is false need no consent; absent: all do.").rule(RuleNonEmpty))
	f.Short = "tool"
	return f
}

func modelFields(fallbacks bool) []Field {
	f := []Field{
		str("model", OnRequest, "The model's name at its endpoint.").rule(RuleLine).required(),
		str("baseUrl", OnRequest, "Address of an OpenAI-compatible endpoint; /v1 is appended unless it ends in v<digits>.").rule(RuleURL),
		typed("apiKey", TypeValue, OnCall, "The endpoint's key."),
		str("api", OnRequest, "How the endpoint is asked: at /chat/completions or at /responses.").oneOf("chat-completions", "responses").def(`"chat-completions"`),
		typed("temperature", TypeNumber, OnRequest, "Randomness; absent: the endpoint's default.").between(0, 2),
		typed("topP", TypeNumber, OnRequest, "Nucleus sampling; absent: the endpoint's default.").between(0, 1),
		typed("maxTokens", TypeInteger, OnRequest, "The longest answer in tokens; absent: the endpoint's default.").min(1),
		list("stop", OnRequest, "Texts that end an answer; not with api responses.", 16, str("", OnRequest, "").rule(RuleNonEmpty)),
		typed("seed", TypeInteger, OnRequest, "Seed for repeatable answers, where the endpoint knows it; not with api responses."),
		typed("timeout", TypeDuration, OnRequest, "The longest model call, its retries aside; of a stream, the longest wait for its first chunk and between two (at most 1m).").def(`"2m"`),
		mapping("headers", OnCall, "HTTP headers sent along.", RuleHeader, typed("", TypeValue, OnCall, "")),
		object("retry", OnRequest, "How often a model call is tried again.",
			typed("attempts", TypeInteger, OnRequest, "Tries, the first included.").between(1, 10).def("3"),
			typed("backoff", TypeDuration, OnRequest, "The first wait, doubled each time.").def(`"500ms"`)),
		object("price", OnRequest, "US dollars per million tokens.",
			typed("input", TypeNumber, OnRequest, "Of input tokens.").min(0).def("0"),
			typed("output", TypeNumber, OnRequest, "Of output tokens.").min(0).def("0")),
		typed("extraBody", TypeAny, OnRequest, "An object merged into the request body."),
		typed("sendMetadata", TypeBoolean, OnRequest, "Send agent, revision, config and session as request metadata, beside the caller's own.").def("false"),
	}
	if fallbacks {
		f = append(f, list("fallbacks", OnRequest, "Models of the same shape, tried in order when this one fails.", MaxFallbacks,
			object("", OnRequest, "", modelFields(false)...)))
	}
	return f
}

func mcpServersField() Field {
	return list("mcpServers", OnRequest, "MCP servers whose tools the agent may call (mcp-servers.json).", MaxServers, object("", OnRequest, "",
		str("mcpServerName", OnRequest, "Name of the MCP entry.").rule(RuleName).required(),
		str("version", OnRequest, "A fixed version of the entry; absent: its current one.").rule(RuleVersion),
		mapping("queryParams", OnCall, "Query parameters sent to the server.", RuleNonEmpty, typed("", TypeValue, OnCall, "")),
		mapping("headers", OnCall, "HTTP headers sent to the server.", RuleHeader, typed("", TypeValue, OnCall, "")),
		object("tools", OnRequest, "Which of its tools; absent: all.",
			list("allow", OnRequest, "Only these; one that the server lacks refuses the config.", 0, str("", OnRequest, "").rule(RuleNonEmpty)),
			list("deny", OnRequest, "All but these.", 0, str("", OnRequest, "").rule(RuleNonEmpty))),
		typed("timeout", TypeDuration, OnRequest, "The longest tool call.").def(`"30s"`),
		str("protocolVersion", OnRequest, "A fixed MCP protocol version; absent: the entry's.").rule(RuleVersion),
		typed("required", TypeBoolean, OnRequest, "Whether a config is refused while the server can't be reached.").def("true")))
}

func partnersField() Field {
	return list("partnerAgents", OnRequest, "Agents that this one may call (partner-agents.json).", MaxPartners, object("", OnRequest, "",
		str("agentName", OnRequest, "The partner's logical name.").rule(RuleName).required(),
		mapping("headers", OnCall, "HTTP headers sent to the partner.", RuleHeader, typed("", TypeValue, OnCall, "")),
		str("version", OnRequest, "A fixed version of the partner; excludes label.").rule(RuleVersion),
		str("label", OnRequest, "The label of the partner's version.").rule(RuleName),
		typed("timeout", TypeDuration, OnRequest, "The longest call.").def(`"60s"`),
		str("alias", OnRequest, "The name under which the model sees it.").rule(RuleName),
		str("description", OnRequest, "What the model is told of it; absent: the partner's own.")))
}

func memoryFields() []Field {
	return []Field{
		str("storageType", OnRequest, "Where turns are kept.").oneOf("in-process", "redis").def(`"in-process"`),
		str("address", OnRequest, "host:port of the Redis server, or redis://host:port/db; rediss:// is TLS.").rule(RuleRedis),
		typed("credential", TypeValue, OnCall, "The store's credential: JSON text with username and password, or a password."),
		str("compressionStrategy", OnRequest, "How a long session is shortened; \"default\" is token-budget.").
			oneOf("default", "none", "window", "token-budget", "summarize").def(`"token-budget"`),
		str("searchStrategy", OnRequest, "How turns are chosen; \"default\" is recency.").
			oneOf("default", "recency", "keyword", "vector", "hybrid").def(`"recency"`),
		typed("ttl", TypeDuration, OnRequest, "How long a silent session is kept; absent: 24h."),
		typed("maxTurns", TypeInteger, OnRequest, "The most messages recalled; absent: 20 with window, else no bound.").min(1),
		typed("maxTokens", TypeInteger, OnRequest, "The most tokens recalled, by estimate; absent: 8000 with token-budget and summarize, else no bound.").min(1),
		str("onUnavailable", OnRequest, "What a request meets when the store is gone.").oneOf("fail", "stateless").def(`"fail"`),
		str("embeddingModel", OnRequest, "The embedding model at the agent's model endpoint; searchStrategy vector and hybrid need it.").rule(RuleLine),
		typed("toolPayloadBytes", TypeInteger, OnRequest, "How large the arguments and the result of a tool call may be together to be remembered; absent or 0: none are.").between(0, 1<<20),
	}
}

func knowledgeField() Field {
	return list("knowledgeBases", OnRequest, "Knowledge bases the agent may search (knowledge.json).", maxListLength, object("", OnRequest, "",
		str("name", OnRequest, "Name of the knowledge base.").rule(RuleName).required(),
		typed("topK", TypeInteger, OnRequest, "The most passages per search.").between(1, 100).def("5"),
		typed("minScore", TypeNumber, OnRequest, "The lowest score; absent: no bound.").between(0, 1),
		str("as", OnRequest, "How the agent gets it.").oneOf("tool").def(`"tool"`)))
}
