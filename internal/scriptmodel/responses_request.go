package scriptmodel

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
)

// responsesRequest is what the server reads of a request to the Responses API.
type responsesRequest struct {
	Model        string          `json:"model"`
	Input        json.RawMessage `json:"input"`
	Instructions string          `json:"instructions"`
	Temperature  *float64        `json:"temperature"`
	TopP         *float64        `json:"top_p"`
	MaxTokens    *int            `json:"max_output_tokens"`
	Stream       bool            `json:"stream"`
	Tools        []struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
	} `json:"tools"`
	Metadata map[string]string `json:"metadata"`
	Include  []string          `json:"include"`
	Text     struct {
		Format struct {
			Type   string          `json:"type"`
			Name   string          `json:"name"`
			Schema json.RawMessage `json:"schema"`
			Strict *bool           `json:"strict"`
		} `json:"format"`
	} `json:"text"`
}

// inputItem is one of a request's items.
type inputItem struct {
	Type      string          `json:"type"`
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments string          `json:"arguments"`
	Output    json.RawMessage `json:"output"`
}

var errInput = errors.New("input must be a text or a list of items, and not empty")

// responses answers a request to the Responses API from the same rules as chat.
func (s *Server) responses(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		return
	}
	in := responsesRequest{}
	if err := json.Unmarshal(body, &in); err != nil {
		writeError(w, http.StatusBadRequest, "invalid_json", err.Error())
		return
	}
	q, err := in.chat()
	if err != nil {
		writeError(w, http.StatusBadRequest, "missing_input", err.Error())
		return
	}
	s.answer(w, r, q, body, wire{s.wholeResponse, s.streamResponse})
}

// chat gives the request in the words of chat completions, which the rules look at.
func (in *responsesRequest) chat() (*chatRequest, error) {
	q := &chatRequest{
		Model: in.Model, Temperature: in.Temperature, TopP: in.TopP, MaxTokens: in.MaxTokens, Stream: in.Stream, Metadata: in.Metadata,
		encrypted: slices.Contains(in.Include, "reasoning.encrypted_content"),
	}
	if in.Instructions != "" {
		q.Messages = append(q.Messages, wireMessage{Role: "system", Content: quoted(in.Instructions)})
	}
	var items []inputItem
	var text string
	switch {
	case json.Unmarshal(in.Input, &text) == nil && text != "":
		items = []inputItem{{Role: "user", Content: in.Input}}
	case json.Unmarshal(in.Input, &items) != nil || len(items) == 0:
		return nil, errInput
	}
	for _, i := range items {
		q.addItem(i)
	}
	for _, t := range in.Tools {
		tool := wireTool{Type: "function"}
		tool.Function.Name, tool.Function.Description, tool.Function.Parameters = t.Name, t.Description, t.Parameters
		q.Tools = append(q.Tools, tool)
	}
	return q, in.format(q)
}

// addItem adds an item as a message. Calls join the assistant's message before them, as they are one answer; items that are neither, such as
// reasoning, are passed over.
func (q *chatRequest) addItem(i inputItem) {
	switch i.Type {
	case "", "message":
		q.Messages = append(q.Messages, wireMessage{Role: i.Role, Content: i.parts()})
	case "function_call":
		if n := len(q.Messages); n == 0 || q.Messages[n-1].Role != "assistant" {
			q.Messages = append(q.Messages, wireMessage{Role: "assistant"})
		}
		call := wireCall{ID: i.CallID, Type: "function"}
		call.Function.Name, call.Function.Arguments = i.Name, i.Arguments
		last := &q.Messages[len(q.Messages)-1]
		last.ToolCalls = append(last.ToolCalls, call)
	case "function_call_output":
		q.Messages = append(q.Messages, wireMessage{Role: "tool", ToolCallID: i.CallID, Content: i.Output})
	}
}

// parts gives a message's content with its pictures as chat completions write them.
func (i inputItem) parts() json.RawMessage {
	var in []struct {
		Type   string `json:"type"`
		Text   string `json:"text"`
		Image  string `json:"image_url"`
		Detail string `json:"detail"`
	}
	if json.Unmarshal(i.Content, &in) != nil {
		return i.Content
	}
	type part struct {
		Type  string `json:"type"`
		Text  string `json:"text,omitempty"`
		Image *Image `json:"image_url,omitempty"`
	}
	out := make([]part, 0, len(in))
	for _, p := range in {
		if p.Type == "input_image" {
			out = append(out, part{Type: "image_url", Image: &Image{URL: p.Image, Detail: p.Detail}})
			continue
		}
		out = append(out, part{Type: "text", Text: p.Text})
	}
	return marshal(out)
}

func (in *responsesRequest) format(q *chatRequest) error {
	f := in.Text.Format
	if f.Type == "" {
		return nil
	}
	type schema struct {
		Name   string          `json:"name"`
		Schema json.RawMessage `json:"schema,omitempty"`
		Strict *bool           `json:"strict,omitempty"`
	}
	out := struct {
		Type   string  `json:"type"`
		Schema *schema `json:"json_schema,omitempty"`
	}{Type: f.Type}
	if f.Type == "json_schema" {
		out.Schema = &schema{f.Name, f.Schema, f.Strict}
	}
	b, err := json.Marshal(out)
	q.ResponseFormat = b
	return err
}

func quoted(s string) json.RawMessage { return marshal(s) }

func marshal(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil { // of texts only: it can't be
		return json.RawMessage("null")
	}
	return b
}
