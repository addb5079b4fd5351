// Package openaidoor offers the agent as an OpenAI-compatible endpoint: POST /v1/chat/completions, GET /v1/models and
// /v1/models/{id}. The app mounts it; every SDK, Dify, n8n, LibreChat or Open WebUI plugs in with a base URL. It knows package run only.
//
// The caller's `model` may be anything: the agent answers, under its own name. Sampling parameters (temperature, seed, max_tokens,
// max_completion_tokens, ...) are the agent's own; the caller's are ignored like unknown fields, and so is `user`, which binds nothing.
// `tools` are refused: the agent calls its own. A request whose tool calls need somebody's consent is answered by a completion that says so.
package openaidoor

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// The headers of every answer.
const (
	HeaderRevision       = "X-Agentry-Revision"
	HeaderConfig         = "X-Agentry-Config"
	HeaderPreviousConfig = "X-Agentry-Previous-Config"
	HeaderSession        = "X-Session-Id"
	HeaderPending        = "X-Agentry-Pending" // the run that waits for somebody's consent
	HeaderMemory         = "X-Agentry-Memory"  // "unavailable": the session's memory is gone, the answer was made without it
)

// DefaultBodyTimeout bounds the time that a request's body may take to come.
const DefaultBodyTimeout = 30 * time.Second

// writeTimeout bounds one write to a caller who reads slowly.
const writeTimeout = 30 * time.Second

// Config is what the door needs. Runner is required.
type Config struct {
	Runner      *run.Runner
	MaxBody     int64 // bytes of a request, beside the front's own bound; 0: none
	BodyTimeout time.Duration
	KeepAlive   time.Duration                 // how long a stream is silent at most; 0: heartbeat.Every
	Propagator  propagation.TextMapPropagator // nil: W3C trace context
}

// Door is an http.Handler for everything below /v1/.
type Door struct {
	cfg Config
	mux *http.ServeMux
}

// New makes a Door.
func New(cfg Config) (*Door, error) {
	if cfg.Runner == nil {
		return nil, errs.New(errs.Invalid, "openai door: no runner")
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = DefaultBodyTimeout
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	d := &Door{cfg: cfg, mux: http.NewServeMux()}
	d.mux.HandleFunc("POST /v1/chat/completions", d.chat)
	d.mux.HandleFunc("/v1/chat/completions", d.only(http.MethodPost))
	d.mux.HandleFunc("GET /v1/models", d.models)
	d.mux.HandleFunc("GET /v1/models/{id...}", d.model)
	d.mux.HandleFunc("/v1/", d.unknown)
	return d, nil
}

// ServeHTTP implements http.Handler. A body that comes too slowly ends the request, whether or not it is asked for.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(d.cfg.BodyTimeout)) // not every writer has one
	d.mux.ServeHTTP(w, r)
}

func (d *Door) only(method string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.stamp(w)
		w.Header().Set("Allow", method)
		writeError(w, http.StatusMethodNotAllowed, wireError{Message: r.Method + " is not allowed here", Type: typeInvalid, Code: "method_not_allowed"})
	}
}

func (d *Door) unknown(w http.ResponseWriter, r *http.Request) {
	d.stamp(w)
	writeError(w, http.StatusNotFound, wireError{Message: "there is nothing at " + r.URL.Path + " (POST /v1/chat/completions, GET /v1/models)", Type: typeInvalid, Code: "not_found"})
}

// stamp puts the serving config on an answer that no Turn gives.
func (d *Door) stamp(w http.ResponseWriter) {
	if s, err := d.cfg.Runner.Serving(run.DoorOpenAI); err == nil {
		setConfig(w, s.Revision, s.Config)
	}
}

func setConfig(w http.ResponseWriter, revision int64, config string) {
	w.Header().Set(HeaderRevision, strconv.FormatInt(revision, 10))
	w.Header().Set(HeaderConfig, config)
}

type wireModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// serving answers itself where there is nothing to serve.
func (d *Door) serving(w http.ResponseWriter) (wireModel, bool) {
	s, err := d.cfg.Runner.Serving(run.DoorOpenAI)
	if err != nil {
		d.fail(w, err)
		return wireModel{}, false
	}
	setConfig(w, s.Revision, s.Config)
	if !s.Open {
		writeError(w, http.StatusNotFound, wireError{Message: "the agent does not answer here (expose.openai is off)", Type: typeInvalid, Code: run.CodeNotExposed})
		return wireModel{}, false
	}
	return wireModel{ID: s.Agent, Object: "model", OwnedBy: "agentry"}, true
}

func (d *Door) models(w http.ResponseWriter, _ *http.Request) {
	if m, ok := d.serving(w); ok {
		writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []wireModel{m}})
	}
}

func (d *Door) model(w http.ResponseWriter, r *http.Request) {
	m, ok := d.serving(w)
	if !ok {
		return
	}
	if r.PathValue("id") != m.ID {
		writeError(w, http.StatusNotFound, wireError{Message: "there is no model " + strconv.Quote(r.PathValue("id")) + " here, only " + strconv.Quote(m.ID), Type: typeInvalid, Param: "model", Code: "model_not_found"})
		return
	}
	writeJSON(w, http.StatusOK, m)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, `{"error":{"message":"internal","type":"server_error"}}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b)
}
