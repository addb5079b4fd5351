package probe

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

// exchangeError is a request that failed, with what was seen below the library.
type exchangeError struct {
	stage  string
	status int
	rpc    string
	err    error
}

// Error gives the text.
func (e *exchangeError) Error() string { return e.stage + ": " + e.err.Error() }

// Unwrap gives the cause.
func (e *exchangeError) Unwrap() error { return e.err }

func (x *exchange) wrap(stage string, err error) error {
	return &exchangeError{stage: stage, status: int(x.status.Load()), rpc: x.rpc, err: err}
}

// classify names a failure as instances do (semantics.md 6), without any secret in its text.
func (t Target) classify(ctx context.Context, err error) (phase.Code, string) {
	f := &exchangeError{stage: "connect", err: err}
	_ = errors.As(err, &f)
	code, text := f.classify(ctx)
	return code, f.stage + ": " + t.scrub(oneLine(text))
}

func (e *exchangeError) classify(ctx context.Context) (phase.Code, string) {
	var netErr net.Error
	var denied *egress.DeniedError
	switch {
	case errors.Is(e.err, errVersion):
		return phase.NotSupported, e.err.Error()
	case errors.As(e.err, &denied):
		return phase.Invalid, denied.Error()
	case ctx.Err() != nil, errors.Is(e.err, context.DeadlineExceeded):
		return phase.Timeout, "no answer in time"
	case e.rpc != "":
		return phase.NotMCP, e.rpc
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

func (t Target) scrub(text string) string {
	for _, set := range []map[string]secret.Value{t.Headers, t.Query} {
		for _, value := range set {
			if raw := value.Reveal(); len(raw) >= 4 {
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
