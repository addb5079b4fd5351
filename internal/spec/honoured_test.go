package spec_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/spec"
)

// Every field of a spec has an effect in this release, is for people only, or requires a capability: what this release lacks of
// those is a WARNING not_supported in apply's notes and in status. A new field must be put into one of the three.
func TestNoFieldIsIgnored(t *testing.T) {
	a := minimal()
	a.Version, a.Skills, a.Approval = "1", []spec.Skill{{ID: "s"}}, &spec.Approval{Tools: []spec.ApprovalTool{{Tool: "x"}}}
	a.Limits = &spec.Limits{ToolCalls: 1, Tokens: 1, CostUSD: 1, PartnerDepth: 1, Concurrency: 1, SameCall: 1}
	a.Expose = &spec.Expose{A2A: json.RawMessage("true"), REST: new(true), MCP: new(true), Auth: &spec.InboundAuth{}, RateLimit: &spec.RateLimit{}, MaxBodyBytes: 1, CORS: &spec.CORS{}}
	a.Model.SendMetadata, a.Model.Price, a.Model.Fallbacks = true, &spec.Price{}, []spec.Model{{Model: "b"}}
	a.PartnerAgents, a.KnowledgeBases = []spec.PartnerRef{{AgentName: "b"}}, []spec.KnowledgeRef{{Name: "k"}}
	a.Memory.Address, a.Memory.Credential = "h:1", spec.Value{Ref: "c"}
	a.Memory.EmbeddingModel, a.Memory.ToolPayloadBytes = "e", 1
	var covered []string
	for _, r := range spec.Requirements(a) {
		covered = append(covered, regexp.MustCompile(`\[\d+\]`).ReplaceAllString(r.Field, ""))
	}
	forPeople := []string{"displayName", "description", "labels", "requires"}
	effective := []string{
		"agentName", "promptKey", "promptVersion", "promptLabel", "promptVariables", "maxIterations", "limits.wallTime", "release", "expose.openai",
		"model.model", "model.baseUrl", "model.apiKey", "model.api", "model.temperature", "model.topP", "model.maxTokens", "model.stop", "model.seed",
		"model.timeout", "model.headers", "model.retry", "model.extraBody",
		"mcpServers.mcpServerName", "mcpServers.version", "mcpServers.queryParams", "mcpServers.headers", "mcpServers.tools", "mcpServers.timeout",
		"mcpServers.protocolVersion", "mcpServers.required",
		"memory.storageType", "memory.compressionStrategy", "memory.searchStrategy", "memory.ttl", "memory.maxTurns", "memory.maxTokens", "memory.onUnavailable",
	}
	covered = slices.Concat(covered, forPeople, effective)
	var walk func(path string, fields []spec.Field)
	walk = func(path string, fields []spec.Field) {
		for _, f := range fields {
			at := strings.TrimPrefix(path+"."+f.Name, ".")
			if slices.Contains(covered, at) {
				continue
			}
			below := f.Fields
			if f.Item != nil {
				below = f.Item.Fields
			}
			if len(below) == 0 {
				t.Errorf("%s is read and has no effect, and nothing says so", at)
			}
			walk(at, below)
		}
	}
	walk("", spec.Fields(spec.KindAgent))
}
