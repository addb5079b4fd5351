package openaimodel

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/jsonquote"
)

// parameters renders what the config adds to every request: once, as extraBody may hold any field.
func parameters(cfg Config) (map[string]json.RawMessage, error) {
	p := map[string]json.RawMessage{}
	set := func(name string, v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return errs.New(errs.Invalid, "%s: %w", name, err)
		}
		p[name] = b
		return nil
	}
	maxTokens, input := "max_tokens", "messages"
	if cfg.API == Responses {
		maxTokens, input = "max_output_tokens", "input"
		cfg.Seed, cfg.Stop = nil, nil // the API has neither: see spec.CapModelResponsesStop
		p["store"], p["include"] = json.RawMessage("false"), json.RawMessage(includeReasoning)
	}
	var faults []error
	if cfg.Temperature != nil {
		faults = append(faults, set("temperature", *cfg.Temperature))
	}
	if cfg.TopP != nil {
		faults = append(faults, set("top_p", *cfg.TopP))
	}
	if cfg.MaxTokens != nil {
		faults = append(faults, set(maxTokens, *cfg.MaxTokens))
	}
	if cfg.Seed != nil {
		faults = append(faults, set("seed", *cfg.Seed))
	}
	if len(cfg.Stop) > 0 {
		faults = append(faults, set("stop", cfg.Stop))
	}
	for _, err := range faults {
		if err != nil {
			return nil, err
		}
	}
	if len(cfg.ExtraBody) == 0 {
		return p, nil
	}
	var extra map[string]json.RawMessage
	if err := json.Unmarshal(cfg.ExtraBody, &extra); err != nil {
		return nil, errs.New(errs.Invalid, "extraBody: want a JSON object: %w", err)
	}
	for _, name := range []string{"model", input, "tools", "stream"} {
		if _, ok := extra[name]; ok {
			return nil, errs.New(errs.Invalid, "extraBody: %s belongs to the request", name)
		}
	}
	maps.Copy(p, extra)
	return p, nil
}

// renderTail gives `,"name":value...` in name order; a null leaves its field out.
func renderTail(p map[string]json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if string(p[name]) == "null" {
			continue
		}
		key, err := json.Marshal(name)
		if err != nil {
			return nil, errs.New(errs.Invalid, "extraBody: %w", err)
		}
		b.WriteByte(',')
		b.Write(key)
		b.WriteByte(':')
		b.Write(p[name])
	}
	return b.Bytes(), nil
}

// render gives the body of a chat request: the model's name, what is asked, and the tail of parameters. It is put together by hand,
// because every turn passes here.
func (m *Model) render(r model.Request) ([]byte, error) {
	if m.responses {
		return m.renderResponses(r)
	}
	tail, err := m.tailFor(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(m.head)+len(tail)+sizeOf(r))
	b = append(b, m.head...) // {"model":NAME,"messages":[
	for i := range r.Messages {
		if i > 0 {
			b = append(b, ',')
		}
		b = m.appendMessage(b, &r.Messages[i])
	}
	b = append(b, ']')
	b = appendTools(b, r.Tools, `{"type":"function","function":{`, "}}")
	b = append(b, `,"stream":`...)
	b = strconv.AppendBool(b, r.Stream)
	b = append(b, tail...)
	return append(b, '}'), nil
}

