package app

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"
	mcpserver "github.com/mark3labs/mcp-go/server"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/telemetry"
	"github.com/agentry/agentry/internal/version"
)

// callersKey is what callers show in these tests.
const callersKey = "inbound-canary"

// locked changes a config so that its agent asks callers for callersKey.
func locked(t *testing.T, u configclient.Update) configclient.Update {
	t.Helper()
	var agent spec.Agent
	if err := json.Unmarshal(u.Resources["agent/helper"], &agent); err != nil {
		t.Fatal(err)
	}
	agent.Expose = &spec.Expose{Auth: &spec.InboundAuth{Keys: []spec.InboundKey{{Name: "ci", Key: spec.Value{Ref: "inbound"}}}}}
	b, err := spec.Canonical(agent)
	if err != nil {
		t.Fatal(err)
	}
	u.Resources["agent/helper"] = b
	u.Credentials["inbound"] = configclient.Credential{Version: 1, Value: secret.NewValue(callersKey)}
	for i, l := range u.Lines {
		if l.Kind == manifest.KindAgent {
			u.Lines[i].SHA256 = manifest.Sum(b)
		}
	}
	u.Lines = append(u.Lines, manifest.Line{Kind: manifest.KindCredential, Name: "inbound", Version: "1"})
	manifest.Sort(u.Lines)
	u.Token.Hash = manifest.Of(u.Lines)
	return u
}

// allDoors is agentd's handler, with every door, on a config that no control plane sent.
func allDoors(t *testing.T, u configclient.Update) http.Handler {
	t.Helper()
	dir := t.TempDir()
	cfg, err := ParseConfig([]string{"--state-dir", filepath.Join(dir, "state"), "--egress-allow", "loopback"}, func(name string) string {
		return map[string]string{"AGENT_NAME": "helper", "HOME": dir, "AGENTD_JOIN_TOKEN": joinToken}[name]
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	state, err := configclient.OpenState(configclient.StateConfig{Dir: cfg.StateDir, Namespace: cfg.Namespace, Agent: cfg.Agent, Persist: cfg.Persist})
	if err != nil {
		t.Fatal(err)
	}
	tracing, err := telemetry.Setup(t.Context(), telemetry.ServiceConfig{Name: "agentd", Version: version.String(), Lookup: func(string) string { return "" }})
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cfg: cfg, log: slog.New(slog.DiscardHandler), state: state, redactor: &secret.Redactor{}, tracing: tracing}
	if err := d.build(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.assembler.Close()
		if err := state.Close(); err != nil {
			t.Error(err)
		}
	})
	if v := d.assembler.Apply(t.Context(), u); v.Phase != phase.Applied {
		t.Fatalf("%+v", v)
	}
	server, err := d.server()
	if err != nil {
		t.Fatal(err)
	}
	return server.Handler
}

// askDoor sends a request from an address, with headers as names and values.
func askDoor(t *testing.T, h http.Handler, method, from, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	r.RemoteAddr, r.Host = from, "localhost:8800"
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("A2A-Version", "1.0")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// questions are one for each door that others call the agent through.
func questions() map[string]struct{ path, body string } {
	return map[string]struct{ path, body string }{
		"openai": {"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}]}`},
		"rest":   {"/api/v1/sessions/s/messages", `{"message":"hi"}`},
		"mcp":    {"/mcp", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"helper","arguments":{"message":"hi"}}}`},
		"a2a":    {"/a2a", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"1","role":"ROLE_USER","parts":[{"text":"hi"}]}}}`},
	}
}

