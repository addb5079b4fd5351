package specfile

import (
	"path"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// role is what a file's path says it is.
type role struct {
	kind   string // a spec kind, or "" for a manifest
	folder string // the agent's folder
	name   string // the prompt's key or MCP entry's name, by path
	alias  string // the canonical file name where the given one is a foreign spelling
}

// agentFiles maps the stems of an agent's files to their kinds.
func agentFiles() map[string]string {
	return map[string]string{
		"agent-base": spec.KindAgentBase, "model": spec.KindModel, "mcp-servers": spec.KindMCPServers,
		"partner-agents": spec.KindPartnerAgents, "partener-agents": spec.KindPartnerAgents, "sub-agents": spec.KindPartnerAgents,
		"memory": spec.KindMemory, "knowledge": spec.KindKnowledge,
	}
}

func agentStem(s string) bool { return agentFiles()[s] != "" }

// roleOf decides by the path alone. The first prompts/ or mcp/ on the way down counts, then the file's name.
func roleOf(name string) role {
	dir, file := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	s := stem(name)
	parts := strings.Split(dir, "/")
	for i, p := range parts {
		if p != "prompts" && p != "mcp" || dir == "" {
			continue
		}
		rest := strings.Join(append(slices.Clone(parts[i+1:]), s), "/")
		if p == "prompts" {
			return role{kind: spec.KindPrompt, name: rest}
		}
		return role{kind: spec.KindMCP, name: rest}
	}
	if kind := agentFiles()[s]; kind != "" {
		r := role{kind: kind, folder: dir}
		if s == "partener-agents" || s == "sub-agents" {
			r.alias = "partner-agents" + path.Ext(file)
		}
		return r
	}
	if key, ok := strings.CutPrefix(s, "prompt-"); ok && key != "" {
		return role{kind: spec.KindPrompt, name: key, alias: "prompts/" + key + path.Ext(file)}
	}
	return role{}
}

// unknownName is the fault of a file whose name says nothing and whose content is no manifest.
func unknownName(name string) spec.Fault {
	f := spec.Fault{File: name, Message: "is no spec file (expected agent-base, model, mcp-servers, partner-agents, memory or knowledge, prompts/KEY, mcp/NAME, or a manifest with kind and spec)"}
	known := []string{"agent-base", "model", "mcp-servers", "partner-agents", "memory", "knowledge"}
	if near, ok := spec.Nearest(stem(name), known); ok {
		f.Hint = "did you mean " + near + path.Ext(name) + "?"
	}
	return f
}
