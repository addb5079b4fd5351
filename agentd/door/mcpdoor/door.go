// Package mcpdoor offers the agent as an MCP server at /mcp (streamable HTTP): one tool, named after the agent, that takes a message and
// gives the answer. The app mounts it behind a front, which says who calls and judges origins. mcp-go speaks the protocol, in all its
// versions; the door reads what comes first, so that nothing large or odd gets to it, and keeps what spans requests: sessions of the
// protocol and the cancelling of calls. A session of the protocol is only a name for calls that may be cancelled: any instance goes on with
// it. What the agent remembers goes by the tool's session_id.
package mcpdoor

import (
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/mark3labs/mcp-go/mcp"
	"github.com/mark3labs/mcp-go/server"
	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// Path is where the app mounts the door.
const Path = "/mcp"

// The headers of answers.
const (
	HeaderSession  = server.HeaderKeySessionID
	HeaderRevision = "X-Agentry-Revision"
	HeaderConfig   = "X-Agentry-Config"
)

// DefaultBodyTimeout bounds how long a request's body may take to come.
const DefaultBodyTimeout = 30 * time.Second

// writeTimeout bounds one write to a caller who reads slowly.
const writeTimeout = 30 * time.Second

// Config is what the door needs. Runner and Agent are required.
type Config struct {
	Runner      *run.Runner
	Agent       string // the tool's name
	Version     string // of agentd
	BodyTimeout time.Duration
	Propagator  propagation.TextMapPropagator // nil: W3C trace context
}

// Door is an http.Handler for /mcp.
type Door struct {
	cfg      Config
	protocol *server.StreamableHTTPServer
	calls    *calls
}

// New makes a Door.
func New(cfg Config) (*Door, error) {
	if cfg.Runner == nil || cfg.Agent == "" {
		return nil, errs.New(errs.Invalid, "mcp door: no runner, or no agent")
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = DefaultBodyTimeout
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	d := &Door{cfg: cfg, calls: newCalls()}
	s := server.NewMCPServer(cfg.Agent, cfg.Version, server.WithToolCapabilities(false), server.WithRecovery(), server.WithToolFilter(d.tools))
	s.AddTool(mcp.NewToolWithRawSchema(cfg.Agent, "", json.RawMessage(inputSchema)), d.call)
	d.protocol = server.NewStreamableHTTPServer(s,
		server.WithStateLess(true),                                     // each request is served alone; mcp-go would keep sessions without a bound
		server.WithDisableLocalhostProtection(true),                    // the front judges names and origins
		server.WithStreamableHTTPLogger(slog.New(slog.DiscardHandler)), // of callers who went away
	)
	return d, nil
}

// ServeHTTP implements http.Handler. A body that comes too slowly ends the request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout)) // not every writer has one
	face, err := d.cfg.Runner.Face(run.DoorMCP)
	if err != nil {
		writeError(w, errs.HTTPStatus(err), nil, codeUnavailable, err.Error())
		return
	}
	w.Header().Set(HeaderRevision, strconv.FormatInt(face.Revision, 10))
	w.Header().Set(HeaderConfig, face.Config)
	switch {
	case !face.Open:
		writeError(w, http.StatusNotFound, nil, mcp.INVALID_REQUEST, "the agent does not answer here (expose.mcp is off)")
	case r.Method == http.MethodPost:
		out := &bounded{ResponseWriter: w, rc: rc}
		defer out.lift()
		d.post(out, r, face)
	case r.Method == http.MethodDelete && !mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion)):
		d.end(w, r)
	default: // no stream of its own: what a call has to tell comes with its answer
		allow := []string{http.MethodPost}
		if !mcp.IsModernProtocol(r.Header.Get(mcp.HeaderProtocolVersion)) {
			allow = append(allow, http.MethodDelete)
		}
		w.Header().Set("Allow", strings.Join(allow, ", "))
		writeError(w, http.StatusMethodNotAllowed, nil, mcp.INVALID_REQUEST, r.Method+" is not allowed here")
	}
}

// end cancels what runs in a session of the protocol and forgets it.
func (d *Door) end(w http.ResponseWriter, r *http.Request) {
	id := r.Header.Get(HeaderSession)
	switch {
	case id == "":
		writeError(w, http.StatusBadRequest, nil, mcp.INVALID_REQUEST, HeaderSession+" is missing")
	case !ours(id) || d.calls.ended(id):
		writeError(w, http.StatusNotFound, nil, mcp.INVALID_REQUEST, "there is no such session")
	default:
		d.calls.end(front.CallerOf(r.Context()).Principal, id)
		w.WriteHeader(http.StatusNoContent)
	}
}

const sessionPrefix = "agentry-"

// newSession names a session of the protocol.
func newSession() string { return sessionPrefix + rand.Text() }

// ours reports whether the door may have named a session, here or at another instance.
func ours(id string) bool {
	return strings.HasPrefix(id, sessionPrefix) && len(id) == len(sessionPrefix)+len("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// bounded ends a write to a caller who doesn't read, and keeps back the answer to a call that was cancelled by name: the protocol wants none.
type bounded struct {
	http.ResponseWriter

	rc    *http.ResponseController
	call  *underway // nil: no tool call
	begun bool
}

// WriteHeader implements http.ResponseWriter.
func (b *bounded) WriteHeader(status int) {
	if b.begun { // by progress, which came before mcp-go's own
		return
	}
	if b.begun = true; b.gone() {
		b.Header().Del("Content-Type")
		status = http.StatusAccepted
	}
	b.ResponseWriter.WriteHeader(status)
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if !b.begun {
		b.WriteHeader(http.StatusOK)
	}
	if b.gone() {
		return len(p), nil
	}
	_ = b.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	return b.ResponseWriter.Write(p)
}

func (b *bounded) gone() bool { return b.call != nil && b.call.gone.Load() }

// Flush implements http.Flusher.
func (b *bounded) Flush() { _ = b.rc.Flush() } // who is gone is noticed elsewhere

// lift takes the deadline away: the connection goes on to the next request.
func (b *bounded) lift() { _ = b.rc.SetWriteDeadline(time.Time{}) }
