package mcptool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mark3labs/mcp-go/client/transport"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/tool"
)

// Tool is one tool of a Server. It is immutable; a changed definition is another Tool.
type Tool struct {
	server *Server
	spec   tool.Spec
	digest string
	schema func() *jsonschema.Schema // nil result: not usable, the server judges
}

var _ tool.Tool = (*Tool)(nil)

func newTool(s *Server, d definition) *Tool {
	return &Tool{
		server: s,
		digest: d.digest,
		spec:   tool.Spec{Name: d.name, Server: s.cfg.Name, Tool: d.tool, Description: d.text, Schema: d.schema},
		schema: sync.OnceValue(func() *jsonschema.Schema { return compile(d.schema) }),
	}
}

func byName(a, b tool.Tool) int { return strings.Compare(a.Spec().Name, b.Spec().Name) }

// Spec describes the tool.
func (t *Tool) Spec() tool.Spec { return t.spec }

// Digest identifies the definition, in lower hex: what an approval names.
func (t *Tool) Digest() string { return t.digest }

// Call calls the tool. Arguments that the schema refuses are a *tool.ArgumentsError and are not sent. A failure to reach the server is an
// *Error. What the server says, a refusal too, is a Result.
func (t *Tool) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	if len(bytes.TrimSpace(args)) == 0 {
		args = json.RawMessage("{}")
	}
	if err := t.check(args); err != nil {
		return tool.Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.server.cfg.Timeout)
	defer cancel()
	c := t.server.conn.Load()
	res, x, err := t.try(ctx, c, args)
	if err != nil && again(c, x, err) {
		// Nothing ran: the session was forgotten, the connection was replaced, or the credential was turned down (it may have been
		// rotated since).
		if x.status.Load() != 401 {
			if rerr := t.server.reconnect(ctx, c); rerr != nil {
				return tool.Result{}, rerr
			}
			c = t.server.conn.Load()
		}
		res, x, err = t.try(ctx, c, args)
	}
	switch {
	case err == nil:
		return t.render(res), nil
	case x.rpc:
		return tool.Result{Text: t.server.clip("the server refuses the call: " + x.rpcMessage), IsError: true}, nil
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return tool.Result{}, context.Cause(ctx)
	}
	t.server.look()
	return tool.Result{}, t.server.fault(x.wrap("tools/call "+t.spec.Tool, err))
}

var errDown = errors.New("the server is not connected")

func again(c *conn, x *exchange, err error) bool {
	return c == nil || errors.Is(err, errDown) || errors.Is(err, transport.ErrSessionTerminated) || x.status.Load() == 401
}

func (t *Tool) try(ctx context.Context, c *conn, args json.RawMessage) (*mcp.CallToolResult, *exchange, error) {
	x := &exchange{}
	if c == nil || !c.acquire() {
		return nil, x, errDown
	}
	defer c.release()
	req := mcp.CallToolRequest{Params: mcp.CallToolParams{Name: t.spec.Tool, Arguments: args}}
	carrier := propagation.MapCarrier{}
	t.server.cfg.Propagator.Inject(ctx, carrier)
	if len(carrier) > 0 {
		fields := make(map[string]any, len(carrier))
		for k, v := range carrier {
			fields[k] = v
		}
		req.Params.Meta = &mcp.Meta{AdditionalFields: fields}
	}
	res, err := c.client.CallTool(withExchange(ctx, x), req)
	return res, x, err
}

// check holds args against the schema.
func (t *Tool) check(args json.RawMessage) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(args))
	if err != nil {
		return &tool.ArgumentsError{Message: err.Error()}
	}
	if _, ok := v.(map[string]any); !ok {
		return &tool.ArgumentsError{Message: "want a JSON object"}
	}
	schema := t.schema()
	if schema == nil {
		return nil
	}
	if err := schema.Validate(v); err != nil {
		text := err.Error()
		if _, after, ok := strings.Cut(text, "\n"); ok { // the first line names our resource only
			text = after
		}
		return &tool.ArgumentsError{Message: oneLine(text)}
	}
	return nil
}

// compile makes a schema, reading nothing from outside; nil where that is not possible.
func compile(raw json.RawMessage) *jsonschema.Schema {
	if len(raw) == 0 {
		return nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if c.AddResource("tool.json", doc) != nil {
		return nil
	}
	schema, err := c.Compile("tool.json")
	if err != nil {
		return nil
	}
	return schema
}

type noLoader struct{}

// Load refuses.
func (noLoader) Load(string) (any, error) {
	return nil, errors.New("a schema may not refer outside itself")
}

// render gives a result as text: text parts joined, structured content as JSON, a note for what is neither.
func (t *Tool) render(res *mcp.CallToolResult) tool.Result {
	var parts []string
	for _, c := range res.Content {
		switch c := c.(type) {
		case mcp.TextContent:
			parts = append(parts, c.Text)
		case mcp.ImageContent:
			parts = append(parts, fmt.Sprintf("[image %s, not shown]", c.MIMEType))
		case mcp.AudioContent:
			parts = append(parts, fmt.Sprintf("[audio %s, not shown]", c.MIMEType))
		case mcp.ResourceLink:
			parts = append(parts, c.Name+": "+c.URI)
		case mcp.EmbeddedResource:
			if r, ok := c.Resource.(mcp.TextResourceContents); ok {
				parts = append(parts, r.Text)
			} else {
				parts = append(parts, "[resource, not shown]")
			}
		default:
			parts = append(parts, "[content of an unknown type, not shown]")
		}
	}
	text := strings.Join(parts, "\n")
	if s := structured(res); len(s) > 0 && !json.Valid([]byte(text)) { // a server repeats it as JSON text, as a rule
		if text != "" {
			text += "\n"
		}
		text += string(s)
	}
	return tool.Result{Text: t.server.clip(text), IsError: res.IsError}
}

func structured(res *mcp.CallToolResult) []byte {
	if len(res.RawStructuredContent) > 0 {
		return res.RawStructuredContent
	}
	if res.StructuredContent == nil {
		return nil
	}
	b, err := json.Marshal(res.StructuredContent)
	if err != nil {
		return nil
	}
	return b
}

// clip bounds a result and says so.
func (s *Server) clip(text string) string {
	if len(text) <= s.cfg.MaxResult {
		return text
	}
	return fmt.Sprintf("%s\n[cut: the first %d of %d bytes are shown]", strings.ToValidUTF8(text[:s.cfg.MaxResult], ""), s.cfg.MaxResult, len(text))
}

// Retryable reports whether the supervisor may mend it by itself.
func (e *Error) Retryable() bool { return e.Code.Retryable() }
