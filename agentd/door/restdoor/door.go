// Package restdoor offers the agent as plain REST below /api/v1/: messages to sessions (JSON, or server-sent events), what a session
// remembers, and the suspended runs that wait for a person's consent; /openapi.json describes it all. The app mounts it behind a front,
// which says who calls. It knows package run only.
package restdoor

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// The headers of answers.
const (
	HeaderRevision       = "X-Agentry-Revision"
	HeaderConfig         = "X-Agentry-Config"
	HeaderPreviousConfig = "X-Agentry-Previous-Config"
	HeaderPending        = "X-Agentry-Pending"
	HeaderMemory         = "X-Agentry-Memory"
	HeaderSession        = "X-Session-Id"
)

// DefaultBodyTimeout bounds how long a request's body may take to come.
const DefaultBodyTimeout = 30 * time.Second

// writeTimeout bounds one write to a caller who reads slowly.
const writeTimeout = 30 * time.Second

// storeTimeout bounds what a request asks of the memory and of the suspended runs.
const storeTimeout = 10 * time.Second

// Config is what the door needs. Runner is required.
type Config struct {
	Runner      *run.Runner
	BodyTimeout time.Duration
	KeepAlive   time.Duration                 // how long a stream is silent at most; 0: heartbeat.Every
	Propagator  propagation.TextMapPropagator // nil: W3C trace context
}

// Door is an http.Handler for everything below /api/v1/ and for /openapi.json. How large a body may be is the front's to say.
type Door struct {
	cfg     Config
	mux     *http.ServeMux
	openAPI map[string]json.RawMessage
}

// Patterns are what the app mounts.
func Patterns() []string { return []string{"/api/v1/", "/openapi.json"} }

// New makes a Door.
func New(cfg Config) (*Door, error) {
	if cfg.Runner == nil {
		return nil, errs.New(errs.Invalid, "rest door: no runner")
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = DefaultBodyTimeout
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	d := &Door{cfg: cfg, mux: http.NewServeMux()}
	if err := json.Unmarshal(description, &d.openAPI); err != nil {
		return nil, err
	}
	for path, methods := range map[string]map[string]http.HandlerFunc{
		"/api/v1/sessions":               {http.MethodGet: d.open(d.sessions)},
		"/api/v1/sessions/{id}":          {http.MethodDelete: d.open(d.forget)},
		"/api/v1/sessions/{id}/messages": {http.MethodGet: d.open(d.history), http.MethodPost: d.message},
		"/api/v1/approvals":              {http.MethodGet: d.approvals},
		"/api/v1/approvals/{id}":         {http.MethodGet: d.approval, http.MethodPost: d.decide, http.MethodDelete: d.abandon},
		"/openapi.json":                  {http.MethodGet: d.open(d.describe)},
	} {
		var allow []string
		for method, h := range methods {
			d.mux.HandleFunc(method+" "+path, h)
			allow = append(allow, method)
		}
		d.mux.HandleFunc(path, d.not(allow))
	}
	d.mux.HandleFunc("/", d.unknown)
	return d, nil
}

// ServeHTTP implements http.Handler. A body that comes too slowly ends the request, whether or not it is asked for.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout)) // not every writer has one
	d.mux.ServeHTTP(w, r)
}

func (d *Door) not(allow []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.stamp(w)
		w.Header().Set("Allow", strings.Join(allow, ", "))
		writeError(w, http.StatusMethodNotAllowed, Fault{Code: "method_not_allowed", Message: r.Method + " is not allowed here"})
	}
}

func (d *Door) unknown(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	writeError(w, http.StatusNotFound, Fault{Code: run.CodeNotFound, Message: "there is nothing at " + r.URL.Path})
}

// open lets a request in unless the config closes the door (expose.rest). Approvals stay open: what was asked through another door must
// be decided about somewhere.
func (d *Door) open(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, err := d.cfg.Runner.Serving(run.DoorREST)
		if err != nil {
			d.fail(w, err)
			return
		}
		setConfig(w, s.Revision, s.Config)
		if !s.Open {
			writeError(w, http.StatusNotFound, Fault{Code: run.CodeNotExposed, Message: "the agent does not answer here (expose.rest is off)"})
			return
		}
		next(w, r)
	}
}

// stamp puts the serving config on an answer that no Turn gives.
func (d *Door) stamp(w http.ResponseWriter) {
	if s, err := d.cfg.Runner.Serving(run.DoorREST); err == nil {
		setConfig(w, s.Revision, s.Config)
	}
}

func setConfig(w http.ResponseWriter, revision int64, config string) {
	w.Header().Set(HeaderRevision, strconv.FormatInt(revision, 10))
	w.Header().Set(HeaderConfig, config)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, `{"error":{"code":"internal","message":"the answer could not be written"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(b)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // the connection goes on to the next request
}
