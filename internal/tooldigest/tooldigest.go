// Package tooldigest says when two definitions of an MCP tool are the same one: the digest that a person approves, that
// instances report and that the control plane's probe computes. agentd and the control plane use it; it decides nothing.
package tooldigest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/gowebpki/jcs"
)

// Definition is what counts of a tool's definition. A member that the server did not send is absent.
type Definition struct {
	Server       string          `json:"server"` // the entry's name
	Name         string          `json:"name"`   // the tool's own
	Title        string          `json:"title,omitempty"`
	Description  string          `json:"description,omitempty"`
	InputSchema  json.RawMessage `json:"inputSchema,omitempty"`
	OutputSchema json.RawMessage `json:"outputSchema,omitempty"`
	Annotations  json.RawMessage `json:"annotations,omitempty"`
}

// Page reads the result of tools/list of a server. A tool without a name is an error.
func Page(server string, result json.RawMessage) ([]Definition, error) {
	var page struct {
		Tools []Definition `json:"tools"`
	}
	if err := json.Unmarshal(result, &page); err != nil {
		return nil, fmt.Errorf("read the tool list: %w", err)
	}
	for i := range page.Tools {
		if page.Tools[i].Name == "" {
			return nil, fmt.Errorf("read the tool list: a tool without a name")
		}
		page.Tools[i].Server = server
	}
	return page.Tools, nil
}

// Text is how the tool describes itself: its description, else its title.
func (d Definition) Text() string {
	if d.Description != "" {
		return d.Description
	}
	return d.Title
}

// Digest is SHA-256 in lower hex over the RFC 8785 form.
func (d Definition) Digest() (string, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	if b, err = jcs.Transform(b); err != nil {
		return "", fmt.Errorf("canonical form: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}
