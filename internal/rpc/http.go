package rpc

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// HTTPConfig is what NewHTTPServer needs.
type HTTPConfig struct {
	Logger  *slog.Logger
	Handler http.Handler
	// TLS is nil for plaintext, where HTTP/2 is spoken without it (h2c) so that gRPC clients work.
	TLS *tls.Config
}

// NewHTTPServer makes the HTTP server of a door: HTTP/1.1 and HTTP/2, bounded headers, no limit on how long an answer
// may stream. Whoever calls Serve also calls Shutdown. A panic in a handler is a 500 and a line in the log.
func NewHTTPServer(cfg HTTPConfig) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(cfg.TLS == nil)
	return &http.Server{
		Handler:           Recover(cfg.Logger, cfg.Handler),
		TLSConfig:         cfg.TLS,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 1000,
			SendPingTimeout:      pingAfter,
			PingTimeout:          pingTimeout,
		},
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
}

// Recover turns a handler's panic into a 500, where nothing was answered yet, and a line in the log.
func Recover(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			panicked := recover()
			if panicked == nil {
				return
			}
			if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(panicked) // net/http's own way to cut an answer off
			}
			logPanic(r.Context(), log, r.URL.Path, panicked)
			http.Error(w, internalMessage, http.StatusInternalServerError)
		}()
		next.ServeHTTP(w, r)
	})
}

// Authenticated lets a plain HTTP handler be asked for by callers that auth lets in; others get 401 or 403.
func Authenticated(auth Auth, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, err := auth(withHeader(r.Context(), r.Header), r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), errs.HTTPStatus(err))
			return
		}
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}
