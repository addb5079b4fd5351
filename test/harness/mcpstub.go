package harness

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// MCPStub is a stub MCP server over real HTTP that records what it saw. Several may run in one process.
type MCPStub struct {
	URL string // of the MCP endpoint

	http *httptest.Server
	mcp  *server.MCPServer

	mu    sync.Mutex // guards calls and posts
	calls []MCPCall
	posts int
}

// MCPCall is one tool call as the server saw it.
type MCPCall struct {
	Tool    string
	Args    map[string]any
	Headers http.Header
	Query   string
}

type stubHeaders struct{}

type stubRequest struct {
	header http.Header
	query  string
}

// NewMCPStub serves the given tools; each answers {"tool": NAME, "args": {...}}.
func NewMCPStub(name string, tools ...string) *MCPStub {
	s := &MCPStub{mcp: server.NewMCPServer(name, "1.0.0", server.WithToolCapabilities(true))}
	for _, t := range tools {
		s.AddTool(t)
	}
	handler := server.NewStreamableHTTPServer(s.mcp, server.WithHTTPContextFunc(func(ctx context.Context, r *http.Request) context.Context {
		return context.WithValue(ctx, stubHeaders{}, stubRequest{r.Header.Clone(), r.URL.RawQuery})
	}))
	mux := http.NewServeMux()
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.posts++
		s.mu.Unlock()
		handler.ServeHTTP(w, r)
	})
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL + "/mcp"
	return s
}

// AddTool adds (or replaces) a tool while serving.
func (s *MCPStub) AddTool(name string) {
	s.mcp.AddTool(mcp.NewTool(name, mcp.WithDescription("Stub tool "+name), mcp.WithString("q")),
		func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			call := MCPCall{Tool: name, Args: r.GetArguments()}
			if seen, ok := ctx.Value(stubHeaders{}).(stubRequest); ok {
				call.Headers, call.Query = seen.header, seen.query
			}
			s.mu.Lock()
			s.calls = append(s.calls, call)
			s.mu.Unlock()
			text, err := json.Marshal(map[string]any{"tool": name, "args": call.Args})
			if err != nil {
				return nil, err
			}
			return mcp.NewToolResultText(string(text)), nil
		})
}

// Calls answers the tool calls seen so far.
func (s *MCPStub) Calls() []MCPCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Requests counts the HTTP requests seen so far.
func (s *MCPStub) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posts
}

// Close ends it, as a dead server would.
func (s *MCPStub) Close() {
	s.http.CloseClientConnections()
	s.http.Close()
}
