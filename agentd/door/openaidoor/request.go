package openaidoor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/run"
)

// The bounds of what a request may hold beside its size.
const (
	maxSession = 256 // bytes of a session id
	maxStop    = 4   // stop sequences, as OpenAI has it
)

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
	Logprobs       *bool                      `json:"logprobs"`
	Modalities     []string                   `json:"modalities"`
	Metadata       map[string]json.RawMessage `json:"metadata"`
	Tools          []json.RawMessage          `json:"tools"`
	Functions      []json.RawMessage          `json:"functions"`
	ToolChoice     choiceOfTool               `json:"tool_choice"`
	FunctionCall   choiceOfTool               `json:"function_call"`
	ResponseFormat *responseFormat            `json:"response_format"`
}

// choiceOfTool is "none", "auto", "required", or an object that names one. Only the first two can be kept: the caller has no tools here.
type choiceOfTool struct{ forced bool }

// UnmarshalJSON reads all of them.
func (c *choiceOfTool) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", `"none"`, `"auto"`, `""`:
	default:
		c.forced = true
	}
	return nil
}

// stop is a string, an array of them, or null.
type stop []string

// UnmarshalJSON reads them.
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
	return &inputError{http.StatusBadRequest, wireError{Message: fmt.Sprintf(format, args...), Type: typeInvalid, Param: optional(param), Code: run.CodeInvalid}}
}

// read makes a run.Request of an HTTP request.
func (d *Door) read(w http.ResponseWriter, r *http.Request) (run.Request, *chatRequest, *inputError) {
	body, b := d.body(w, r)
	if b != nil {
		return run.Request{}, nil, b
	}
	c, b := parse(body)
	if b != nil {
		return run.Request{}, nil, b
	}
	req, b := c.request()
	if b != nil {
		return run.Request{}, nil, b
	}
	if h := r.Header.Get(HeaderSession); h != "" {
		req.Session = h
	}
	if len(req.Session) > maxSession {
		return run.Request{}, nil, bad("metadata.session_id", "the session id is longer than %d bytes", maxSession)
	}
	req.Door, req.Principal = run.DoorOpenAI, front.CallerOf(r.Context()).Principal
	return req, c, nil
}

// body reads all of a body that is neither compressed nor too large nor too slow.
func (d *Door) body(w http.ResponseWriter, r *http.Request) ([]byte, *inputError) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		b := bad("", "a body in Content-Encoding %q is not accepted: send it plain", coding)
		b.status = http.StatusUnsupportedMediaType
		return nil, b
	}
	in := r.Body
	if d.cfg.MaxBody > 0 {
		in = http.MaxBytesReader(w, r.Body, d.cfg.MaxBody)
	}
	body, err := io.ReadAll(in)
	if err == nil { // the answer may take as long as it takes, and who goes away is still noticed
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		return body, nil
	}
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		b := bad("", "the request's body took longer than %s to come", d.cfg.BodyTimeout)
		b.status = http.StatusRequestTimeout
		w.Header().Set("Connection", "close")
		return nil, b
	case errors.As(err, &large):
		b := bad("", "the request is larger than %d bytes", large.Limit)
		b.status = http.StatusRequestEntityTooLarge
		return nil, b
	default:
		return nil, bad("", "the request's body could not be read")
	}
}

// parse decodes and judges a request's body.
func parse(body []byte) (*chatRequest, *inputError) {
	var c chatRequest
	if err := json.Unmarshal(body, &c); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) && typed.Field != "" {
			return nil, bad(typed.Field, "%s: a JSON %s is not what the API expects here", typed.Field, typed.Value)
		}
		return nil, bad("", "the request is not what the API expects: %v", err)
	}
	if b := c.check(); b != nil {
		return nil, b
	}
	return &c, nil
}

func (c *chatRequest) check() *inputError {
	const own = "the agent calls its own tools, by its spec"
	switch {
	case len(c.Tools) > 0:
		return bad("tools", "tools are not accepted: %s", own)
	case len(c.Functions) > 0:
		return bad("functions", "functions are not accepted: %s", own)
	case c.ToolChoice.forced:
		return bad("tool_choice", "tool_choice must be none or auto: %s", own)
	case c.FunctionCall.forced:
		return bad("function_call", "function_call must be none or auto: %s", own)
	case c.N != nil && *c.N != 1:
		return bad("n", "n must be 1")
	case c.Logprobs != nil && *c.Logprobs:
		return bad("logprobs", "logprobs are not available: an answer may be made of several model calls")
	case len(c.Stop) > maxStop:
		return bad("stop", "stop: at most %d sequences", maxStop)
	case len(c.Messages) == 0:
		return bad("messages", "messages: at least one is needed")
	case c.Messages[len(c.Messages)-1].Role == string(engine.Assistant):
		return bad("messages", "messages: no message to answer: the last one is the assistant's own (end with a user's)")
	}
	for _, m := range c.Modalities {
		if m != "text" {
			return bad("modalities", "modalities: %q is not available (text)", m)
		}
	}
	return c.ResponseFormat.check()
}

// request makes what the runner needs, but for who asks.
func (c *chatRequest) request() (run.Request, *inputError) {
	req := run.Request{Stream: c.Stream, Stop: c.Stop, Format: c.ResponseFormat.format(), Messages: make([]engine.Message, 0, len(c.Messages))}
	for i, m := range c.Messages {
		out, b := m.read(i)
		if b != nil {
			return req, b
		}
		if out.Role != engine.Assistant && out.Text == "" && len(out.Images) == 0 {
			continue // an empty system message
		}
		req.Messages = append(req.Messages, out)
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
	return req, nil
}
