package openaimodel

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
)

// refusal is a server's own word for what is wrong: the text of an error answer, or the error object in a stream.
type refusal struct {
	status  int // 0: in an answer that began well
	Message string
	Type    string
	Code    string // some write a number
}

func (e *refusal) Error() string { return e.Message }

// said reports whether there is anything in it: some servers send an empty error with every chunk.
func (e *refusal) said() bool { return e != nil && e.Message+e.Type+e.Code != "" }

// UnmarshalJSON reads an error object as servers write it: message as a text or several, code as a text or a number. Some send a bare text.
func (e *refusal) UnmarshalJSON(b []byte) error {
	var in struct {
		Message json.RawMessage `json:"message"`
		Type    json.RawMessage `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &e.Message)
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	e.Message, e.Type, e.Code = word(in.Message), word(in.Type), word(in.Code)
	return nil
}

// word gives a JSON value as text.
func word(raw json.RawMessage) string {
	var s string
	var many []string
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return ""
	case json.Unmarshal(raw, &s) == nil:
		return s
	case json.Unmarshal(raw, &many) == nil:
		return strings.Join(many, ", ")
	default:
		return string(raw)
	}
}

// refusalOf reads the body of an error answer; one without an error object speaks for itself.
func refusalOf(status int, raw []byte) *refusal {
	var in struct {
		Error   *refusal        `json:"error"`
		Message json.RawMessage `json:"message"`
		Detail  json.RawMessage `json:"detail"`
		Type    json.RawMessage `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	body := bytes.TrimSpace(raw)
	if len(body) > 1 && body[0] == '[' { // Gemini puts its error into a list
		body = body[1 : len(body)-1]
	}
	if json.Unmarshal(body, &in) != nil {
		return &refusal{status: status, Message: string(raw)}
	}
	said := in.Error
	if !said.said() { // the fields stand in the body itself, or FastAPI speaks
		said = &refusal{Message: cmp.Or(word(in.Message), word(in.Detail)), Type: word(in.Type), Code: word(in.Code)}
	}
	if said.Message == "" {
		said.Message = string(raw)
	}
	said.status = status
	return said
}
