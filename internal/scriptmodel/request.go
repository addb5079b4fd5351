package scriptmodel

import (
	"encoding/json"
	"strings"
)

// chatRequest is what the server reads of a request; the rest is kept raw in Seen.
type chatRequest struct {
	Model         string   `json:"model"`
	Temperature   *float64 `json:"temperature"`
	TopP          *float64 `json:"top_p"`
	MaxTokens     *int     `json:"max_tokens"`
	MaxCompletion *int     `json:"max_completion_tokens"`
	Stream        bool     `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Messages       []wireMessage     `json:"messages"`
	Tools          []wireTool        `json:"tools"`
	Metadata       map[string]string `json:"metadata"`
	ResponseFormat json.RawMessage   `json:"response_format"`

	// What the rules look at, worked out by digest.
	user, system, toolResult string
	images                   []string // addresses, of the last user message
	turn, round              int
	encrypted                bool // of the Responses API: reasoning is to be given back
}

type wireMessage struct {
	Role       string          `json:"role"`
	Content    json.RawMessage `json:"content"`
	ToolCallID string          `json:"tool_call_id"`
	ToolCalls  []wireCall      `json:"tool_calls"`
}

type wireCall struct {
	Index    *int   `json:"index,omitempty"`
	ID       string `json:"id,omitempty"`
	Type     string `json:"type,omitempty"`
	Function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

type wireTool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
	} `json:"function"`
}

// text gives a content's text: a string, or the text parts of a list.
func (m wireMessage) text() string {
	var s string
	if json.Unmarshal(m.Content, &s) == nil {
		return s
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(m.Content, &parts) != nil {
		return ""
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String()
}

// images gives the pictures among a content's parts.
func (m wireMessage) images() []Image {
	var parts []struct {
		ImageURL *Image `json:"image_url"`
	}
	if len(m.Content) == 0 || m.Content[0] != '[' || json.Unmarshal(m.Content, &parts) != nil {
		return nil
	}
	var out []Image
	for _, p := range parts {
		if p.ImageURL != nil {
			out = append(out, *p.ImageURL)
		}
	}
	return out
}

// format gives the type of the response format and the name of its schema; "" if none is asked for.
func (q *chatRequest) format() string {
	var f struct {
		Type   string `json:"type"`
		Schema struct {
			Name string `json:"name"`
		} `json:"json_schema"`
	}
	if len(q.ResponseFormat) == 0 || json.Unmarshal(q.ResponseFormat, &f) != nil {
		return ""
	}
	return strings.TrimSpace(f.Type + " " + f.Schema.Name)
}

// digest works out what the rules look at.
func (q *chatRequest) digest() {
	var system, results []string
	for _, m := range q.Messages {
		switch m.Role {
		case "system", "developer":
			system = append(system, m.text())
		case "user":
			q.user, q.images = m.text(), nil
			for _, i := range m.images() {
				q.images = append(q.images, i.URL)
			}
			q.turn++
			q.round, results = 1, nil
		case "assistant":
			q.round++
			results = nil
		case "tool":
			results = append(results, m.text())
		}
	}
	q.system, q.toolResult = strings.Join(system, "\n"), strings.Join(results, "\n")
}
