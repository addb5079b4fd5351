package restdoor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
)

// maxSession bounds a session id, in bytes.
const maxSession = 256

// inputError is a fault of the request, with its status.
type inputError struct {
	status int
	Fault
}

func bad(field, format string, args ...any) *inputError {
	return &inputError{http.StatusBadRequest, Fault{Code: run.CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...)}}
}

// messageRequest is the body of POST /api/v1/sessions/{id}/messages. A field that it doesn't have is an error: what would be ignored was
// meant to count.
type messageRequest struct {
	Message  *text             `json:"message"`
	Messages []message         `json:"messages"`
	Private  bool              `json:"private"`
	Metadata map[string]string `json:"metadata"`
	Stop     texts             `json:"stop"`
	Format   *format           `json:"format"`
}

type message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Images  []image `json:"images"`
}

type image struct {
	URL    string `json:"url"`
	Detail string `json:"detail"`
}

type format struct {
	Type   string          `json:"type"`
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Strict *bool           `json:"strict"`
}

// text is a string, or a message of the user's without its role.
type text struct {
	Content string  `json:"content"`
	Images  []image `json:"images"`
}

// UnmarshalJSON reads both.
func (t *text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &t.Content)
	}
	type plain text
	if err := strict(b, (*plain)(t)); err != nil {
		return fmt.Errorf("message: want a text, or content and images: %w", err)
	}
	return nil
}

// texts is a string or an array of them.
type texts []string

// UnmarshalJSON reads both.
func (s *texts) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*s = make(texts, 1)
		return json.Unmarshal(b, &(*s)[0])
	}
	return json.Unmarshal(b, (*[]string)(s))
}

func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON document")
	}
	return nil
}

// body reads a request's JSON document.
func (d *Door) body(w http.ResponseWriter, r *http.Request, into any) *inputError {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		e := bad("", "a body in Content-Encoding %q is not accepted: send it plain", coding)
		e.status = http.StatusUnsupportedMediaType
		return e
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		e := bad("", "the body must be application/json, and Content-Type must say so")
		e.status = http.StatusUnsupportedMediaType
		return e
	}
	b, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		e := bad("", "the request is larger than %d bytes", large.Limit)
		e.status, e.Code = http.StatusRequestEntityTooLarge, front.CodeTooLarge
		return e
	case errors.Is(err, os.ErrDeadlineExceeded):
		e := bad("", "the request's body took longer than %s to come", d.cfg.BodyTimeout)
		e.status = http.StatusRequestTimeout
		w.Header().Set("Connection", "close")
		return e
	case err != nil:
		return bad("", "the request's body could not be read")
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // the answer may take as long as it takes, and who goes away is noticed
	if err := strict(b, into); err != nil {
		return bad("", "the request is not what the API expects (see /openapi.json): %v", err)
	}
	return nil
}

// session reads the session's id off the path.
func session(r *http.Request) (string, *inputError) {
	id := r.PathValue("id")
	switch {
	case len(id) > maxSession:
		return "", bad("id", "the session id is longer than %d bytes", maxSession)
	case id == "" || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl):
		return "", bad("id", "the session id must be a text of 1 to %d bytes without control characters", maxSession)
	}
	return id, nil
}

// request makes a run.Request of a message.
func (d *Door) request(w http.ResponseWriter, r *http.Request) (run.Request, *inputError) {
	req := run.Request{Door: run.DoorREST, Principal: front.CallerOf(r.Context()).Principal}
	var e *inputError
	if req.Session, e = session(r); e != nil {
		return req, e
	}
	var in messageRequest
	if e := d.body(w, r, &in); e != nil {
		return req, e
	}
	req.Stream = wantsEvents(r)
	req.Steps = req.Stream
	req.Private, req.Metadata, req.Stop = in.Private, in.Metadata, in.Stop
	return req, in.fill(&req)
}

func (in *messageRequest) fill(req *run.Request) *inputError {
	switch {
	case in.Message != nil && in.Messages != nil:
		return bad("message", "give message or messages, not both")
	case in.Message != nil:
		in.Messages = []message{{Role: string(engine.User), Content: in.Message.Content, Images: in.Message.Images}}
	case len(in.Messages) == 0:
		return bad("message", "message: is missing (a text, or messages)")
	}
	for i, m := range in.Messages {
		field := "message"
		if in.Message == nil {
			field = fmt.Sprintf("messages[%d]", i)
		}
		out := engine.Message{Role: engine.Role(m.Role), Text: m.Content}
		switch out.Role {
		case engine.User, engine.System, engine.Assistant:
		default:
			return bad(field+".role", "%s.role: %q (user, system or assistant)", field, m.Role)
		}
		if len(m.Images) > 0 && out.Role != engine.User {
			return bad(field+".images", "%s.images: only a user's message may have them", field)
		}
		if out.Text == "" && len(m.Images) == 0 && out.Role != engine.Assistant {
			return bad(field+".content", "%s.content: is empty", field)
		}
		for k, img := range m.Images {
			if e := img.check(fmt.Sprintf("%s.images[%d]", field, k)); e != nil {
				return e
			}
			out.Images = append(out.Images, engine.Image(img))
		}
		req.Messages = append(req.Messages, out)
	}
	if engine.Role(in.Messages[len(in.Messages)-1].Role) == engine.Assistant {
		return bad("messages", "messages: no message to answer: the last one is the assistant's own (end with a user's)")
	}
	return in.fillFormat(req)
}

func (img image) check(field string) *inputError {
	switch {
	case !strings.HasPrefix(img.URL, "https://") && !strings.HasPrefix(img.URL, "http://") && !strings.HasPrefix(img.URL, "data:image/"):
		return bad(field+".url", "%s.url: must begin with https://, http:// or data:image/", field)
	case img.Detail != "" && img.Detail != "auto" && img.Detail != "low" && img.Detail != "high":
		return bad(field+".detail", "%s.detail: %q (auto, low or high)", field, img.Detail)
	}
	return nil
}

func (in *messageRequest) fillFormat(req *run.Request) *inputError {
	f := in.Format
	if f == nil {
		return nil
	}
	switch f.Type {
	case "text", "json_object":
		if f.Schema != nil {
			return bad("format.schema", "format.schema: only type json_schema has one")
		}
	case "json_schema":
		if len(f.Schema) == 0 || f.Schema[0] != '{' {
			return bad("format.schema", "format.schema: must be a JSON Schema, an object")
		}
	default:
		return bad("format.type", "format.type: %q (text, json_object or json_schema)", f.Type)
	}
	if f.Name == "" {
		f.Name = "answer"
	}
	req.Format = model.ResponseFormat{Type: f.Type, Name: f.Name, Schema: f.Schema, Strict: f.Strict}
	return nil
}

// wantsEvents reports whether the caller asked for server-sent events.
func wantsEvents(r *http.Request) bool {
	for _, accept := range r.Header.Values("Accept") {
		for one := range strings.SplitSeq(accept, ",") {
			if kind, params, err := mime.ParseMediaType(one); err == nil && kind == "text/event-stream" && params["q"] != "0" {
				return true
			}
		}
	}
	return false
}
