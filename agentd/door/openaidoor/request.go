package openaidoor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/run"
)

// maxSession bounds a session id, in bytes.
const maxSession = 256

// chatRequest is what counts of a request. Other fields are ignored as OpenAI does; temperature and the other parameters of
// the model too, for they are the agent's, by its spec.
type chatRequest struct {
	Messages      []message `json:"messages"`
	Stream        bool      `json:"stream"`
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Stop           stop                       `json:"stop"`
	N              *int                       `json:"n"`
	Metadata       map[string]json.RawMessage `json:"metadata"`
	Tools          []json.RawMessage          `json:"tools"`
	Functions      []json.RawMessage          `json:"functions"`
	ResponseFormat *struct {
		Type string `json:"type"`
	} `json:"response_format"`
}

type message struct {
	Role    string  `json:"role"`
	Content content `json:"content"`
}

// content is a string, text parts, or null.
type content struct {
	text  string
	given bool   // it is there, and not null
	other string // the type of a part that is not text
}

// UnmarshalJSON reads all three.
func (c *content) UnmarshalJSON(b []byte) error {
	switch {
	case string(b) == "null":
		return nil
	case len(b) > 0 && b[0] == '"':
		c.given = true
		return json.Unmarshal(b, &c.text)
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &parts); err != nil {
		return errors.New("want a string or an array of text parts")
	}
	var text strings.Builder
	for _, p := range parts {
		switch p.Type {
		case "text", "input_text", "output_text", "":
			text.WriteString(p.Text)
		default:
			c.other = p.Type
		}
	}
	c.text, c.given = text.String(), true
	return nil
}

// stop is a string or an array of them.
type stop []string

// UnmarshalJSON reads both.
func (s *stop) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*s = make(stop, 1)
		return json.Unmarshal(b, &(*s)[0])
	}
	return json.Unmarshal(b, (*[]string)(s))
}

// inputError is an input fault with the field it is about.
type inputError struct {
	status int
	wireError
}

func (b *inputError) Error() string { return b.Message }

func bad(param, format string, args ...any) *inputError {
	return &inputError{http.StatusBadRequest, wireError{Message: fmt.Sprintf(format, args...), Type: typeInvalid, Param: param, Code: run.CodeInvalid}}
}

// read makes a run.Request of an HTTP request.
func (d *Door) read(w http.ResponseWriter, r *http.Request) (run.Request, *chatRequest, *inputError) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		b := bad("", "a body in Content-Encoding %q is not accepted: send it plain", coding)
		b.status = http.StatusUnsupportedMediaType
		return run.Request{}, nil, b
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.cfg.MaxBody))
	if err == nil { // the answer may take as long as it takes, and who goes away is still noticed
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		b := bad("", "the request's body took longer than %s to come", d.cfg.BodyTimeout)
		b.status = http.StatusRequestTimeout
		w.Header().Set("Connection", "close")
		return run.Request{}, nil, b
	}
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			b := bad("", "the request is larger than %d bytes", d.cfg.MaxBody)
			b.status = http.StatusRequestEntityTooLarge
			return run.Request{}, nil, b
		}
		return run.Request{}, nil, bad("", "the request's body could not be read")
	}
	var c chatRequest
	if err := json.Unmarshal(body, &c); err != nil {
		return run.Request{}, nil, bad("", "the request is not what the API expects: %v", err)
	}
	req := run.Request{Door: run.DoorOpenAI, Principal: principal(r), Stream: c.Stream, Stop: c.Stop}
	if b := c.check(); b != nil {
		return req, nil, b
	}
	if b := c.fill(r, &req); b != nil {
		return req, nil, b
	}
	return req, &c, nil
}

func (c *chatRequest) check() *inputError {
	switch {
	case len(c.Tools) > 0:
		return bad("tools", "tools are not accepted: the agent calls its own tools, by its spec")
	case len(c.Functions) > 0:
		return bad("functions", "functions are not accepted: the agent calls its own tools, by its spec")
	case c.N != nil && *c.N != 1:
		return bad("n", "n must be 1")
	case c.ResponseFormat != nil && c.ResponseFormat.Type != "" && c.ResponseFormat.Type != "text":
		return bad("response_format", "response_format %q is not supported yet (text)", c.ResponseFormat.Type)
	case len(c.Messages) == 0:
		return bad("messages", "messages: at least one is needed")
	case c.Messages[len(c.Messages)-1].Role == string(engine.Assistant):
		return bad("messages", "messages: no message to answer: the last one is the assistant's own (end with a user's)")
	}
	return nil
}

func (c *chatRequest) fill(r *http.Request, req *run.Request) *inputError {
	req.Messages = make([]engine.Message, 0, len(c.Messages))
	for i, m := range c.Messages {
		if m.Content.other != "" {
			return bad(fmt.Sprintf("messages[%d].content", i), "messages[%d].content: a part of type %q is not supported yet (text)", i, m.Content.other)
		}
		role := engine.Role(m.Role)
		switch m.Role {
		case "user", "assistant", "system":
		case "developer":
			role = engine.System
		case "tool", "function":
			return bad(fmt.Sprintf("messages[%d].role", i), "messages[%d].role: %s messages are not accepted: the agent calls its own tools", i, m.Role)
		default:
			return bad(fmt.Sprintf("messages[%d].role", i), "messages[%d].role: %q (system, developer, user or assistant)", i, m.Role)
		}
		if role != engine.Assistant && (!m.Content.given || role == engine.User && m.Content.text == "") {
			return bad(fmt.Sprintf("messages[%d].content", i), "messages[%d].content: is missing (a text, or text parts)", i)
		}
		if m.Content.text == "" {
			if role == engine.Assistant { // it still marks what was answered
				req.Messages = append(req.Messages, engine.Message{Role: role})
			}
			continue
		}
		req.Messages = append(req.Messages, engine.Message{Role: role, Text: m.Content.text})
	}
	for name, raw := range c.Metadata {
		value := string(raw)
		var text string
		if json.Unmarshal(raw, &text) == nil {
			value = text
		}
		if name == "session_id" {
			req.Session = value
			continue
		}
		if req.Metadata == nil {
			req.Metadata = make(map[string]string, len(c.Metadata))
		}
		req.Metadata[name] = value
	}
	if h := r.Header.Get(HeaderSession); h != "" {
		req.Session = h
	}
	if len(req.Session) > maxSession {
		return bad("metadata.session_id", "the session id is longer than %d bytes", maxSession)
	}
	return nil
}

// principal tells callers with different keys apart, so that nobody reads another's session. The key itself is not kept.
func principal(r *http.Request) string {
	auth := r.Header.Get("Authorization")
	if auth == "" {
		return "anonymous"
	}
	sum := sha256.Sum256([]byte(auth))
	return "key-" + hex.EncodeToString(sum[:8])
}
