package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"
	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// inside is an assembler with the real adapters, which may connect to what allow says.
func inside(t *testing.T, allow ...string) *assembler.Assembler {
	t.Helper()
	policy, err := egress.ParsePolicy(allow...)
	if err != nil {
		t.Fatal(err)
	}
	guard, log := egress.New(egress.Config{Policy: policy}), slog.New(slog.DiscardHandler)
	storage, err := newStorages(guard, log)
	if err != nil {
		t.Fatal(err)
	}
	a, err := assembler.New(assembler.Config{
		Namespace: "default", Capabilities: spec.ThisRelease(), Permit: guard.CheckURL, Storages: storage, Log: log,
		Models: models{transports: openaimodel.NewTransports(guard)}, Servers: servers{guard, propagation.TraceContext{}, log},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// configOf is a config with a model endpoint and, unless it is empty, an MCP server, which both get credentials.
func configOf(t *testing.T, modelURL, mcpURL string) configclient.Update {
	t.Helper()
	u := configclient.Update{Revision: 1, Resources: map[string][]byte{}, Proven: map[string]bool{}, Credentials: map[string]configclient.Credential{}}
	for name, value := range map[string]string{"model-key": "canary-model-key", "mcp-key": "canary-mcp-key"} {
		u.Credentials[name] = configclient.Credential{Version: 1, Value: secret.NewValue(value)}
		u.Lines = append(u.Lines, manifest.Line{Kind: manifest.KindCredential, Name: name, Version: "1"})
	}
	add := func(kind, name, version string, v any) {
		b, err := spec.Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		u.Lines = append(u.Lines, manifest.Line{Kind: kind, Name: name, Version: version, SHA256: manifest.Sum(b)})
		u.Resources[kind+"/"+name] = b
	}
	agent := spec.Agent{AgentName: "helper", PromptKey: "p", Model: spec.Model{
		Model: "m", BaseURL: modelURL, APIKey: spec.Value{Ref: "model-key"}, Headers: map[string]spec.Value{"X-Model": {Ref: "model-key"}},
		Retry: &spec.Retry{Attempts: 1},
	}}
	if mcpURL != "" {
		agent.MCPServers = []spec.MCPServerRef{{
			MCPServerName: "tools", Required: true,
			Headers: map[string]spec.Value{"Authorization": {Ref: "mcp-key"}}, QueryParams: map[string]spec.Value{"key": {Ref: "mcp-key"}},
		}}
		add(manifest.KindMCP, "tools", "1", spec.MCPServer{Name: "tools", Version: "1", Transport: "streamable-http", Endpoints: []spec.Endpoint{{URL: mcpURL, Weight: 1}}})
	}
	agent.FillDefaults()
	add(manifest.KindAgent, "helper", "-", agent)
	add(manifest.KindPrompt, "p", "1.0.0", spec.Prompt{PromptKey: "p", Version: "1.0.0", Template: "help"})
	manifest.Sort(u.Lines)
	u.Token = manifest.Token{Epoch: 1, Generation: 1, Hash: manifest.Of(u.Lines)}
	u.Commit = func(context.Context) error { return nil }
	return u
}

// ask calls the running config's model.
func ask(t *testing.T, a *assembler.Assembler) error {
	t.Helper()
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for _, err := range rt.Model.Generate(t.Context(), model.Request{Messages: []model.Message{{Role: model.User, Text: "hi"}}}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// upstream records every byte of every request.
type upstream struct {
	*httptest.Server
	connections atomic.Int64
	mu          sync.Mutex
	seen        strings.Builder
}

func record(t *testing.T, listener net.Listener, answer http.Handler) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		_, _ = fmt.Fprintf(&u.seen, "%s %s\n", r.Method, r.URL)
		_ = r.Header.Write(&u.seen)
		_, _ = u.seen.Write(append(body, '\n'))
		u.mu.Unlock()
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		answer.ServeHTTP(w, r)
	}))
	if listener != nil {
		_ = u.Listener.Close()
		u.Listener = listener
	}
	u.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			u.connections.Add(1)
		}
	}
	u.Start()
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

func (u *upstream) text() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen.String()
}

