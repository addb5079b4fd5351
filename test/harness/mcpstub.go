package harness

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
)

// MCPStub is a stub MCP server over real HTTP that records what it saw. Several may run in one process.
type MCPStub struct {
	URL string // of the MCP endpoint

	http *httptest.Server
	mcp  *server.MCPServer

	mu    sync.Mutex // guards what follows
	calls []MCPCall
	posts int
	guard func(http.Header) bool
}

// MCPCall is one tool call as the server saw it.
type MCPCall struct {
	At      time.Time
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
		guard := s.guard
		s.mu.Unlock()
		if guard != nil && !guard(r.Header) {
			http.Error(w, "the key is not valid", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	})
	s.http = httptest.NewServer(mux)
	s.URL = s.http.URL + "/mcp"
	return s
}

// AddTool adds (or replaces) a tool while serving.
func (s *MCPStub) AddTool(name string) { s.Redefine(name, "Stub tool "+name) }

// Redefine adds a tool, or replaces it by one with another description, while serving.
func (s *MCPStub) Redefine(name, description string) {
	s.mcp.AddTool(mcp.NewTool(name, mcp.WithDescription(description), mcp.WithString("q")),
		func(ctx context.Context, r mcp.CallToolRequest) (*mcp.CallToolResult, error) {
			call := MCPCall{At: time.Now(), Tool: name, Args: r.GetArguments()}
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

// TakeCalls answers the tool calls seen since the last TakeCalls, and forgets them.
func (s *MCPStub) TakeCalls() []MCPCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// Guard answers 401 to every request whose headers f doesn't let in, from now on. f is called from many goroutines.
func (s *MCPStub) Guard(f func(http.Header) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guard = f
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