// A caller's key opens every door and goes no further: neither it nor what else says who somebody is gets into any byte that leaves.
func TestCallersKeysGoNowhere(t *testing.T) {
	m := mcpserver.NewMCPServer("stub", "1.0.0", mcpserver.WithToolCapabilities(true))
	m.AddTool(mcp.NewTool("echo", mcp.WithString("text")), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
		return mcp.NewToolResultText("echoed"), nil
	})
	tools := record(t, nil, mcpserver.NewStreamableHTTPServer(m))
	models := record(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		answer := `{"role":"assistant","content":"done"},"finish_reason":"stop"`
		if !strings.Contains(string(asked), "echoed") {
			answer = `{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"tools__echo","arguments":"{\"text\":\"x\"}"}}]},"finish_reason":"tool_calls"`
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"choices":[{"index":0,"message":`+answer+`}]}`)
	}))
	h := allDoors(t, locked(t, configOf(t, models.URL+"/v1", tools.URL+"/mcp")))
	const far = "192.0.2.7:5000"
	for name, q := range questions() {
		for _, shown := range [][]string{{"Authorization", "Bearer " + callersKey}, {"X-Api-Key", callersKey}} {
			header := append(slices.Clip(shown), "Cookie", "c="+callersKey, "Proxy-Authorization", callersKey, "X-Forwarded-Access-Token", callersKey)
			if w := askDoor(t, h, http.MethodPost, far, q.path, q.body, header...); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "done") || strings.Contains(w.Body.String(), callersKey) {
				t.Errorf("%s by %s: %d %s", name, shown[0], w.Code, w.Body)
			}
		}
		for _, from := range []string{far, "127.0.0.1:5000"} {
			if w := askDoor(t, h, http.MethodPost, from, q.path, q.body, "Authorization", "Bearer other"); w.Code != http.StatusUnauthorized {
				t.Errorf("%s with another key: %d %s", name, w.Code, w.Body)
			}
			if w := askDoor(t, h, http.MethodPost, from, q.path, q.body); w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s without a key: %d %s", name, w.Code, w.Body)
			}
		}
	}
	for name, to := range map[string]*upstream{"the model": models, "the tool's server": tools} {
		if seen := to.text(); strings.Contains(seen, callersKey) || seen == "" {
			t.Errorf("%s was sent:\n%s", name, seen)
		}
	}
	if !strings.Contains(tools.text(), "tools/call") {
		t.Error("the tool wasn't called")
	}
}

// Without keys in the config nobody on another machine is answered anything but whether the instance lives.
func TestOthersAreAnsweredByKeyOnly(t *testing.T) {
	models := record(t, nil, http.NotFoundHandler())
	u := configOf(t, models.URL+"/v1", "")
	const far, near = "192.0.2.7:5000", "127.0.0.1:5000"
	open := allDoors(t, u)
	for name, q := range questions() {
		if w := askDoor(t, open, http.MethodPost, far, q.path, q.body, "Authorization", "Bearer x"); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if w := askDoor(t, open, http.MethodPost, near, q.path, q.body, "Origin", "https://evil.example.com"); w.Code != http.StatusForbidden {
			t.Errorf("%s from a page: %d %s", name, w.Code, w.Body)
		}
	}
	keyed := allDoors(t, locked(t, configOf(t, models.URL+"/v1", "")))
	for _, c := range []struct {
		handler http.Handler
		from    string
		path    string
		key     string
		want    int
	}{
		{open, far, "/healthz", "", 200},
		{open, far, "/metrics", "", 403},
		{open, near, "/metrics", "", 200},
		{keyed, far, "/metrics", "", 401},
		{keyed, far, "/metrics", callersKey, 200},
		{keyed, near, "/metrics", "", 200},
		{keyed, far, "/v1/models", callersKey, 200},
		{keyed, far, "/admin/config", callersKey, 403},
	} {
		if w := askDoor(t, c.handler, http.MethodGet, c.from, c.path, "", "X-Api-Key", c.key); w.Code != c.want {
			t.Errorf("%s from %s with %q: %d %s, want %d", c.path, c.from, c.key, w.Code, w.Body, c.want)
		}
	}
	if n := models.connections.Load(); n != 0 {
		t.Errorf("%d connections to the model", n)
	}
}
