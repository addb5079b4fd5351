package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"connectrpc.com/connect"

	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/test/chaos/world"
)

// Specs are the faults of people: what they apply can't be right.
func Specs() []world.Fault { return []world.Fault{badSpecs{}} }

// badNamespace is where bad specs are applied: nothing may ever be in it.
const badNamespace = "bad"

// specWait is how long an answer to one bad spec may take, an election included.
const specWait = 20 * time.Second

// badSpecs applies what must be refused, and checks dry runs of specs with random damage.
type badSpecs struct{}

// Name implements world.Fault.
func (badSpecs) Name() string { return "bad-specs" }

// Needs implements world.Fault.
func (badSpecs) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (badSpecs) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	const damaged = 60
	doors := w.Doors()
	list := curated()
	for _, bad := range list {
		d := doors[r.IntN(len(doors))]
		req := &specv1.ApplyRequest{Namespace: badNamespace, Files: bad.files()}
		err := applied(ctx, d, req)
		if err == nil {
			return world.Injected{}, fmt.Errorf("bad spec %q was accepted at %s", bad.name, d.Node.Name)
		}
		if !plain(err) {
			return world.Injected{}, fmt.Errorf("bad spec %q was answered at %s: %w", bad.name, d.Node.Name, err)
		}
	}
	for range damaged {
		d, files := doors[r.IntN(len(doors))], damage(r)
		req := &specv1.ApplyRequest{Namespace: badNamespace, Files: files, DryRun: true}
		if err := applied(ctx, d, req); err != nil && !plain(err) {
			return world.Injected{}, fmt.Errorf("a damaged spec was answered at %s: %w\n%v", d.Node.Name, err, files)
		}
	}
	for _, kind := range []string{"agent", "prompt", "mcp"} {
		d := doors[r.IntN(len(doors))]
		resp, err := d.Spec.List(world.Linearizable(ctx), connect.NewRequest(&specv1.ListRequest{Namespace: badNamespace, Kind: kind}))
		if err != nil {
			return world.Injected{}, err
		}
		if n := len(resp.Msg.GetObjects()); n > 0 {
			return world.Injected{}, fmt.Errorf("%d objects came of bad specs: %v", n, resp.Msg.GetObjects())
		}
	}
	return world.Injected{
		What:  fmt.Sprintf("applied %d bad specs and %d damaged ones", len(list), damaged),
		Fired: func() (int64, error) { return int64(len(list) + damaged), nil },
	}, nil
}

