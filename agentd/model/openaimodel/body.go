package openaimodel

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	openai "github.com/sashabaranov/go-openai"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
)

// placeholder is the model name that the library sees: it refuses some prefixes whatever the endpoint is. The round tripper puts the
// real name in its place. bodyHead is therefore how every body begins.
const (
	placeholder = "agentry"
	bodyHead    = `{"model":"` + placeholder + `",`
)

// parameters renders what the config adds to every request: here, not in the library's struct, because that drops a zero
// temperature and knows no extra fields.
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
	var faults []error
	if cfg.Temperature != nil {
		faults = append(faults, set("temperature", *cfg.Temperature))
	}
	if cfg.TopP != nil {
		faults = append(faults, set("top_p", *cfg.TopP))
	}
	if cfg.MaxTokens != nil {
		faults = append(faults, set("max_tokens", *cfg.MaxTokens))
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
	for _, name := range []string{"model", "messages", "tools", "stream"} {
		if _, ok := extra[name]; ok {
			return nil, errs.New(errs.Invalid, "extraBody: %s belongs to the request", name)
		}
	}
	maps.Copy(p, extra)
	return p, nil
}

// renderTail gives `,"name":value...` in name order.
func renderTail(p map[string]json.RawMessage) ([]byte, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(p)) {
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

// tailFor gives what is spliced into r's body.
func (m *Model) tailFor(r model.Request) ([]byte, error) {
	metadata := m.cfg.SendMetadata && len(r.Metadata) > 0
	if len(r.Stop) == 0 && !metadata {
		if r.Stream {
			return m.streamTail(m.params, m.tail), nil
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
	tail, err := renderTail(p)
	if err != nil || !r.Stream {
		return tail, err
	}
	return m.streamTail(p, tail), nil
}

func (*Model) streamTail(p map[string]json.RawMessage, tail []byte) []byte {
	if _, ok := p["stream_options"]; ok {
		return tail
	}
	return append(slices.Clip(tail), `,"stream_options":{"include_usage":true}`...)
}

// splice puts the real model name and the tail into a body that the library rendered.
func (m *Model) splice(body, tail []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(body, []byte(bodyHead))
	if !ok || len(rest) == 0 || rest[len(rest)-1] != '}' {
		return nil, errs.New(errs.Internal, "the client library renders requests in another way than expected")
	}
	name, err := json.Marshal(m.cfg.Model)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(body)+len(name)+len(tail))
	out = append(out, `{"model":`...)
	out = append(out, name...)
	out = append(out, ',')
	out = append(out, rest[:len(rest)-1]...)
	out = append(out, tail...)
	return append(out, '}'), nil
}

func (m *Model) wire(r model.Request) openai.ChatCompletionRequest {
	req := openai.ChatCompletionRequest{Model: placeholder, Stream: r.Stream, Messages: make([]openai.ChatCompletionMessage, len(r.Messages))}
	for i, msg := range r.Messages {
		w := openai.ChatCompletionMessage{Role: string(msg.Role), Content: msg.Text, ToolCallID: msg.ToolCallID}
		for _, c := range msg.ToolCalls {
			args := c.Arguments
			if args == "" {
				args = "{}"
			}
			w.ToolCalls = append(w.ToolCalls, openai.ToolCall{ID: c.ID, Type: openai.ToolTypeFunction, Function: openai.FunctionCall{Name: c.Name, Arguments: args}})
		}
		req.Messages[i] = w
	}
	for _, t := range r.Tools {
		schema := t.Schema
		if len(schema) == 0 {
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		}
		req.Tools = append(req.Tools, openai.Tool{
			Type:     openai.ToolTypeFunction,
			Function: &openai.FunctionDefinition{Name: t.Name, Description: t.Description, Parameters: schema},
		})
	}
	return req
}
