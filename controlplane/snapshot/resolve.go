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

func (r reference) missing(version string) error {
	return &MissingError{Resource: r.kind + "/" + r.name, Version: version}
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

// prompt resolves by explicit version, else label.
func (h Heads) prompt(out []Resource, im Immutables, r reference) ([]Resource, error) {
	head, ok := h.Prompts[r.name]
	switch {
	case !ok:
		return nil, r.dangling("doesn't exist")
	case head.Deleted:
		return nil, r.dangling("is deleted")
	}
	version := r.version
	if version == "" {
		label := r.label
		if label == "" {
			label = "latest"
		}
		if version = head.Labels[label]; version == "" {
			return nil, r.dangling("has no label %q", label)
		}
	}
	hash, ok := head.Versions[version]
	if !ok {
		return nil, r.dangling("has no version %q online", version)
	}
	return addBlob(out, im, r, version, hash)
}

// mcp resolves by explicit version, else the head's current one, and adds what the head decides about its tools.
func (h Heads) mcp(out []Resource, im Immutables, r reference) ([]Resource, error) {
	head, ok := h.MCP[r.name]
	switch {
	case !ok:
		return nil, r.dangling("doesn't exist")
	case head.Deleted:
		return nil, r.dangling("is deleted")
	}
	version := r.version
	if version == "" {
		version = head.Current
	}
	hash, ok := head.Versions[version]
	if !ok {
		return nil, r.dangling("has no version %q", version)
	}
	out, err := addBlob(out, im, r, version, hash)
	if err != nil || len(head.Policy) == 0 {
		return out, err
	}
	line := manifest.Line{Kind: manifest.KindPolicy, Name: r.name, Version: "-", SHA256: manifest.Sum(head.Policy)}
	return append(out, Resource{Line: line, JSON: head.Policy}), nil
}

func (h Heads) credential(out []Resource, r reference) ([]Resource, error) {
	head, ok := h.Credentials[r.name]
	switch {
	case !ok:
		return nil, r.dangling("doesn't exist")
	case head.Deleted:
		return nil, r.dangling("is deleted")
	}
	line := manifest.Line{Kind: manifest.KindCredential, Name: r.name, Version: strconv.FormatInt(head.Version, 10)}
	return append(out, Resource{Line: line}), nil
}

func addBlob(out []Resource, im Immutables, r reference, version string, h manifest.Hash) ([]Resource, error) {
	b, ok := im.Blob(h)
	if !ok {
		return nil, r.missing(version)
	}
	return append(out, Resource{Line: manifest.Line{Kind: r.kind, Name: r.name, Version: version, SHA256: h}, JSON: b}), nil
}
