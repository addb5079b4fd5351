// Package tool is the port to what an agent can do: one tool and its verb. Adapters (mcptool) bring tools from elsewhere;
// package run calls them; the assembler collects them into a Set.
package tool

import (
	"context"
	"encoding/json"
)

// Spec describes a tool to a model. Name is server__tool, at most 64 characters of [A-Za-z0-9_-].
type Spec struct {
	Name        string
	Server      string // MCP entry
	Tool        string // the server's own name
	Description string
	Schema      json.RawMessage
}

// Result is what a tool answered. IsError is a failure that the model is told of.
type Result struct {
	Text    string
	IsError bool
}

// Tool is one callable tool. Call may be used from many goroutines; an error is a failure to reach the tool and is given to the
// model as a result as well.
type Tool interface {
	Spec() Spec
	Call(ctx context.Context, args json.RawMessage) (Result, error)
}

// Set is the tools of one config as they are now: a lost server's tools are missing until it is back, and a switched-off tool is
// missing at once. The slice is the caller's to keep, in name order.
type Set interface {
	Tools() []Tool
}
