package mcpdoor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
)

// maxSession bounds a session id, in bytes.
const maxSession = 256

const inputSchema = `{"type":"object","additionalProperties":false,"required":["message"],"properties":{` +
	`"message":{"type":"string","minLength":1,"description":"What to say to the agent."},` +
	`"session_id":{"type":"string","minLength":1,"maxLength":256,"description":"Go on with this conversation: the session_id of an earlier result. Without one a new conversation begins."},` +
	`"private":{"type":"boolean","description":"Don't remember this exchange."}}}`

const outputSchema = `{"type":"object","required":["session_id","text","state","config"],"properties":{` +
	`"session_id":{"type":"string","description":"Give it again to go on with the conversation."},` +
	`"text":{"type":"string"},` +
	`"state":{"type":"string","enum":["answered","waiting"],"description":"waiting: the run is suspended, pending says for what."},` +
	`"finish_reason":{"type":"string"},` +
	`"config":{"type":"string","description":"The agent's config that answered."},` +
	`"usage":{"type":"object","properties":{"input_tokens":{"type":"integer"},"output_tokens":{"type":"integer"},"cost_usd":{"type":"number"}}},` +
	`"stateless":{"type":"boolean","description":"The memory is gone: answered without the conversation, and not remembered."},` +
	`"pending":{"type":"object","required":["id","kind","expires_at"],"properties":{"id":{"type":"string"},"kind":{"type":"string"},"question":{"type":"string"},"expires_at":{"type":"string"},` +
	`"calls":{"type":"array","items":{"type":"object","properties":{"tool":{"type":"string"},"arguments":{},"why":{"type":"string"},"needs_approval":{"type":"boolean"}}}}}}}}`

// known is what the door knows of a request beside what mcp-go is given.
type known struct {
	face      run.Face
	principal string
	accepts   bool
	out       *bounded
	ctx       context.Context //nolint:containedctx // of the call: it ends when the call is cancelled by name
	args      arguments
	fault     string // of the arguments
}

type knownKey struct{}

// arguments are the tool's.
type arguments struct {
	Message string `json:"message"`
	Session string `json:"session_id"`
	Private bool   `json:"private"`
}

// take reads a tool call's arguments and gives the message without them: mcp-go would read them as anything, many times.
func (k *known) take(in envelope) ([]byte, *badRequest) {
	var p callParams
	if err := json.Unmarshal(in.Params, &p); err != nil {
		return nil, &badRequest{http.StatusBadRequest, mcp.INVALID_PARAMS, "params: must be an object with name and arguments"}
	}
	if len(p.Meta) > maxSmall {
		return nil, &badRequest{http.StatusRequestEntityTooLarge, mcp.INVALID_PARAMS, fmt.Sprintf("params._meta: larger than %d bytes", maxSmall)}
	}
	k.fault = k.args.read(p.Arguments)
	type params struct {
		Name      string          `json:"name"`
		Arguments struct{}        `json:"arguments"`
		Meta      json.RawMessage `json:"_meta,omitempty"`
	}
	b, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Method  string          `json:"method"`
		Params  params          `json:"params"`
	}{in.Version, in.ID, in.Method, params{Name: p.Name, Meta: p.Meta}})
	if err != nil {
		return nil, &badRequest{http.StatusBadRequest, mcp.INVALID_PARAMS, "params: can't be read"}
	}
	return b, nil
}

// read gives what is wrong with the arguments.
func (a *arguments) read(raw json.RawMessage) string {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(a); err != nil {
		return "arguments: want message, and if you like session_id and private: " + strings.TrimPrefix(err.Error(), "json: ")
	}
	switch {
	case strings.TrimSpace(a.Message) == "":
		return "message: is missing or empty"
	case len(a.Session) > maxSession || strings.ContainsFunc(a.Session, unicode.IsControl):
		return fmt.Sprintf("session_id: must be at most %d bytes, without control characters", maxSession)
	}
	return ""
}

// tools gives the tool as the serving config describes it.
func (d *Door) tools(ctx context.Context, tools []mcp.Tool) []mcp.Tool {
	k, ok := ctx.Value(knownKey{}).(*known)
	if !ok {
		return nil
	}
	out := make([]mcp.Tool, len(tools))
	for i, t := range tools {
		about := k.face.A2A
		t.Title = about.DisplayName
		t.Description = about.Description
		if t.Description == "" {
			t.Description = "Ask the agent " + d.cfg.Agent + "."
		}
		t.Description += " Give session_id of a result to go on with its conversation."
		t.RawOutputSchema = json.RawMessage(outputSchema)
		out[i] = t
	}
	return out
}

