package mcptool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/agentd/tool/mcptool"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// peer is a real MCP server, behind a switch that can answer in its place.
type peer struct {
	*httptest.Server
	mu       sync.Mutex
	mcp      *server.MCPServer
	handler  http.Handler
	instead  http.HandlerFunc
	requests []*http.Request
	calls    atomic.Int32
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	p := &peer{}
	p.restart()
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Clone(context.WithoutCancel(r.Context())))
		h := p.handler
		if p.instead != nil {
			h = p.instead
		}
		p.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		p.CloseClientConnections()
		p.Close()
	})
	return p
}

// restart is a new process at the same address: every session is forgotten.
func (p *peer) restart() {
	s := server.NewMCPServer("peer", "1", server.WithToolCapabilities(true))
	s.AddTool(mcp.NewToolWithRawSchema("echo", "says it again", json.RawMessage(`{"type":"object","properties":{"text":{"type":"string"}},"required":["text"]}`)), p.echo)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mcp, p.handler = s, server.NewStreamableHTTPServer(s)
}

func (p *peer) answer(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = h
}

func (p *peer) echo(_ context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
	p.calls.Add(1)
	text := r.GetString("text", "")
	switch text {
	case "fail":
		return mcp.NewToolResultError("it failed"), nil
	case "structured":
		return mcp.NewToolResultStructured(map[string]any{"n": 1}, "one"), nil
	case "meta":
		return mcp.NewToolResultText(fmt.Sprint(r.Params.Meta.AdditionalFields["traceparent"])), nil
	case "image":
		return &mcp.CallToolResult{Content: []mcp.Content{mcp.NewTextContent("see"), mcp.NewImageContent("AAAA", "image/png")}}, nil
	default:
		return mcp.NewToolResultText(text), nil
	}
}

func (p *peer) addTool(name string) {
	p.mu.Lock()
	s := p.mcp
	p.mu.Unlock()
	s.AddTool(mcp.NewTool(name), p.echo)
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

func open(t *testing.T, url string, mutate func(*mcptool.Config)) (*mcptool.Server, chan struct{}) {
	t.Helper()
	changed := make(chan struct{}, 1)
	cfg := mcptool.Config{
		Name: "peer", Endpoints: []mcptool.Endpoint{{URL: url}}, Egress: here(t), Timeout: 5 * time.Second, ConnectTimeout: 5 * time.Second,
		MinBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		OnChange: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
	}
	if mutate != nil {
		mutate(&cfg)
	}
	s, err := mcptool.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	s.Start()
	return s, changed
}

func names(s *mcptool.Server) []string {
	var out []string
	for _, tl := range s.Tools() {
		out = append(out, tl.Spec().Name)
	}
	return out
}

// until waits for OnChange until ok.
func until(t *testing.T, changed chan struct{}, ok func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-changed:
		case <-limit:
			t.Fatal("it did not come to that")
		}
	}
}

func echo(t *testing.T, s *mcptool.Server) tool.Tool {
	t.Helper()
	for _, tl := range s.Tools() {
		if tl.Spec().Name == "peer__echo" {
			return tl
		}
	}
	t.Fatalf("no peer__echo among %v", names(s))
	return nil
}

func call(t *testing.T, s *mcptool.Server, text string) (tool.Result, error) {
	t.Helper()
	args, _ := json.Marshal(map[string]string{"text": text})
	return echo(t, s).Call(t.Context(), args)
}

