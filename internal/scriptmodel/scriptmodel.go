// Package scriptmodel is a scripted model server: an OpenAI-compatible HTTP handler whose every answer comes from
// rules that a person wrote. It lets specs, demos and tests run without paying and without a network. Tests and
// agentctl serve it; it never thinks, and it never calls itself a language model: its Server header, its banner
// and the owner of its models all say "scripted".
package scriptmodel

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
)

// Banner is what GET / answers, and what the Server header begins with.
const Banner = "scripted model server (agentry): answers come from a script, not from a language model"

// maxBody bounds a request, in bytes; a longer one is answered 413.
const maxBody = 8 << 20

// Server answers chat completions, the Responses API, embeddings and the model list from a Script. It is an http.Handler, safe for
// use by many goroutines.
type Server struct {
	mux  *http.ServeMux
	done chan struct{}
	once sync.Once
	seen recorder

	// mu guards script and hits; nothing blocks under it.
	mu     sync.Mutex
	script Script
	hits   []int // how often each rule's fault was used
}

var _ http.Handler = (*Server)(nil)

// New makes a server. A script without rules is replaced by DefaultScript.
func New(s Script) *Server {
	srv := &Server{mux: http.NewServeMux(), done: make(chan struct{})}
	srv.SetScript(s)
	srv.mux.HandleFunc("POST /v1/chat/completions", srv.chat)
	srv.mux.HandleFunc("POST /v1/responses", srv.responses)
	srv.mux.HandleFunc("POST /v1/embeddings", srv.embeddings)
	srv.mux.HandleFunc("GET /v1/models", srv.models)
	srv.mux.HandleFunc("GET /_seen", loopbackOnly(srv.listSeen))
	srv.mux.HandleFunc("DELETE /_seen", loopbackOnly(srv.clearSeen))
	srv.mux.HandleFunc("GET /healthz", banner)
	srv.mux.HandleFunc("GET /{$}", banner)
	srv.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "not_found", "the scripted model server has no "+r.Method+" "+r.URL.Path)
	})
	return srv
}

// SetScript replaces the rules for the requests that come after it, and forgets how often faults were used.
func (s *Server) SetScript(script Script) {
	if len(script.Rules) == 0 {
		fallback := DefaultScript()
		fallback.Models = script.Models
		if script.Default != nil {
			fallback.Rules, fallback.Default = nil, script.Default
		}
		script = fallback
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script, s.hits = script, make([]int, len(script.Rules))
}

// Close ends every half-open answer, so that the HTTP server around it can stop. Safe twice.
func (s *Server) Close() { s.once.Do(func() { close(s.done) }) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "agentry scripted model server")
	s.mux.ServeHTTP(w, r)
}

func banner(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(Banner + "\n"))
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	type model struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
	}
	s.mu.Lock()
	names := s.script.Models
	s.mu.Unlock()
	if len(names) == 0 {
		names = []string{"scripted"}
	}
	out := struct {
		Object string  `json:"object"`
		Data   []model `json:"data"`
	}{Object: "list", Data: make([]model, 0, len(names))}
	for _, n := range names {
		out.Data = append(out.Data, model{ID: n, Object: "model", OwnedBy: "scripted"})
	}
	writeJSON(w, http.StatusOK, out)
}

// loopbackOnly refuses callers from elsewhere, and browsers led here by a foreign name: what was seen holds keys.
func loopbackOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLoopback(r.RemoteAddr) || !isLoopback(r.Host) {
			writeError(w, http.StatusForbidden, "forbidden", "what was seen is shown to loopback only")
			return
		}
		next(w, r)
	}
}

func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that left is no error of ours
}

// writeError answers in the shape of the OpenAI API.
func writeError(w http.ResponseWriter, status int, code, message string) {
	var body struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	body.Error.Message, body.Error.Type, body.Error.Code = message, errorType(status), code
	writeJSON(w, status, body)
}

func errorType(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	default:
		return "invalid_request_error"
	}
}
