package spec

// promptFields are a prompt's. In a file a variable may also be its default alone.
func promptFields(file bool) []Field {
	variable := object("", OnRequest, "",
		str("type", OnRequest, "The type of its values.").oneOf("string", "number", "boolean").def(`"string"`),
		str("default", OnRequest, "The value when none is given."),
		typed("required", TypeBoolean, OnRequest, "An agent must give a value.").def("false"),
		str("description", OnRequest, "What it is for."))
	key := str("promptKey", OnRequest, "The prompt's key; the file's path below prompts/ if absent.").rule(RulePromptKey)
	key.Required = !file
	return []Field{
		key,
		str("version", OnRequest, "Semantic version; a published version never changes.").rule(RuleSemver).required(),
		str("template", OnRequest, "The text, with {{name}} and {{name|default}}.").rule(RuleNonEmpty).required(),
		str("description", OnApply, "What the prompt is for."),
		list("tags", OnApply, "Words to find it by.", maxListLength, str("", OnApply, "").rule(RuleNonEmpty)),
		mapping("variables", OnRequest, "Variables of the template: name to default, or to {type, default, required, description}.",
			RuleVariable, variable),
	}
}

func mcpFields(file bool) []Field {
	parameter := object("", OnRequest, "",
		typed("required", TypeBoolean, OnApply, "An agent must send it.").def("false"),
		typed("secret", TypeBoolean, OnApply, "Its value is kept as a credential.").def("true"),
		str("description", OnApply, "What it is for."))
	name := str("name", OnRequest, "The entry's name; the file's name if absent.").rule(RuleName)
	name.Required = !file
	endpoints := list("endpoints", OnRequest, "Addresses of the server.", maxListLength, object("", OnRequest, "",
		str("url", OnRequest, "The address.").rule(RuleNonEmpty).required(),
		typed("weight", TypeInteger, OnRequest, "Its share of the connections; another one takes over when it is lost.").between(0, 1000).def("1")))
	f := []Field{
		name,
		str("version", OnRequest, "The entry's version.").rule(RuleVersion).def(`"1.0.0"`),
		str("transport", OnRequest, "How the server is spoken to.").oneOf("streamable-http", "sse", "stdio").def(`"streamable-http"`),
	}
	if file {
		f = append(f, str("endpoint", OnRequest, "The one address of the server; short for endpoints.").rule(RuleNonEmpty))
	}
	f = append(f, endpoints,
		object("parameters", OnApply, "What an agent must send.",
			mapping("headers", OnApply, "HTTP headers.", RuleHeader, parameter),
			mapping("queryParams", OnApply, "Query parameters.", RuleNonEmpty, parameter)),
		str("owner", OnApply, "Who answers for it."),
		str("description", OnApply, "What the server does."),
		str("protocolVersion", OnRequest, "A fixed MCP protocol version; absent: negotiated.").rule(RuleVersion))
	if !file {
		f = append(f, list("requires", OnApply, "What an agentd must be able to do; computed at apply.", 0,
			object("", OnApply, "", requirementFields()...)))
	}
	return f
}

// mcpHeadFields are what a file of an MCP entry says about its head: switches and approvals.
func mcpHeadFields() []Field {
	return []Field{
		typed("enabled", TypeBoolean, OnCall, "Off: no agent is offered its tools, running requests included; absent: unchanged, on at first."),
		mapping("tools", OnCall, "What a person decided about single tools.", RuleNonEmpty, object("", OnCall, "",
			typed("enabled", TypeBoolean, OnCall, "Off at once, in running requests too; absent: unchanged, on at first."),
			str("description", OnRequest, "Replaces the description that the model sees."),
			list("approve", OnRequest, "Digests of approved definitions of the tool; absent: not pinned.", maxListLength,
				str("", OnRequest, "").rule(RuleDigest)))),
	}
}

func policyFields() []Field {
	return []Field{
		str("server", OnRequest, "").rule(RuleName).required(),
		mapping("tools", OnRequest, "", RuleNonEmpty, object("", OnRequest, "",
			str("description", OnRequest, ""),
			list("approved", OnRequest, "", 0, str("", OnRequest, "").rule(RuleDigest)))),
	}
}

func credentialFields() []Field {
	return []Field{
		str("value", OnCall, "The secret; write-only, sealed at rest; absent: unchanged, for a credential that exists."),
		list("allowedOrigins", OnApply, "Where it may be sent; absent: unchanged, anywhere at first; an empty list: anywhere again.", maxListLength,
			str("", OnApply, "").rule(RuleOrigin)),
	}
}
