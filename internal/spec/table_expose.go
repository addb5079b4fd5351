package spec

func exposeField() Field {
	a2a := object("a2a", OnRequest, "The A2A door: true, false, or its settings.",
		typed("v03", TypeBoolean, OnRequest, "Protocol 0.3 is served too.").def("false"),
		list("tools", OnRequest, "Built-in tools that the model is offered in tasks; absent: none.", len(builtinTools()),
			str("", OnRequest, "").oneOf(builtinTools()...)),
		typed("signingKey", TypeValue, OnCall, "The credential with the PEM private key that signs the AgentCard; absent: unsigned."),
		typed("streaming", TypeBoolean, OnRequest, "Tasks can be followed as a stream.").def("true"),
		typed("push", TypeBoolean, OnRequest, "Push notifications can be asked for.").def("true"))
	a2a.Switch = true
	return object("expose", OnRequest, "Doors of the agent, and who may come in.",
		a2a,
		typed("openai", TypeBoolean, OnRequest, "The OpenAI-compatible door; absent: open."),
		typed("rest", TypeBoolean, OnRequest, "The plain REST door; absent: open."),
		typed("mcp", TypeBoolean, OnRequest, "The agent as an MCP server; absent: open."),
		object("auth", OnRequest, "Who may call; absent: everybody, from loopback addresses only.",
			list("keys", OnRequest, "The callers.", maxListLength, object("", OnRequest, "",
				str("name", OnRequest, "The caller's name; its sessions, tasks and suspended runs belong to it.").rule(RuleName).required(),
				typed("key", TypeValue, OnCall, "What it sends as Authorization: Bearer KEY, or as X-API-Key: KEY.").required(),
				typed("approver", TypeBoolean, OnRequest, "It may decide about the suspended runs of every caller.").def("false"))).required()),
		object("rateLimit", OnRequest, "Bounds each caller's requests; absent: no bound.",
			typed("requestsPerMinute", TypeInteger, OnRequest, "How many requests a minute.").between(1, 1_000_000).required(),
			typed("burst", TypeInteger, OnRequest, "How many at once; absent: a sixth of requestsPerMinute, at least 1.").between(1, 1_000_000)),
		typed("maxBodyBytes", TypeInteger, OnRequest, "The largest request body; absent: 4194304, which is 4 MiB.").between(1024, MaxBodyBytes),
		object("cors", OnRequest, "Which web pages may call; absent: none of another origin.",
			list("origins", OnRequest, "Origins of pages, or \"*\" for every one.", maxListLength, str("", OnRequest, "").rule(RulePages)).required()))
}

// builtinTools names the tools that agentd itself can offer to a model.
func builtinTools() []string {
	return []string{"ask_user", "request_auth", "reject", "give_up", "attach", "reply"}
}