// Acceptance, agentd's path: an internal address in a spec, however it is spelled, refuses a new config and only degrades one that
// counts already; nothing connects in either case.
func TestInternalAddressesAreRefused(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	forbidden := record(t, listener, http.NotFoundHandler())
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a := inside(t)
	// Nobody is told how to open link-local and metadata addresses.
	unsaid := map[string]bool{"169.254.169.254": true, "0xa9fea9fe": true, "[fd00:ec2::254]": true, "[fe80::1%25lo]": true}
	for _, host := range []string{
		"127.0.0.1", "localhost", "localhost.", "LocalHost", "a.localhost", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "017700000001",
		"127。0。0。1", "①②⑦.⓪.⓪.①", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[::1%25lo]",
		"169.254.169.254", "0xa9fea9fe", "10.0.0.1", "192.168.1.1", "100.64.0.1", "[fd00:ec2::254]", "[fe80::1%25lo]",
	} {
		address := "http://" + host + ":" + port
		for what, u := range map[string]configclient.Update{
			"model": configOf(t, address+"/v1", ""), "mcp": configOf(t, "https://93.184.215.14/v1", address+"/mcp"),
		} {
			v := a.Apply(t.Context(), u)
			if f := faultOf(v, phase.Invalid); v.Phase != phase.Rejected || f == nil || f.Retryable || strings.Contains(f.Message, "--egress-allow ") == unsaid[host] || strings.Contains(f.Message, "/v1") {
				t.Errorf("%s %s, new: %+v", what, host, v)
			}
			u.FromLastGood = true
			v = a.Apply(t.Context(), u)
			if f := faultOf(v, phase.Invalid); v.Phase != phase.Degraded || f == nil || strings.Contains(f.Message, "--egress-allow ") == unsaid[host] {
				t.Errorf("%s %s, from last good: %+v", what, host, v)
			}
			if what != "model" {
				continue
			}
			var failed *model.Error
			if err := ask(t, a); !errors.As(err, &failed) || failed.Code != string(phase.Invalid) || len(failed.Attempts) != 1 || !strings.Contains(failed.Message, "denied") {
				t.Errorf("%s, asked all the same: %v", host, err)
			}
		}
	}
	if n := forbidden.connections.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
	open := inside(t, "127.0.0.1:"+port) // the listener is there
	u := configOf(t, "http://127.0.0.1:"+port+"/v1", "")
	if v := open.Apply(t.Context(), u); v.Phase != phase.Applied {
		t.Errorf("%+v", v)
	}
	if err := ask(t, open); err == nil || forbidden.connections.Load() != 1 {
		t.Errorf("%v, %d connections", err, forbidden.connections.Load())
	}
}

func faultOf(v configclient.Verdict, code phase.Code) *phase.Fault {
	for i := range v.Faults {
		if v.Faults[i].Code == code {
			return &v.Faults[i]
		}
	}
	return nil
}

// A redirect is not followed, so that no credential reaches another origin: another port is one.
func TestRedirectsCarryNoCredential(t *testing.T) {
	other := record(t, nil, http.NotFoundHandler())
	for _, code := range []int{301, 302, 303, 307, 308} {
		front := record(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.Path, code)
		}))
		a := inside(t, "loopback")
		if v := a.Apply(t.Context(), configOf(t, front.URL+"/v1", front.URL+"/mcp")); v.Phase != phase.Rejected || faultOf(v, phase.NotMCP) == nil {
			t.Errorf("%d: %+v", code, v)
		}
		if v := a.Apply(t.Context(), configOf(t, front.URL+"/v1", "")); v.Phase != phase.Applied {
			t.Errorf("%d: %+v", code, v)
		}
		if err := ask(t, a); err == nil {
			t.Errorf("%d: answered", code)
		}
		if seen := front.text(); !strings.Contains(seen, "Bearer canary-model-key") || !strings.Contains(seen, "canary-mcp-key") {
			t.Errorf("%d: the named origin was sent %s", code, seen)
		}
	}
	if n := other.connections.Load(); n != 0 {
		t.Errorf("the other origin was connected to %d times: %s", n, other.text())
	}
}

