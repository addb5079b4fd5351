package openaimodel

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// wireAnswer is what counts of a whole answer.
type wireAnswer struct {
	Model   string   `json:"model"`
	Error   *refusal `json:"error"`
	Choices []struct {
		Message      wireMessage `json:"message"`
		FinishReason string      `json:"finish_reason"`
	} `json:"choices"`
	Usage *wireUsage `json:"usage"`
}

// wireChunk is what counts of a piece of a stream.
type wireChunk struct {
	Model   string   `json:"model"`
	Error   *refusal `json:"error"`
	Choices []struct {
		Index        int         `json:"index"`
		Delta        wireMessage `json:"delta"`
		FinishReason string      `json:"finish_reason"`
		Usage        *wireUsage  `json:"usage"` // Kimi's place
	} `json:"choices"`
	Usage *wireUsage `json:"usage"`
	XGroq *struct {
		Usage *wireUsage `json:"usage"`
	} `json:"x_groq"` // Groq's place
	// An error whose fields stand in the chunk itself, as older vLLM wrote it.
	Object  string          `json:"object"`
	Message json.RawMessage `json:"message"`
	Type    json.RawMessage `json:"type"`
	Code    json.RawMessage `json:"code"`
}

// refused gives the error that a chunk is, if it is one.
func (c *wireChunk) refused() error {
	switch {
	case c.Error.said():
		return c.Error
	case c.Object == "error":
		return &refusal{Message: word(c.Message), Type: word(c.Type), Code: word(c.Code)}
	default:
		return nil
	}
}

type wireUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// wireMessage is a message or a piece of one. Servers call reasoning by two names.
type wireMessage struct {
	Content          wireContent `json:"content"`
	Refusal          string      `json:"refusal"`
	Reasoning        string      `json:"reasoning"`
	ReasoningContent string      `json:"reasoning_content"`
	ToolCalls        []toolDelta `json:"tool_calls"`
}

func (m *wireMessage) reasoning() string {
	switch {
	case m.ReasoningContent != "":
		return m.ReasoningContent
	case m.Reasoning != "":
		return m.Reasoning
	default:
		return m.Content.thinking
	}
}

// wireContent is a text, or parts whose texts are one after the other; Mistral's may think.
type wireContent struct{ text, thinking string }

// UnmarshalJSON reads both, and null.
func (c *wireContent) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 1 && b[0] == '"':
		if plain := b[1 : len(b)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) { // most pieces of a stream; b is valid JSON already
			c.text = string(plain)
			return nil
		}
		return json.Unmarshal(b, &c.text)
	case string(b) == "null":
		return nil
	}
	var parts []struct {
		Text     string `json:"text"`
		Thinking []struct {
			Text string `json:"text"`
		} `json:"thinking"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	var text, thinking strings.Builder
	for _, p := range parts {
		text.WriteString(p.Text)
		for _, t := range p.Thinking {
			thinking.WriteString(t.Text)
		}
	}
	c.text, c.thinking = text.String(), thinking.String()
	return nil
}