func TestConnectAndCall(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", func(c *mcptool.Config) { c.MaxResult = 20 })
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := s.Health(); !h.Healthy {
		t.Errorf("health = %+v", h)
	}
	spec := echo(t, s).Spec()
	want := tool.Spec{Name: "peer__echo", Server: "peer", Tool: "echo", Description: "says it again", Schema: spec.Schema}
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for text, want := range map[string]tool.Result{
		"hello":                  {Text: "hello"},
		"fail":                   {Text: "it failed", IsError: true},
		"structured":             {Text: "one\n{\"n\":1}"},
		"image":                  {Text: "see\n[image image/png\n[cut: the first 20 of 32 bytes are shown]"},
		strings.Repeat("ab", 11): {Text: strings.Repeat("ab", 10) + "\n[cut: the first 20 of 22 bytes are shown]"},
	} {
		got, err := call(t, s, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// What broke: nothing showed that a result of megabytes, which a server may send, isn't handed to the model whole.
func TestALongResultIsCut(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", func(c *mcptool.Config) { c.Timeout = time.Minute }) // seconds under the race detector on a busy machine
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	long := "x" + strings.Repeat("é", 150_000) // every cut at an even byte splits a letter
	got, err := call(t, s, long)
	if err != nil {
		t.Fatal(err)
	}
	want := long[:mcptool.DefaultMaxResult-1] + "\n[cut: the first 262144 of 300001 bytes are shown]"
	if got.Text != want {
		t.Errorf("%d bytes that end with %q", len(got.Text), got.Text[max(0, len(got.Text)-80):])
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string]string{"missing": `{}`, "empty": "", "type": `{"text":1}`, "broken": `{"text":`, "list": `[]`} {
		_, err := echo(t, s).Call(t.Context(), json.RawMessage(args))
		var bad *tool.ArgumentsError
		if !errors.As(err, &bad) {
			t.Errorf("%s: err = %v, want an ArgumentsError", name, err)
		}
	}
	if p.calls.Load() != 0 {
		t.Error("the server was called")
	}
}

func TestTraceContext(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1})
	got, err := echo(t, s).Call(trace.ContextWithSpanContext(t.Context(), sc), json.RawMessage(`{"text":"meta"}`))
	if err != nil || got.Text != "00-01000000000000000000000000000000-0200000000000000-01" {
		t.Errorf("traceparent = %q, %v", got.Text, err)
	}
}

func TestCredentialsAreAskedPerCall(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	var key atomic.Pointer[string]
	key.Store(new("first-secret"))
	value := func() secret.Value { return secret.NewValue(*key.Load()) }
	s, _ := open(t, p.URL+"/mcp?a=1", func(c *mcptool.Config) {
		c.Headers = map[string]func() secret.Value{"X-Key": value}
		c.Query = map[string]func() secret.Value{"key": value}
	})
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	key.Store(new("second-secret"))
	if _, err := call(t, s, "x"); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	posts := slices.DeleteFunc(slices.Clone(p.requests), func(r *http.Request) bool { return r.Method != http.MethodPost }) // the listening GET may come late
	first, last := posts[0], posts[len(posts)-1]
	if first.Header.Get("X-Key") != "first-secret" || first.URL.Query().Get("key") != "first-secret" || first.URL.Query().Get("a") != "1" {
		t.Errorf("first: %v %v", first.URL, first.Header)
	}
	if last.Header.Get("X-Key") != "second-secret" || last.URL.Query().Get("key") != "second-secret" {
		t.Errorf("last: %v %v", last.URL, last.Header)
	}
}

// The old value is turned down after a rotation: one more try, with the value of then.
func TestUnauthorizedCallIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		turned := false
		if r.Method == http.MethodPost {
			once.Do(func() { turned = true })
		}
		if turned {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.mu.Lock()
		h := p.handler
		p.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	if got, err := call(t, s, "x"); err != nil || got.Text != "x" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestListChanged(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, changed := open(t, p.URL+"/mcp", func(c *mcptool.Config) { c.Poll = time.Hour })
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := echo(t, s)
	// The stream for notifications opens after the handshake; until then a change is not told.
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; len(s.Tools()) < 2; n++ {
		p.addTool(fmt.Sprintf("more%d", n))
		<-tick.C
	}
	until(t, changed, func() bool { return len(s.Tools()) >= 2 })
	if echo(t, s) != before {
		t.Error("an unchanged tool lost its identity")
	}
}

func TestSlowPollFindsNewTools(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, changed := open(t, p.URL+"/mcp", func(c *mcptool.Config) { c.Poll = 10 * time.Millisecond })
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.addTool("more")
	until(t, changed, func() bool { return len(s.Tools()) == 2 })
}

// A restarted server answers 404 to the old session: the call starts a new one and goes through.
func TestForgottenSession(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	var forgotten sync.Map
	p.mu.Lock()
	for _, r := range p.requests {
		if id := r.Header.Get("Mcp-Session-Id"); id != "" {
			forgotten.Store(id, true)
		}
	}
	p.mu.Unlock()
	p.restart()
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := forgotten.Load(r.Header.Get("Mcp-Session-Id")); ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		p.mu.Lock()
		h := p.handler
		p.mu.Unlock()
		h.ServeHTTP(w, r)
	})
	if got, err := call(t, s, "after"); err != nil || got.Text != "after" {
		t.Errorf("%+v, %v", got, err)
	}
	if h := s.Health(); !h.Healthy {
		t.Errorf("health = %+v", h)
	}
}