// appendTools writes the tools, each between open and end; none: nothing.
func appendTools(b []byte, tools []model.ToolSpec, open, end string) []byte {
	for i, t := range tools {
		if i == 0 {
			b = append(b, `,"tools":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(append(b, open...), `"name":`...)
		b = jsonquote.Append(b, t.Name)
		if t.Description != "" {
			b = append(b, `,"description":`...)
			b = jsonquote.Append(b, t.Description)
		}
		b = append(b, `,"parameters":`...)
		if len(t.Schema) == 0 {
			b = append(b, `{"type":"object","properties":{}}`...)
		}
		b = append(append(b, t.Schema...), end...)
	}
	if len(tools) > 0 {
		b = append(b, ']')
	}
	return b
}

// sizeOf guesses how long the rest of a body gets, so that it's allocated once as a rule.
func sizeOf(r model.Request) int {
	n := 64
	for i := range r.Messages {
		m := &r.Messages[i]
		n += 64 + len(m.Text) + len(m.Text)/16 + len(m.ToolCallID)
		for _, c := range m.ToolCalls {
			n += 96 + len(c.ID) + len(c.Name) + len(c.Arguments) + len(c.Arguments)/4
		}
		for _, p := range m.Images {
			n += 96 + len(p.URL)
		}
	}
	for _, t := range r.Tools {
		n += 96 + len(t.Name) + len(t.Description) + len(t.Schema)
	}
	return n
}

// appendMessage writes one message. Content is always there: a tool's result, say, may be empty, and is refused without.
func (m *Model) appendMessage(b []byte, msg *model.Message) []byte {
	b = append(b, `{"role":"`...)
	b = append(b, msg.Role...) // one of ours: nothing to escape
	b = append(b, `","content":`...)
	switch {
	case len(msg.Images) > 0:
		b = appendParts(b, msg)
	case msg.Text == "" && len(msg.ToolCalls) > 0:
		b = append(b, "null"...)
	default:
		b = jsonquote.Append(b, msg.Text)
	}
	if len(msg.ToolCalls) > 0 {
		b = m.appendCalls(b, msg.ToolCalls)
	}
	if msg.ToolCallID != "" {
		bare, _ := splitMark(msg.ToolCallID)
		b = append(b, `,"tool_call_id":`...)
		b = jsonquote.Append(b, bare)
	}
	return append(b, '}')
}

// appendCalls writes a round's tool calls, with what the endpoint wants back with them.
func (m *Model) appendCalls(b []byte, calls []model.ToolCall) []byte {
	for i, c := range calls {
		kept, id := m.echoes.get(c.ID)
		if i == 0 {
			if kept.reasoning != "" || m.quirks.reasoning.Load() {
				b = append(b, `,"reasoning_content":`...)
				b = jsonquote.Append(b, kept.reasoning)
			}
			b = append(b, `,"tool_calls":[`...)
		} else {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = jsonquote.Append(b, id)
		switch {
		case kept.extra != nil:
			b = append(b, `,"extra_content":`...)
			b = append(b, kept.extra...)
		case i == 0 && m.quirks.signature.Load():
			b = append(b, `,"extra_content":`+noSignature...)
		}
		b = append(b, `,"type":"function","function":{"name":`...)
		b = jsonquote.Append(b, c.Name)
		args := c.Arguments
		if args == "" {
			args = "{}"
		}
		b = append(b, `,"arguments":`...)
		b = jsonquote.Append(b, args)
		b = append(b, "}}"...)
	}
	return append(b, ']')
}

// appendParts writes a message with pictures: its text first.
func appendParts(b []byte, m *model.Message) []byte {
	b = append(b, '[')
	if m.Text != "" {
		b = append(b, `{"type":"text","text":`...)
		b = jsonquote.Append(b, m.Text)
		b = append(b, "},"...)
	}
	for i, p := range m.Images {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"type":"image_url","image_url":{"url":`...)
		b = jsonquote.Append(b, p.URL)
		if p.Detail != "" {
			b = append(b, `,"detail":`...)
			b = jsonquote.Append(b, p.Detail)
		}
		b = append(b, "}}"...)
	}
	return append(b, ']')
}

// tailFor gives what follows in r's body: the parameters, and what this request adds to them.
func (m *Model) tailFor(r model.Request) ([]byte, error) {
	metadata := m.cfg.SendMetadata && len(r.Metadata) > 0
	formatted := r.Format.Type != "" && r.Format.Type != "text"
	renamed := m.quirks.completionTokens.Load()
	if len(r.Stop) == 0 && !metadata && !formatted && !renamed {
		if r.Stream {
			return m.streamed, nil
		}
		return m.tail, nil
	}
	p := maps.Clone(m.params)
	var err error
	if len(r.Stop) > 0 {
		if p["stop"], err = json.Marshal(append(slices.Clip(m.cfg.Stop), r.Stop...)); err != nil {
			return nil, err
		}
	}
	if metadata {
		if p["metadata"], err = json.Marshal(r.Metadata); err != nil {
			return nil, err
		}
	}
	if _, set := p["response_format"]; formatted && !set { // extraBody wins
		if p["response_format"], err = format(r.Format); err != nil {
			return nil, err
		}
	}
	if v, set := p["max_tokens"]; set && renamed {
		delete(p, "max_tokens")
		p["max_completion_tokens"] = v
	}
	tail, err := renderTail(p)
	if err != nil || !r.Stream {
		return tail, err
	}
	return streamTail(p, tail), nil
}

func format(f model.ResponseFormat) (json.RawMessage, error) {
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
		out.Schema = &schema{Name: f.Name, Schema: f.Schema, Strict: f.Strict}
	}
	return json.Marshal(out)
}

func streamTail(p map[string]json.RawMessage, tail []byte) []byte {
	if _, ok := p["stream_options"]; ok {
		return tail
	}
	return append(slices.Clip(tail), `,"stream_options":{"include_usage":true}`...)
}
