package openaidoor

import (
	"errors"
	"net/http"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// The error types that OpenAI's SDKs know.
const (
	typeInvalid   = "invalid_request_error"
	typeRateLimit = "rate_limit_error"
	typeServer    = "server_error"
)

// wireError is an error in OpenAI's shape; attempts is ours.
type wireError struct {
	Message  string        `json:"message"`
	Type     string        `json:"type"`
	Param    string        `json:"param,omitempty"`
	Code     string        `json:"code"`
	Attempts []wireAttempt `json:"attempts,omitempty"`
}

type wireAttempt struct {
	Model     string `json:"model"`
	Status    int    `json:"status"`
	Error     string `json:"error"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

type errorBody struct {
	Error wireError `json:"error"`
}

func writeError(w http.ResponseWriter, status int, e wireError) {
	writeJSON(w, status, errorBody{e})
}

// fail answers with err, before a stream began.
func (d *Door) fail(w http.ResponseWriter, err error) {
	status, e := wire(err)
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, status, e)
}

// wire gives a run error's status and shape. 422 is what no retry mends; a model endpoint's failure is a 502 unless it says more.
func wire(err error) (int, wireError) {
	var e *run.Error
	if !errors.As(err, &e) {
		return errs.HTTPStatus(err), wireError{Message: err.Error(), Type: typeServer, Code: run.CodePanic}
	}
	out := wireError{Message: e.Message, Code: e.Code, Type: typeServer}
	for _, a := range e.Attempts {
		out.Attempts = append(out.Attempts, wireAttempt{a.Model, a.Status, a.Err, a.Elapsed.Milliseconds()})
	}
	status := errs.HTTPStatus(err)
	switch {
	case e.Model:
		status = modelStatus(e.Code)
	case e.Code == run.CodeArguments:
		status = http.StatusBadGateway
	case e.Code == run.CodeMaxIterations, e.Code == run.CodeToolCalls, e.Code == run.CodeTokens:
		status = http.StatusUnprocessableEntity
	}
	switch {
	case status == http.StatusTooManyRequests:
		out.Type = typeRateLimit
	case status < 500:
		out.Type = typeInvalid
	}
	return status, out
}

func modelStatus(code string) int {
	switch code {
	case string(phase.RateLimited):
		return http.StatusTooManyRequests
	case string(phase.Timeout):
		return http.StatusGatewayTimeout
	case "context_length", "content_filter":
		return http.StatusBadRequest
	default:
		return http.StatusBadGateway
	}
}
