// Package builtin is the tools that come with agentd: with them any model can ask its caller back, ask for authorization, refuse, give up, hand over
// artifacts, or answer by a message that is no task. A spec offers them (expose.a2a.tools); package run calls them like tools, and what
// they do to the request is the engine's to carry out. They do no I/O.
package builtin

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

// The names.
const (
	AskUser     = "ask_user"
	RequestAuth = "request_auth"
	Reject      = "reject"
	GiveUp      = "give_up"
	Attach      = "attach"
	Reply       = "reply"
)

// Names lists the built-in tools.
func Names() []string { return []string{AskUser, RequestAuth, Reject, GiveUp, Attach, Reply} }

// Tools is the built-in tools; the zero value is ready.
type Tools struct{}

// Specs describes those of the names that exist, in the order of the names, each once.
func (Tools) Specs(names []string) []tool.Spec {
	var out []tool.Spec
	for i, name := range names {
		if d, ok := describe(name); ok && !slices.Contains(names[:i], name) {
			out = append(out, tool.Spec{Name: name, Tool: name, Description: d.says, Schema: json.RawMessage(d.schema)})
		}
	}
	return out
}

// Call performs a call. Its error is a *tool.ArgumentsError for arguments that don't fit, or of kind NotFound for an unknown name.
func (Tools) Call(name string, args json.RawMessage) (engine.ToolResult, error) {
	if name == Attach {
		return attach(args)
	}
	d, ok := describe(name)
	if !ok {
		return engine.ToolResult{}, errs.New(errs.NotFound, "there is no built-in tool %q", name)
	}
	var in map[string]any
	if err := json.Unmarshal(args, &in); err != nil {
		return engine.ToolResult{}, &tool.ArgumentsError{Message: "they are no JSON object"}
	}
	text, ok := in[d.field].(string)
	if !ok || strings.TrimSpace(text) == "" {
		return engine.ToolResult{}, &tool.ArgumentsError{Message: d.field + ": a text is required"}
	}
	return engine.ToolResult{Text: "ok", Outcome: &engine.Outcome{Kind: d.kind, Text: text}}, nil
}

type description struct {
	says   string
	schema string
	field  string // the text of the outcome
	kind   engine.OutcomeKind
}

// textSchema is the schema of a tool with one text.
func textSchema(field, says string) string {
	return `{"type":"object","properties":{"` + field + `":{"type":"string","description":"` + says + `"}},"required":["` + field + `"],"additionalProperties":false}`
}

func describe(name string) (description, bool) {
	switch name {
	case AskUser:
		return description{
			says:   "Ask the caller a question without whose answer the request can't go on. The answer is this call's result.",
			schema: textSchema("question", "The question, whole and clear by itself."), field: "question", kind: engine.InputRequired,
		}, true
	case RequestAuth:
		return description{
			says:   "Tell the caller which authorization is needed before the request can go on, and how to grant it. What the caller says to it is this call's result.",
			schema: textSchema("message", "What has to be authorized, by whom, and where."), field: "message", kind: engine.AuthRequired,
		}, true
	case Reject:
		return description{
			says:   "Refuse the request: it is not one that this agent takes on. Nothing follows.",
			schema: textSchema("reason", "Why, for the caller."), field: "reason", kind: engine.Rejected,
		}, true
	case GiveUp:
		return description{
			says:   "End the request as failed: it was tried and can't be done. Nothing follows.",
			schema: textSchema("reason", "What failed, for the caller."), field: "reason", kind: engine.GivenUp,
		}, true
	case Reply:
		return description{
			says:   "Answer by one short message, where the request needs no work to be tracked. Nothing follows.",
			schema: textSchema("text", "The message."), field: "text", kind: engine.Reply,
		}, true
	case Attach:
		return description{
			says: "Hand the caller a result as an artifact: exactly one of text, data, base64 and url. A large one can come in pieces: the same artifactId with append.",
			schema: `{"type":"object","properties":{` +
				`"name":{"type":"string","description":"A short name for people."},` +
				`"description":{"type":"string"},` +
				`"artifactId":{"type":"string","description":"Needed for pieces: the same for all of them."},` +
				`"text":{"type":"string"},` +
				`"data":{"description":"Any JSON value."},` +
				`"base64":{"type":"string","description":"The bytes of a file."},` +
				`"url":{"type":"string","description":"Where a file is, http or https."},` +
				`"mediaType":{"type":"string","description":"Such as text/plain."},` +
				`"filename":{"type":"string"},` +
				`"append":{"type":"boolean","description":"This piece follows what was attached under the artifactId."},` +
				`"last":{"type":"boolean","description":"No more pieces follow; default true unless append or artifactId is given."}},` +
				`"additionalProperties":false}`,
		}, true
	default:
		return description{}, false
	}
}

func attach(args json.RawMessage) (engine.ToolResult, error) {
	var in struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		ArtifactID  string          `json:"artifactId"`
		Text        *string         `json:"text"`
		Data        json.RawMessage `json:"data"`
		Base64      *string         `json:"base64"`
		URL         *string         `json:"url"`
		MediaType   string          `json:"mediaType"`
		Filename    string          `json:"filename"`
		Append      bool            `json:"append"`
		Last        *bool           `json:"last"`
	}
	if err := json.Unmarshal(args, &in); err != nil {
		return engine.ToolResult{}, &tool.ArgumentsError{Message: err.Error()}
	}
	part := engine.Part{MediaType: in.MediaType, Filename: in.Filename}
	kinds := 0
	if in.Text != nil {
		part.Text = *in.Text
		kinds++
	}
	if in.Data != nil {
		part.Data = in.Data
		kinds++
	}
	if in.Base64 != nil {
		b, err := base64.StdEncoding.DecodeString(*in.Base64)
		if err != nil {
			return engine.ToolResult{}, &tool.ArgumentsError{Message: "base64: " + err.Error()}
		}
		part.Bytes = b
		if part.Bytes == nil {
			part.Bytes = []byte{}
		}
		kinds++
	}
	if in.URL != nil {
		u, err := url.Parse(*in.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return engine.ToolResult{}, &tool.ArgumentsError{Message: "url: want an absolute http or https URL"}
		}
		part.URL = *in.URL
		kinds++
	}
	switch {
	case kinds != 1:
		return engine.ToolResult{}, &tool.ArgumentsError{Message: "exactly one of text, data, base64 and url is required"}
	case in.Append && in.ArtifactID == "":
		return engine.ToolResult{}, &tool.ArgumentsError{Message: "artifactId: append needs the id of what it follows"}
	}
	last := !in.Append && in.ArtifactID == ""
	if in.Last != nil {
		last = *in.Last
	}
	a := engine.Artifact{ID: in.ArtifactID, Name: in.Name, Description: in.Description, Parts: []engine.Part{part}, Append: in.Append, Last: last}
	return engine.ToolResult{Text: "attached", Artifacts: []engine.Artifact{a}}, nil
}
