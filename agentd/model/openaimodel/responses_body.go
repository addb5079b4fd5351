package openaimodel

import (
	"encoding/json"
	"maps"
	"strconv"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/jsonquote"
)

// includeReasoning asks for reasoning in a form that can be given back: nothing is stored at the endpoint.
const includeReasoning = `["reasoning.encrypted_content"]`

// renderResponses gives the body of a request to the Responses API. It is put together by hand like render's. A stop sequence of the
// request is refused, as the API has none: an answer that goes past it would be another one than was asked for.
func (m *Model) renderResponses(r model.Request) ([]byte, error) {
	if len(r.Stop) > 0 {
		return nil, &unsentError{"stop: the responses API knows no stop sequences; leave it out, or set the model's api to chat-completions"}
	}
	tail, err := m.responsesTail(r)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(m.head)+len(tail)+sizeOf(r)+64*len(r.Messages))
	b = append(b, m.head...) // {"model":NAME,"input":[
	began := len(b)
	for i := range r.Messages {
		b = m.appendItems(b, &r.Messages[i])
	}
	if len(b) > began {
		b = b[:len(b)-1] // every item has a comma behind it
	}
	b = append(b, ']')
	// Chat completions aren't strict by saying nothing; here nothing means strict.
	b = appendTools(b, r.Tools, `{"type":"function",`, `,"strict":false}`)
	b = append(b, `,"stream":`...)
	b = strconv.AppendBool(b, r.Stream)
	b = append(b, tail...)
	return append(b, '}'), nil
}

// unsentError is a request that isn't sent, as the endpoint couldn't honour it.
type unsentError struct{ text string }

func (e *unsentError) Error() string { return e.text }

// appendItems writes a message as input items, each with a comma behind it.
func (m *Model) appendItems(b []byte, msg *model.Message) []byte {
	if msg.Role == model.Tool {
		bare, _ := splitMark(msg.ToolCallID)
		b = append(b, `{"type":"function_call_output","call_id":`...)
		b = jsonquote.Append(b, bare)
		b = append(b, `,"output":`...)
		b = jsonquote.Append(b, msg.Text)
		return append(b, "},"...)
	}
	if len(msg.ToolCalls) > 0 {
		kept, _ := m.itemsOf(msg.ToolCalls[0].ID)
		b = append(b, kept.lead...)
	}
	if msg.Text != "" || len(msg.ToolCalls) == 0 {
		b = append(b, `{"type":"message","role":"`...)
		b = append(b, msg.Role...) // one of ours: nothing to escape
		b = append(b, `","content":[`...)
		b = appendInput(b, msg)
		b = append(b, "]},"...)
	}
	for _, c := range msg.ToolCalls {
		kept, id := m.itemsOf(c.ID)
		b = append(b, kept.items...)
		b = append(b, `{"type":"function_call","call_id":`...)
		b = jsonquote.Append(b, id)
		b = append(b, `,"name":`...)
		b = jsonquote.Append(b, c.Name)
		args := c.Arguments
		if args == "" {
			args = "{}"
		}
		b = append(b, `,"arguments":`...)
		b = jsonquote.Append(b, args)
		b = append(b, "},"...)
	}
	return b
}

// itemsOf gives what belongs to a call, and its id as the endpoint knows it. Another model's reasoning is not given back, nor is any to an
// endpoint that refused it.
func (m *Model) itemsOf(id string) (echo, string) {
	kept, bare := m.echoes.get(id)
	if kept.model != m.cfg.Model || m.quirks.plain.Load() {
		kept = echo{}
	}
	return kept, bare
}

// appendInput writes a message's content: its text first, then its pictures.
func appendInput(b []byte, msg *model.Message) []byte {
	if msg.Text != "" || len(msg.Images) == 0 {
		kind := `{"type":"input_text","text":`
		if msg.Role == model.Assistant {
			kind = `{"type":"output_text","text":`
		}
		b = append(b, kind...)
		b = jsonquote.Append(b, msg.Text)
		b = append(b, '}')
	}
	for i, p := range msg.Images {
		if i > 0 || msg.Text != "" {
			b = append(b, ',')
		}
		b = append(b, `{"type":"input_image","image_url":`...)
		b = jsonquote.Append(b, p.URL)
		detail := p.Detail
		if detail == "" {
			detail = "auto"
		}
		b = append(b, `,"detail":`...)
		b = jsonquote.Append(b, detail)
		b = append(b, '}')
	}
	return b
}

// responsesTail gives what follows in r's body: the parameters, and what this request adds to them.
func (m *Model) responsesTail(r model.Request) ([]byte, error) {
	metadata := m.cfg.SendMetadata && len(r.Metadata) > 0
	formatted := r.Format.Type != "" && r.Format.Type != "text"
	plain := m.quirks.plain.Load() && string(m.params["include"]) == includeReasoning
	if !metadata && !formatted && !plain {
		return m.tail, nil
	}
	p := maps.Clone(m.params)
	var err error
	if plain {
		delete(p, "include")
	}
	if metadata {
		if p["metadata"], err = json.Marshal(r.Metadata); err != nil {
			return nil, err
		}
	}
	if formatted {
		if p["text"], err = textFormat(p["text"], r.Format); err != nil {
			return nil, err
		}
	}
	return renderTail(p)
}

// textFormat adds a format to the field text, which extraBody may hold: a format there, or null for the field, wins.
func textFormat(given json.RawMessage, f model.ResponseFormat) (json.RawMessage, error) {
	text := map[string]json.RawMessage{}
	if len(given) > 0 {
		if err := json.Unmarshal(given, &text); err != nil {
			return nil, errs.New(errs.Invalid, "extraBody: text: want an object: %w", err)
		}
		if text == nil || text["format"] != nil {
			return given, nil
		}
	}
	out := struct {
		Type   string          `json:"type"`
		Name   string          `json:"name,omitempty"`
		Schema json.RawMessage `json:"schema,omitempty"`
		Strict *bool           `json:"strict,omitempty"`
	}{Type: f.Type}
	if f.Type == "json_schema" {
		out.Name, out.Schema, out.Strict = f.Name, f.Schema, f.Strict
	}
	var err error
	if text["format"], err = json.Marshal(out); err != nil {
		return nil, err
	}
	return json.Marshal(text)
}
