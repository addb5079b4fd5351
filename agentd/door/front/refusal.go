package front

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// notServing says why to callers on this machine only: others can't show yet that they may know.
func notServing(w http.ResponseWriter, r *http.Request, err error) *Refusal {
	out := &Refusal{Status: errs.HTTPStatus(err), Code: run.CodeNotServing, Message: "the agent does not serve yet, or no more"}
	if peerOf(r).IsLoopback() {
		out.Message = err.Error()
	}
	var e *run.Error
	if errors.As(err, &e) {
		out.Code = e.Code
	}
	if out.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	return out
}

func unauthenticated(w http.ResponseWriter, challenge, message string) *Refusal {
	w.Header().Set("WWW-Authenticate", challenge)
	return &Refusal{Status: http.StatusUnauthorized, Code: CodeUnauthenticated, Message: message}
}

func forbidden(format string, args ...any) *Refusal {
	return &Refusal{Status: http.StatusForbidden, Code: CodeForbidden, Message: fmt.Sprintf(format, args...)}
}

func tooLarge(limit int64) *Refusal {
	return &Refusal{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge, Message: fmt.Sprintf("the request is larger than %d bytes", limit)}
}