// call asks the agent. What goes wrong in the run is a result that says so: the model behind the client can act on it.
func (d *Door) call(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	k, ok := ctx.Value(knownKey{}).(*known)
	if !ok {
		return nil, errors.New("mcp door: a call that did not come through it")
	}
	if k.fault != "" {
		return failed(run.CodeInvalid, k.fault), nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.ctx, cancel)()
	session := k.args.Session
	if session == "" {
		session = "mcp-" + strings.ToLower(rand.Text())
	}
	p := k.progress(ctx, r.Params.Meta)
	turn, err := d.cfg.Runner.Start(ctx, run.Request{
		Door: run.DoorMCP, Principal: k.principal, Session: session, Messages: []engine.Message{{Role: engine.User, Text: k.args.Message}},
		Private: k.args.Private, Stream: p != nil, Steps: p != nil,
	})
	if err != nil {
		return ofError(err), nil
	}
	res, err := turn.Do(ctx, p.delta)
	if err != nil {
		return ofError(err), nil
	}
	return answered(session, turn, res), nil
}

func failed(code, message string) *mcp.CallToolResult {
	out := mcp.NewToolResultError(message)
	out.Meta = &mcp.Meta{AdditionalFields: map[string]any{"agentry/code": code}}
	return out
}

func ofError(err error) *mcp.CallToolResult {
	var e *run.Error
	if !errors.As(err, &e) {
		return failed(run.CodePanic, err.Error())
	}
	out := failed(e.Code, e.Message)
	if e.Pending != "" {
		out.Meta.AdditionalFields["agentry/pending"] = e.Pending
	}
	return out
}

// result is the structured form of an answer.
type result struct {
	Session      string    `json:"session_id"`
	Text         string    `json:"text"`
	State        string    `json:"state"`
	FinishReason string    `json:"finish_reason,omitempty"`
	Config       string    `json:"config"`
	Usage        usage     `json:"usage"`
	Stateless    bool      `json:"stateless,omitempty"`
	Pending      *waitsFor `json:"pending,omitempty"`
}

type usage struct {
	Input   int64   `json:"input_tokens"`
	Output  int64   `json:"output_tokens"`
	CostUSD float64 `json:"cost_usd,omitempty"`
}

type waitsFor struct {
	ID        string        `json:"id"`
	Kind      string        `json:"kind"`
	Question  string        `json:"question,omitempty"`
	Calls     []pendingCall `json:"calls,omitempty"`
	ExpiresAt string        `json:"expires_at"`
}

type pendingCall struct {
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
	Why       string          `json:"why,omitempty"`
	Needs     bool            `json:"needs_approval"`
}

func answered(session string, t *run.Turn, res engine.Result) *mcp.CallToolResult {
	out := result{
		Session: session, Text: res.Text, State: "answered", FinishReason: res.FinishReason, Config: t.Config,
		Usage: usage{res.Usage.Input, res.Usage.Output, res.Usage.CostUSD}, Stateless: t.Stateless,
	}
	text := res.Text
	if p := t.Pending; p != nil {
		out.State, out.FinishReason = "waiting", ""
		out.Pending = waiting(p)
		text = strings.TrimSpace(text + "\n\n" + out.Pending.String(session))
	}
	return &mcp.CallToolResult{Content: []mcp.Content{mcp.NewTextContent(text)}, StructuredContent: out}
}

func waiting(p *pending.Run) *waitsFor {
	w := &waitsFor{ID: p.ID, Kind: string(p.Kind), Question: p.Question, ExpiresAt: p.ExpiresAt.UTC().Format(time.RFC3339)}
	for _, c := range p.Calls {
		args := c.Arguments
		if !json.Valid(args) { // as the model wrote it
			args, _ = json.Marshal(string(args)) //nolint:errchkjson // a text
		}
		w.Calls = append(w.Calls, pendingCall{c.Tool, args, c.Why, c.Needs})
	}
	return w
}

// String says what is waited for and how it goes on.
func (w *waitsFor) String(session string) string {
	var calls []string
	for _, c := range w.Calls {
		if c.Needs {
			calls = append(calls, c.Tool+" "+string(c.Arguments))
		}
	}
	what := w.Question
	if len(calls) > 0 {
		what = "a person's consent to " + strings.Join(calls, ", ")
	}
	return fmt.Sprintf("The agent waits for %s (until %s). An approver decides: agentctl approvals approve %s, or deny. Ask again with session_id %s after that.", what, w.ExpiresAt, w.ID, session)
}
