package snapshot

import (
	"fmt"

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
	for i, m := range a.MCPServers {
		out = append(out, reference{kind: manifest.KindMCP, name: m.MCPServerName, version: m.Version, field: spec.Index("mcpServers", i)})
	}
	for _, c := range a.Credentials() { // the spec's own list: a place that is missing here would be a value that never arrives
		out = append(out, reference{kind: manifest.KindCredential, name: c.Name, field: c.Path})
	}
	return out
}
