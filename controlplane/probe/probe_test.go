package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve serves an MCP server, or what stands before it.
func serve(t *testing.T, before func(next http.Handler) http.Handler, tools ...string) string {
	t.Helper()
	m := server.NewMCPServer("stub", "1.0.0", server.WithToolCapabilities(true), server.WithPaginationLimit(2))
	for _, name := range tools {
		m.AddTool(mcp.NewTool(name, mcp.WithDescription("does "+name), mcp.WithString("q")), func(context.Context, mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			t.Error("a probe called a tool")
			return mcp.NewToolResultText(""), nil
		})
	}
	var h http.Handler = server.NewStreamableHTTPServer(m)
	if before != nil {
		h = before(h)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL + "/mcp"
}

// here goes to this machine, where the tests' servers are.
func here(t *testing.T) *egress.Guard {
	t.Helper()
	p, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	return egress.New(egress.Config{Policy: p})
}

func run(t *testing.T, target Target) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if target.Name == "" {
		target.Name = "tools"
	}
	target.Egress = here(t)
	return Run(ctx, target)
}

func TestFindsTools(t *testing.T) {
	got := run(t, Target{Endpoints: []string{serve(t, nil, "beta", "alpha", "gamma")}})
	if got.Code != "" || got.Message != "" || got.ServerName != "stub" || got.ServerVersion != "1.0.0" || got.ProtocolVersion == "" || got.Took <= 0 {
		t.Fatalf("%+v", got)
	}
	var names []string
	digests := map[string]bool{}
	for _, tool := range got.Tools {
		names = append(names, tool.Name+" "+tool.Description)
		digests[tool.Digest] = true
	}
	if diff := cmp.Diff([]string{"alpha does alpha", "beta does beta", "gamma does gamma"}, names); diff != "" || len(digests) != 3 {
		t.Errorf("%d digests\n%s", len(digests), diff)
	}
}

func TestSendsHeadersAndQuery(t *testing.T) {
	url := serve(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Key") != "header-secret" || r.URL.Query().Get("key") != "query-secret" {
				http.Error(w, "who are you, "+r.Header.Get("X-Key")+"?", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, r)
		})
	}, "alpha")
	target := Target{Endpoints: []string{url}, Headers: map[string]secret.Value{"X-Key": secret.NewValue("header-secret")}, Query: map[string]secret.Value{"key": secret.NewValue("query-secret")}}
	if got := run(t, target); got.Code != "" || len(got.Tools) != 1 {
		t.Errorf("%+v", got)
	}
	target.Query = nil
	got := run(t, target)
	if got.Code != phase.Unauthorized || strings.Contains(got.Message, "header-secret") || len(got.Tools) != 0 {
		t.Errorf("%+v", got)
	}
}

func TestFailures(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	answers := func(h http.HandlerFunc) string {
		return serve(t, func(http.Handler) http.Handler { return h })
	}
	cases := map[string]struct {
		target Target
		want   phase.Code
		text   string
	}{
		"nobody there":    {Target{Endpoints: []string{closed.URL}}, phase.Unreachable, "connection refused"},
		"no endpoint":     {Target{}, phase.Invalid, "no endpoint"},
		"not MCP":         {Target{Endpoints: []string{answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })}}, phase.NotMCP, ""},
		"a broken server": {Target{Endpoints: []string{answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })}}, phase.HTTP5xx, "502"},
		"a busy server":   {Target{Endpoints: []string{answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) })}}, phase.RateLimited, "429"},
		"a redirect": {Target{Endpoints: []string{answers(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		})}}, phase.NotMCP, "302"},
		"an unknown version":  {Target{Endpoints: []string{serve(t, nil, "alpha")}, ProtocolVersion: "1999-01-01"}, phase.NotSupported, "1999-01-01"},
		"the network here":    {Target{Endpoints: []string{"http://10.1.2.3/mcp"}}, phase.Invalid, "--egress-allow 10.1.2.3"},
		"the metadata server": {Target{Endpoints: []string{"http://169.254.169.254/latest"}}, phase.Invalid, "link-local"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := run(t, c.target)
			if got.Code != c.want || !strings.Contains(got.Message, c.text) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestEndpointsInTurn(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	good := serve(t, nil, "alpha")
	if got := run(t, Target{Endpoints: []string{closed.URL, good}}); got.Code != "" || got.Endpoint != good {
		t.Errorf("%+v", got)
	}
}

func TestEndsInTime(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})
	})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if got := Run(ctx, Target{Name: "tools", Endpoints: []string{url}, Egress: here(t)}); got.Code != phase.Timeout {
		t.Errorf("%+v", got)
	}
}

func TestAnswersAreCapped(t *testing.T) {
	url := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":{"x":"`))
			chunk := []byte(strings.Repeat("x", 1<<20))
			for range 16 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		})
	})
	if got := run(t, Target{Endpoints: []string{url}}); got.Code == "" || !strings.Contains(got.Message, "8 MiB") {
		t.Errorf("%+v", got)
	}
}
