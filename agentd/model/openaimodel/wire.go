package openaimodel

import (
	"encoding/json"
	"strings"
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
	} `json:"choices"`
	Usage *wireUsage `json:"usage"`
}

type wireUsage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
}

// wireMessage is a message or a piece of one. Servers call reasoning by two names.
type wireMessage struct {
	Content          wireText    `json:"content"`
	Refusal          string      `json:"refusal"`
	Reasoning        string      `json:"reasoning"`
	ReasoningContent string      `json:"reasoning_content"`
	ToolCalls        []toolDelta `json:"tool_calls"`
}

func (m *wireMessage) reasoning() string {
	if m.Reasoning != "" {
		return m.Reasoning
	}
	return m.ReasoningContent
}

// wireText is a text, or parts whose texts are one after the other.
type wireText string

// UnmarshalJSON reads both, and null.
func (t *wireText) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(t))
	case string(b) == "null":
		return nil
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	var all strings.Builder
	for _, p := range parts {
		all.WriteString(p.Text)
	}
	*t = wireText(all.String())
	return nil
}