func TestLostAndBack(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, changed := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := echo(t, s)
	p.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	_, err := tl.Call(t.Context(), json.RawMessage(`{"text":"x"}`))
	var fault *mcptool.Error
	if !errors.As(err, &fault) || fault.Code != phase.HTTP5xx {
		t.Fatalf("err = %v", err)
	}
	until(t, changed, func() bool { return !s.Health().Healthy })
	if len(s.Tools()) != 0 || s.Health().Code != phase.HTTP5xx {
		t.Errorf("tools %v, health %+v", names(s), s.Health())
	}
	p.answer(nil)
	until(t, changed, func() bool { return s.Health().Healthy })
	if len(s.Tools()) != 1 {
		t.Errorf("tools %v", names(s))
	}
}

func TestSecondEndpointTakesOver(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	s, _ := open(t, p.URL, func(c *mcptool.Config) {
		c.Endpoints = []mcptool.Endpoint{{URL: dead.URL, Weight: 9}, {URL: p.URL + "/mcp", Weight: 1}}
	})
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestProtocolVersions(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	for _, version := range []string{"", "2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"} {
		t.Run("version "+version, func(t *testing.T) {
			t.Parallel()
			s, _ := open(t, p.URL+"/mcp", func(c *mcptool.Config) { c.ProtocolVersion = version })
			if err := s.Probe(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := call(t, s, "x"); err != nil || got.Text != "x" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	if _, err := mcptool.New(mcptool.Config{Name: "x", Endpoints: []mcptool.Endpoint{{URL: "http://h"}}, ProtocolVersion: "1999-01-01"}); err == nil {
		t.Error("an unknown version was accepted")
	}
}

func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := echo(t, s)
	arrived := make(chan struct{}, 1)
	p.answer(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Method == http.MethodPost {
			select {
			case arrived <- struct{}{}:
			default:
			}
		}
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := tl.Call(ctx, json.RawMessage(`{"text":"x"}`)); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestCloseIsSafe(t *testing.T) {
	t.Parallel()
	p := newPeer(t)
	never, err := mcptool.New(mcptool.Config{Name: "x", Endpoints: []mcptool.Endpoint{{URL: p.URL}}, Egress: here(t)})
	if err != nil {
		t.Fatal(err)
	}
	never.Close()
	never.Close()
	s, _ := open(t, p.URL+"/mcp", nil)
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	tl := echo(t, s)
	s.Close()
	s.Close()
	if _, err := tl.Call(t.Context(), json.RawMessage(`{"text":"x"}`)); err == nil {
		t.Error("a closed server answered")
	}
	if err := s.Probe(t.Context()); err == nil {
		t.Error("a closed server was probed")
	}
}
