package mcptool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/mark3labs/mcp-go/client/transport"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// Error is why a server can't be used.
type Error struct {
	Code phase.Code
	Err  error
}

// Error gives the text, such as "connect: dial tcp 127.0.0.1:9: connect: connection refused".
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

type textError string

func (e textError) Error() string { return string(e) }

var errClosed = &Error{Code: phase.Unreachable, Err: textError("the connection was closed")}

// exchangeError is a request that failed, with what was seen below the library.
type exchangeError struct {
	stage      string
	status     int
	rpc        bool
	rpcMessage string
	err        error
}

func (e *exchangeError) Error() string { return e.stage + ": " + e.err.Error() }
func (e *exchangeError) Unwrap() error { return e.err }

func (x *exchange) wrap(stage string, err error) error {
	return &exchangeError{stage: stage, status: int(x.status.Load()), rpc: x.rpc, rpcMessage: x.rpcMessage, err: err}
}

// fault classifies err (semantics.md 6) and takes every secret out of its text.
func (s *Server) fault(err error) *Error {
	var done *Error
	if errors.As(err, &done) {
		return done
	}
	f := &exchangeError{stage: "connect", err: err}
	_ = errors.As(err, &f)
	code, text := f.classify()
	return &Error{Code: code, Err: textError(f.stage + ": " + s.scrub(oneLine(text)))}
}

func (e *exchangeError) classify() (phase.Code, string) {
	var netErr net.Error
	var denied *egress.DeniedError
	switch {
	case errors.As(e.err, &denied):
		return phase.Invalid, denied.Error()
	case errors.Is(e.err, errElsewhere):
		return phase.Invalid, errElsewhere.Error()
	case errors.Is(e.err, errVersion):
		return phase.NotSupported, e.err.Error()
	case errors.Is(e.err, context.DeadlineExceeded):
		return phase.Timeout, "no answer in time"
	case e.rpc:
		return phase.NotMCP, "the server refuses: " + e.rpcMessage
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return phase.Unauthorized, statusText(e.status)
	case e.status == http.StatusTooManyRequests:
		return phase.RateLimited, statusText(e.status)
	case e.status >= 500:
		return phase.HTTP5xx, statusText(e.status)
	case e.status >= 300:
		return phase.NotMCP, statusText(e.status)
	case errors.As(e.err, &netErr) && netErr.Timeout():
		return phase.Timeout, root(e.err)
	case e.status == 0:
		return phase.Unreachable, root(e.err)
	default:
		return phase.NotMCP, root(e.err)
	}
}

func statusText(status int) string { return fmt.Sprintf("HTTP %d %s", status, http.StatusText(status)) }

// root gives the innermost telling message: no URL, no library prefix.
func root(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Error()
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	var t *transport.Error
	if errors.As(err, &t) {
		return t.Err.Error()
	}
	return err.Error()
}

func (s *Server) scrub(text string) string {
	for _, set := range []map[string]func() secret.Value{s.cfg.Headers, s.cfg.Query} {
		for _, value := range set {
			if raw := value().Reveal(); len(raw) >= 4 {
				text = strings.ReplaceAll(text, raw, secret.Redacted)
				text = strings.ReplaceAll(text, url.QueryEscape(raw), secret.Redacted)
			}
		}
	}
	return text
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 400 {
		s = strings.ToValidUTF8(s[:400], "") + "..."
	}
	return s
}
