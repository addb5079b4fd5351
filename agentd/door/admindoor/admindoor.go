// Package admindoor is agentd's door for operators: health, readiness, metrics, what is really loaded, drain. app mounts it
// beside the other doors. It decides nothing and shows no secret.
package admindoor

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// Config is what the door shows and does. All of it is required and may be called from many goroutines.
type Config struct {
	// Ready says whether requests are served, and else why not.
	Ready func() (reason string, ok bool)
	// Dump gives what is loaded, as something that can be marshalled to JSON.
	Dump func() any
	// Drain begins to drain the instance: it isn't ready from then on. It returns at once; twice is once.
	Drain func()
	// Metrics answers in Prometheus' format.
	Metrics http.Handler
	Log     *slog.Logger
}

// Door answers /healthz, /readyz, /metrics and, to callers on this machine only, /admin/config and /admin/drain.
type Door struct {
	cfg Config
	mux *http.ServeMux
}

var _ http.Handler = (*Door)(nil)

// New makes a Door.
func New(cfg Config) (*Door, error) {
	if cfg.Ready == nil || cfg.Dump == nil || cfg.Drain == nil || cfg.Metrics == nil || cfg.Log == nil {
		return nil, errs.New(errs.Invalid, "admin door: ready, dump, drain, metrics and log are needed")
	}
	d := &Door{cfg: cfg, mux: http.NewServeMux()}
	d.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, "ok") })
	d.mux.HandleFunc("GET /readyz", d.ready)
	d.mux.Handle("GET /metrics", cfg.Metrics)
	d.mux.Handle("GET /admin/config", localOnly(d.config))
	d.mux.Handle("POST /admin/drain", localOnly(d.drain))
	return d, nil
}

// Patterns lists the paths to mount the door at.
func Patterns() []string { return []string{"/healthz", "/readyz", "/metrics", "/admin/"} }

// bodyTimeout bounds how long the body that nobody asked for may take to come.
const bodyTimeout = 5 * time.Second

// ServeHTTP answers one request.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer has one
	d.mux.ServeHTTP(w, r)
}

func (d *Door) ready(w http.ResponseWriter, r *http.Request) {
	reason, ok := d.cfg.Ready()
	switch {
	case !ok && !local(r):
		text(w, http.StatusServiceUnavailable, "not ready") // why is nobody else's business
		return
	case !ok:
		text(w, http.StatusServiceUnavailable, reason)
		return
	}
	text(w, http.StatusOK, "ready")
}

func (d *Door) config(w http.ResponseWriter, r *http.Request) {
	b, err := json.MarshalIndent(d.cfg.Dump(), "", "  ")
	if err != nil {
		d.cfg.Log.LogAttrs(r.Context(), slog.LevelError, "config dump", slog.Any("error", err))
		text(w, http.StatusInternalServerError, "internal error; see the log")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(b, '\n'))
}

func (d *Door) drain(w http.ResponseWriter, r *http.Request) {
	d.cfg.Log.LogAttrs(r.Context(), slog.LevelInfo, "drain asked at the admin door")
	d.cfg.Drain()
	text(w, http.StatusAccepted, "draining")
}

// localOnly lets callers on this machine through, and only those that name it: a page in a browser can't.
func localOnly(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) || !localHost(r.Host) {
			text(w, http.StatusForbidden, "only from this machine")
			return
		}
		next(w, r)
	})
}

// local reports whether the caller is on this machine.
func local(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && peer.Addr().Unmap().IsLoopback()
}

func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, s+"\n")
}