// applied asks, and again where no replica could answer.
func applied(ctx context.Context, d *world.Door, req *specv1.ApplyRequest) error {
	ctx, cancel := context.WithTimeout(ctx, specWait)
	defer cancel()
	for {
		_, err := d.Spec.Apply(ctx, connect.NewRequest(req))
		if connect.CodeOf(err) != connect.CodeUnavailable || err == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// plain tells whether an answer says that what was asked is wrong, and why.
func plain(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeNotFound, connect.CodeOutOfRange, connect.CodeUnimplemented:
		var answer *connect.Error
		return errors.As(err, &answer) && len(answer.Message()) > 10
	default:
		return false
	}
}

// bad is one spec that must be refused.
type bad struct {
	name string
	file map[string]string // changes of a good set; "": the file is missing
}

// good is a set that would be accepted.
func good() map[string]string {
	return map[string]string{
		"bad/agent-base.json":  `{"promptKey": "bad", "description": "an agent", "maxIterations": 4}`,
		"bad/model.json":       `{"model": "scripted", "temperature": 0.5}`,
		"bad/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "bad-tools", "tools": {"allow": ["one"]}}]}`,
		"prompts/bad.json":     `{"promptKey": "bad", "version": "1.0.0", "template": "be bad to {{who}}", "variables": "who=nobody"}`,
		"mcp/bad-tools.json":   `{"name": "bad-tools", "endpoint": "http://127.0.0.1:1/mcp"}`,
	}
}

func (b bad) files() []*specv1.File {
	set := good()
	for path, text := range b.file {
		if set[path] = text; text == "" {
			delete(set, path)
		}
	}
	return listed(set)
}

func listed(set map[string]string) []*specv1.File {
	var out []*specv1.File
	for path, text := range set {
		out = append(out, &specv1.File{Path: path, Content: []byte(text)})
	}
	return out
}

// curated gives specs that are each wrong in one way.
func curated() []bad {
	agent := func(name, text string) bad { return bad{name, map[string]string{"bad/agent-base.json": text}} }
	model := func(name, text string) bad { return bad{name, map[string]string{"bad/model.json": text}} }
	servers := func(name, text string) bad { return bad{name, map[string]string{"bad/mcp-servers.json": text}} }
	prompt := func(name, text string) bad { return bad{name, map[string]string{"prompts/bad.json": text}} }
	server := func(name, text string) bad { return bad{name, map[string]string{"mcp/bad-tools.json": text}} }
	return []bad{
		agent("no JSON", `{"promptKey": `),
		agent("an array", `[]`),
		agent("null", `null`),
		agent("a number", `7`),
		agent("two values", `{"promptKey": "bad"} {"promptKey": "bad"}`),
		agent("an unknown field", `{"promptKey": "bad", "maxIteration": 4}`),
		agent("a field twice", `{"promptKey": "bad", "promptKey": "worse"}`),
		agent("a wrong type", `{"promptKey": 7}`),
		agent("a negative number", `{"promptKey": "bad", "maxIterations": -1}`),
		agent("a fraction of calls", `{"promptKey": "bad", "maxIterations": 1.5}`),
		agent("more than an int holds", `{"promptKey": "bad", "maxIterations": 99999999999999999999}`),
		agent("a prompt that isn't there", `{"promptKey": "nobody-wrote-this"}`),
		agent("a prompt version that isn't there", `{"promptKey": "bad", "promptVersion": "9.9.9"}`),
		agent("version and label", `{"promptKey": "bad", "promptVersion": "1.0.0", "promptLabel": "latest"}`),
		agent("a name with a slash", `{"promptKey": "../bad"}`),
		agent("an endless name", `{"promptKey": "`+strings.Repeat("x", 5000)+`"}`),
		agent("a zero byte", "{\"promptKey\": \"bad\", \"description\": \"\x00\"}"),
		agent("no UTF-8", "{\"promptKey\": \"bad\", \"description\": \"\xff\xfe\"}"),
		agent("too deep", `{"promptKey": "bad", "labels": `+strings.Repeat(`{"a":`, 3000)+`1`+strings.Repeat(`}`, 3000)+`}`),
		agent("too large", `{"promptKey": "bad", "description": "`+strings.Repeat("x", 2<<20)+`"}`),
		agent("a strategy that isn't one", `{"promptKey": "bad", "release": {"strategy": "sometimes"}}`),
		agent("a duration that isn't one", `{"promptKey": "bad", "limits": {"wallTime": "soon"}}`),
		agent("a negative limit", `{"promptKey": "bad", "limits": {"tokens": -5}}`),
		model("no model", `{"temperature": 0.5}`),
		model("an empty model", `{"model": ""}`),
		model("too hot", `{"model": "scripted", "temperature": 40}`),
		model("too cold", `{"model": "scripted", "temperature": -1}`),
		model("no number", `{"model": "scripted", "temperature": "warm"}`),
		model("an address that isn't one", `{"model": "scripted", "baseUrl": "::not a url::"}`),
		model("a scheme that isn't one", `{"model": "scripted", "baseUrl": "file:///etc/passwd"}`),
		model("an interface that isn't one", `{"model": "scripted", "api": "telepathy"}`),
		model("negative tokens", `{"model": "scripted", "maxTokens": -1}`),
		servers("a server that isn't there", `{"mcpServers": [{"mcpServerName": "nobody-runs-this"}]}`),
		servers("a server twice", `{"mcpServers": [{"mcpServerName": "bad-tools"}, {"mcpServerName": "bad-tools"}]}`),
		servers("a server without a name", `{"mcpServers": [{}]}`),
		servers("no list", `{"mcpServers": "bad-tools"}`),
		servers("a version that isn't there", `{"mcpServers": [{"mcpServerName": "bad-tools", "version": "77"}]}`),
		prompt("a version that isn't one", `{"promptKey": "bad", "version": "one", "template": "x"}`),
		prompt("no version", `{"promptKey": "bad", "template": "x"}`),
		prompt("an open variable", `{"promptKey": "bad", "version": "1.0.0", "template": "{{who"}`),
		server("no endpoint", `{"name": "bad-tools"}`),
		server("an endpoint without a host", `{"name": "bad-tools", "endpoint": "http:///mcp"}`),
		server("an endpoint of another scheme", `{"name": "bad-tools", "endpoint": "gopher://127.0.0.1/mcp"}`),
		{"no model file", map[string]string{"bad/model.json": ""}},
		{"a path that leaves", map[string]string{"../../etc/agent-base.json": `{"promptKey": "bad"}`}},
		{"a file that isn't one of ours", map[string]string{"bad/agent-bass.json": `{"promptKey": "bad"}`}},
	}
}

// damage gives a good set with something random done to one file.
func damage(r *rand.Rand) []*specv1.File {
	set := good()
	paths := []string{"bad/agent-base.json", "bad/model.json", "bad/mcp-servers.json", "prompts/bad.json", "mcp/bad-tools.json"}
	path := paths[r.IntN(len(paths))]
	b := []byte(set[path])
	for range 1 + r.IntN(4) {
		if len(b) < 3 {
			break
		}
		i := r.IntN(len(b) - 1)
		switch r.IntN(5) {
		case 0:
			b[i] ^= 1 << r.IntN(8)
		case 1:
			b = b[:i]
		case 2:
			b = append(b[:i:i], b[i+1:]...)
		case 3:
			b = append(b[:i:i], append([]byte{b[r.IntN(len(b))]}, b[i:]...)...)
		case 4:
			j := i + r.IntN(len(b)-i)
			b = append(b[:j:j], b[i:]...)
		}
	}
	set[path] = string(b)
	return listed(set)
}

var _ world.Fault = badSpecs{}
