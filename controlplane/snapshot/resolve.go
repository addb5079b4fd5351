package snapshot

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// reference is one use of a shared head in an agent's spec.
type reference struct {
	kind, name string
	version    string // explicit; "" : label, or the head's current version
	label      string
	field      string // JSON path in the spec
}

func (r reference) dangling(format string, args ...any) error {
	return &DanglingError{Resource: r.kind + "/" + r.name, Field: r.field, Reason: fmt.Sprintf(format, args...)}
}

// references lists every use of a shared head, always in the same order.
func references(a spec.Agent) []reference {
	out := []reference{{
		kind: manifest.KindPrompt, name: a.PromptKey, version: a.PromptVersion, label: a.PromptLabel, field: "promptKey",
	}}
	out = modelReferences(out, a.Model, "model")
	for i, m := range a.MCPServers {
		field := "mcpServers[" + strconv.Itoa(i) + "]"
		out = append(out, reference{kind: manifest.KindMCP, name: m.MCPServerName, version: m.Version, field: field})
		out = valueReferences(out, m.QueryParams, field+".queryParams")
		out = valueReferences(out, m.Headers, field+".headers")
	}
	for i, p := range a.PartnerAgents {
		out = valueReferences(out, p.Headers, "partnerAgents["+strconv.Itoa(i)+"].headers")
	}
	return valueReference(out, a.Memory.Credential, "memory.credential")
}

func modelReferences(out []reference, m spec.Model, field string) []reference {
	out = valueReference(out, m.APIKey, field+".apiKey")
	out = valueReferences(out, m.Headers, field+".headers")
	for i, f := range m.Fallbacks {
		out = modelReferences(out, f, field+".fallbacks["+strconv.Itoa(i)+"]")
	}
	return out
}

func valueReferences(out []reference, values map[string]spec.Value, field string) []reference {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = valueReference(out, values[name], field+"."+name)
	}
	return out
}

func valueReference(out []reference, v spec.Value, field string) []reference {
	if v.Ref == "" {
		return out
	}
	return append(out, reference{kind: manifest.KindCredential, name: v.Ref, field: field})
}
