package openaidoor

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/engine"
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

// headerRetry tells OpenAI's SDKs whether to send a failed request again by themselves.
const headerRetry = "X-Should-Retry"

// wireError is an error in OpenAI's shape; what follows Code is ours.
type wireError struct {
	Message  string        `json:"message"`
	Type     string        `json:"type"`
	Param    optional      `json:"param"`
	Code     string        `json:"code"`
	Attempts []wireAttempt `json:"attempts,omitempty"` // at model endpoints
	Used     *wireUsed     `json:"used,omitempty"`     // before the request failed
}

// optional is a string that is null where it is empty.
type optional string

// MarshalJSON writes it.
func (o optional) MarshalJSON() ([]byte, error) {
	if o == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(o))
}

type wireAttempt struct {
	Model     string `json:"model"`
	Status    int    `json:"status"`
	Error     string `json:"error"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

type wireUsed struct {
	Usage      *wireUsage `json:"usage"`
	Iterations int        `json:"iterations"`
	ToolCalls  int        `json:"tool_calls"`
	CostUSD    float64    `json:"cost_usd,omitempty"`
}

type errorBody struct {
	Error wireError `json:"error"`
}

func writeError(w http.ResponseWriter, status int, e wireError) {
	writeJSON(w, status, errorBody{e})
}

// Refuse answers what the front refuses, or the app.
func (d *Door) Refuse(w http.ResponseWriter, _ *http.Request, r front.Refusal) {
	e := wireError{Message: r.Message, Type: typeOf(r.Status), Code: r.Code}
	switch r.Code {
	case front.CodeUnauthenticated:
		e.Code = "invalid_api_key"
	case front.CodeRateLimited:
		e.Code = "rate_limit_exceeded"
	}
	writeError(w, r.Status, e)
}

// fail answers with err, before a stream began.
func (d *Door) fail(w http.ResponseWriter, err error) {
	status, e := wire(err)
	if again(status, e) {
		w.Header().Set("Retry-After", "1")
	} else {
		w.Header().Set(headerRetry, "false")
	}
	var failed *run.Error
	if errors.As(err, &failed) && failed.Pending != "" {
		w.Header().Set(HeaderPending, failed.Pending)
	}
	writeError(w, status, e)
}

// again tells whether it makes sense to send a request that failed once more: nothing was done for it, and that can change soon. An SDK
// would do so after every 5xx by itself, and each tool call of the request would be made once more.
func again(status int, e wireError) bool {
	return (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) && (e.Used == nil || e.Used.ToolCalls == 0)
}

// wire gives a run error's status and shape. 422 is what no retry mends; a model endpoint's failure is a 502 unless it says more.
func wire(err error) (int, wireError) {
	var e *run.Error
	if !errors.As(err, &e) {
		return errs.HTTPStatus(err), wireError{Message: err.Error(), Type: typeServer, Code: run.CodePanic}
	}
	out := wireError{Message: e.Message, Code: e.Code, Used: used(e.Result)}
	for _, a := range e.Attempts {
		out.Attempts = append(out.Attempts, wireAttempt{a.Model, a.Status, a.Err, a.Elapsed.Milliseconds()})
	}
	status := errs.HTTPStatus(err)
	switch {
	case e.Model:
		status = modelStatus(e.Code)
	case e.Code == run.CodeArguments:
		status = http.StatusBadGateway
	case e.Code == run.CodeMaxIterations, e.Code == run.CodeToolCalls, e.Code == run.CodeTokens, e.Code == run.CodeCost, e.Code == run.CodeSameCall:
		status = http.StatusUnprocessableEntity
	}
	out.Type = typeOf(status)
	return status, out
}

func used(r engine.Result) *wireUsed {
	if r.Iterations == 0 {
		return nil
	}
	return &wireUsed{Usage: usage(r.Usage), Iterations: r.Iterations, ToolCalls: len(r.Steps), CostUSD: r.Usage.CostUSD}
}

func typeOf(status int) string {
	switch {
	case status == http.StatusTooManyRequests:
		return typeRateLimit
	case status < 500:
		return typeInvalid
	default:
		return typeServer
	}
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