// What a caller identifies itself with goes nowhere: neither to the model nor to a tool; and each of these gets its own credential only.
func TestInboundAuthorizationIsNeverForwarded(t *testing.T) {
	m := mcpserver.NewMCPServer("stub", "1.0.0", mcpserver.WithToolCapabilities(true))
	m.AddTool(mcp.NewTool("echo", mcp.WithString("text")), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText("echoed"), nil
	})
	tools := record(t, nil, mcpserver.NewStreamableHTTPServer(m))
	var asked atomic.Int64
	models := record(t, nil, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := `{"role":"assistant","content":"done"},"finish_reason":"stop"`
		if asked.Add(1) == 1 {
			answer = `{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"tools__echo","arguments":"{\"text\":\"x\"}"}}]},"finish_reason":"tool_calls"`
		}
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":`+answer+`}]}`)
	}))
	a := inside(t, "loopback")
	if v := a.Apply(t.Context(), configOf(t, models.URL+"/v1", tools.URL+"/mcp")); v.Phase != phase.Applied {
		t.Fatalf("%+v", v)
	}
	runner, err := run.New(run.Config{Source: a})
	if err != nil {
		t.Fatal(err)
	}
	door, err := openaidoor.New(openaidoor.Config{Runner: runner})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions?key=inbound-canary", strings.NewReader(`{"messages":[{"role":"user","content":"hi"}]}`))
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key", "Api-Key", "X-Forwarded-Access-Token"} {
		req.Header.Set(name, "Bearer inbound-canary")
	}
	w := httptest.NewRecorder()
	door.ServeHTTP(w, req)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "done") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for name, c := range map[string]struct {
		to          *upstream
		own, others string
	}{"model": {models, "canary-model-key", "canary-mcp-key"}, "mcp": {tools, "canary-mcp-key", "canary-model-key"}} {
		seen := c.to.text()
		if strings.Contains(seen, "inbound-canary") || strings.Contains(seen, c.others) || !strings.Contains(seen, c.own) {
			t.Errorf("%s was sent:\n%s", name, seen)
		}
	}
	if !strings.Contains(tools.text(), "tools/call") {
		t.Error("the tool wasn't called")
	}
}

// What may be connected to comes from the flag, else from the environment, and holds what --model-base-url names.
func TestEgressAllow(t *testing.T) {
	env := func(allow string) func(string) string {
		return func(name string) string {
			return map[string]string{"AGENT_NAME": "helper", "AGENT_NAMESPACE": "team-a", "HOME": t.TempDir(), "AGENTD_EGRESS_ALLOW": allow}[name]
		}
	}
	cases := map[string]struct {
		args    []string
		env     string
		allowed []string
		denied  []string
	}{
		"nothing":              {denied: []string{"http://127.0.0.1:1", "http://10.0.0.1", "http://169.254.169.254"}, allowed: []string{"https://8.8.8.8"}},
		"the environment":      {env: "loopback, 10.0.0.0/8", allowed: []string{"http://127.0.0.1:1", "http://10.0.0.1"}, denied: []string{"http://192.168.0.1"}},
		"the flag wins":        {args: []string{"--egress-allow", "192.168.0.0/16"}, env: "loopback", allowed: []string{"http://192.168.0.1"}, denied: []string{"http://127.0.0.1:1"}},
		"the model's override": {args: []string{"--model-base-url", "http://localhost:11434/v1"}, allowed: []string{"http://localhost:11434"}, denied: []string{"http://localhost:11435", "http://127.0.0.1:11434"}},
		"by namespace":         {env: "team-a=10.0.0.1,team-b=10.0.0.2", allowed: []string{"http://10.0.0.1"}, denied: []string{"http://10.0.0.2"}},
		"not by a word":        {env: "private,loopback", denied: []string{"http://169.254.169.254", "http://[fd00:ec2::254]", "http://168.63.129.16"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cfg, err := ParseConfig(c.args, env(c.env), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			guard := egress.New(egress.Config{Policy: cfg.Egress})
			for _, url := range c.allowed {
				if err := guard.CheckURL(t.Context(), url); err != nil {
					t.Errorf("%s: %v", url, err)
				}
			}
			for _, url := range c.denied {
				if err := guard.CheckURL(t.Context(), url); !errors.Is(err, egress.ErrDenied) {
					t.Errorf("%s: %v", url, err)
				}
			}
		})
	}
	if _, err := ParseConfig([]string{"--egress-allow", "loopback,10.0.0.0/99"}, env(""), io.Discard); err == nil || !strings.Contains(err.Error(), `--egress-allow: "10.0.0.0/99"`) {
		t.Errorf("%v", err)
	}
}
