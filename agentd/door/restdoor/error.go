package restdoor

import (
	"errors"
	"net/http"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// Fault is an error as callers see it.
type Fault struct {
	Code     string    `json:"code"`
	Message  string    `json:"message"`
	Field    string    `json:"field,omitempty"`   // of the request
	Pending  string    `json:"pending,omitempty"` // of code pending: the run that the session waits for
	Attempts []attempt `json:"attempts,omitempty"`
	Usage    *usage    `json:"usage,omitempty"` // what was used until then
}

type attempt struct {
	Model     string `json:"model"`
	Status    int    `json:"status"`
	Error     string `json:"error"`
	ElapsedMS int64  `json:"elapsedMs"`
}

type errorBody struct {
	Error Fault `json:"error"`
}

func writeError(w http.ResponseWriter, status int, f Fault) {
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		if w.Header().Get("Retry-After") == "" {
			w.Header().Set("Retry-After", "1")
		}
	}
	writeJSON(w, status, errorBody{f})
}

// Refuse answers what a front refused, in this door's shape.
func Refuse(w http.ResponseWriter, _ *http.Request, r front.Refusal) {
	writeError(w, r.Status, Fault{Code: r.Code, Message: r.Message})
}

// fail answers with err, before a stream began.
func (d *Door) fail(w http.ResponseWriter, err error) {
	status, f := wire(err)
	writeError(w, status, f)
}

// wire gives an error's status and shape. 422 is what no retry mends; a model endpoint's failure is a 502 unless it says more.
func wire(err error) (int, Fault) {
	var e *run.Error
	if !errors.As(err, &e) {
		return errs.HTTPStatus(err), Fault{Code: codeOf(err), Message: err.Error()}
	}
	f := Fault{Code: e.Code, Message: e.Message, Pending: e.Pending}
	for _, a := range e.Attempts {
		f.Attempts = append(f.Attempts, attempt{a.Model, a.Status, a.Err, a.Elapsed.Milliseconds()})
	}
	if e.Result.Usage.Total() > 0 {
		f.Usage = usageOf(e.Result.Usage)
	}
	switch {
	case e.Model:
		return modelStatus(e.Code), f
	case e.Code == run.CodeArguments:
		return http.StatusBadGateway, f
	case e.Code == run.CodeMaxIterations, e.Code == run.CodeToolCalls, e.Code == run.CodeTokens, e.Code == run.CodeCost, e.Code == run.CodeSameCall:
		return http.StatusUnprocessableEntity, f
	default:
		return errs.HTTPStatus(err), f
	}
}

// codeOf names an error that is not a run's own.
func codeOf(err error) string {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return run.CodeNotFound
	case errs.Invalid, errs.OutOfRange:
		return run.CodeInvalid
	case errs.Conflict, errs.Exists, errs.Precondition:
		return "conflict"
	case errs.Unavailable, errs.Timeout:
		return "unavailable"
	case errs.Exhausted:
		return "exhausted"
	case errs.Unsupported:
		return "unsupported"
	default:
		return run.CodePanic
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
