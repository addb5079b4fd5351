// Package model is the port to a language model endpoint: its nouns and its one verb. Adapters (openaimodel) translate a
// vendor's wire into it; package run calls it; the engine never sees it.
package model

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Role of a message.
type Role string

// The roles.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
	Tool      Role = "tool"
)

// Message is one turn of a conversation.
type Message struct {
	Role       Role
	Text       string
	Images     []Image    // of a user
	ToolCalls  []ToolCall // of an assistant
	ToolCallID string     // of a tool result
}

// Image is a picture in a user's message: an http(s) address or a data: URL. The model's endpoint fetches it, agentd never does.
type Image struct {
	URL    string
	Detail string // "", auto, low or high
}

// ResponseFormat asks for structured output: type json_object, or json_schema with a schema.
type ResponseFormat struct {
	Type   string          // "", text, json_object, json_schema
	Name   string          // of the schema
	Schema json.RawMessage // of json_schema
	Strict *bool
}

// ToolCall is a model's wish to call a tool. Arguments is JSON as the model wrote it, perhaps malformed.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string
}

// ToolSpec offers a tool to the model. Schema is the JSON Schema of its arguments.
type ToolSpec struct {
	Name        string
	Description string
	Schema      json.RawMessage
}

// Request is one model call. Parameters (temperature, ...) belong to the Model that was built with them.
type Request struct {
	Messages []Message
	Tools    []ToolSpec
	Stream   bool
	// Stop adds to the configured stop sequences.
	Stop []string
	// Metadata is sent along where the spec asks for it.
	Metadata map[string]string
	Format   ResponseFormat
}

// Usage counts tokens. Estimated is true when a part of it is our own guess: the server sent none, or an attempt broke off.
type Usage struct {
	InputTokens  int64
	OutputTokens int64
	Estimated    bool
	CostUSD      float64 // by the price of the endpoint that answered; 0 where it has none
}

// Chunk is a piece of an answer. Concatenating Text of all chunks gives the answer; ToolCalls come whole, in one chunk.
type Chunk struct {
	Text         string
	Reasoning    string
	ToolCalls    []ToolCall
	Usage        *Usage // in the last chunk
	FinishReason string // in the last chunk: stop, length, tool_calls, content_filter
	Model        string // as the server names itself
}

// Attempt is one try at an endpoint, for the error that names them all.
type Attempt struct {
	Model   string
	Status  int // HTTP status; 0: no answer
	Err     string
	Elapsed time.Duration
}

// Plus gives the sum. Either may be nil, and neither is changed.
func (u *Usage) Plus(o *Usage) *Usage {
	switch {
	case u == nil:
		return o
	case o == nil:
		return u
	}
	return &Usage{
		InputTokens: u.InputTokens + o.InputTokens, OutputTokens: u.OutputTokens + o.OutputTokens,
		Estimated: u.Estimated || o.Estimated, CostUSD: u.CostUSD + o.CostUSD,
	}
}

// Error is a model call that failed for good.
type Error struct {
	Code     string // a phase.Code or "context_length", "content_filter"
	Message  string
	Attempts []Attempt
	// RetryAfter is how long the endpoint asked to be left alone; 0: it asked nothing.
	RetryAfter time.Duration
}

// Model generates answers. Generate may be called from many goroutines; ending ctx or stopping the iteration cancels the call
// at the endpoint. The sequence ends after the first error, which is an *Error unless ctx ended. The Chunk beside an error carries
// nothing but, where some of an answer had come, its Usage (estimated): what was generated is paid for.
type Model interface {
	Generate(ctx context.Context, r Request) iter.Seq2[Chunk, error]
}

// Embedder turns texts into vectors at the model's endpoint, one vector for each text, in order. It may be called from many goroutines.
type Embedder interface {
	Embed(ctx context.Context, model string, texts []string) ([][]float32, error)
}
