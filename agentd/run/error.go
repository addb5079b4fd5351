package run

import (
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/errs"
)

// The codes of an Error beside those of package phase and of a model ("context_length", "content_filter").
const (
	CodeNotServing    = "not_serving"
	CodeNotExposed    = "not_exposed"
	CodeInvalid       = "invalid_request"
	CodeConcurrency   = "concurrency"
	CodeMemory        = "memory_unavailable"
	CodePending       = "pending" // the session has a run that waits; Error.Pending names it
	CodeDecided       = "decided" // somebody decided about the run before
	CodeExpired       = "expired" // the run waited too long
	CodeSession       = "session_busy"
	CodePendingStore  = "pending_unavailable"
	CodeNotFound      = "not_found"
	CodeCost          = string(engine.ByCost)
	CodeSameCall      = string(engine.BySameCall)
	CodeMaxIterations = string(engine.ByMaxIterations)
	CodeToolCalls     = string(engine.ByToolCalls)
	CodeTokens        = string(engine.ByTokens)
	CodeDeadline      = string(engine.ByDeadline)
	CodeCanceled      = string(engine.ByCancel)
	CodeArguments     = engine.CodeArguments
	CodePanic         = "internal"
)

// Attempt is one try at a model endpoint.
type Attempt struct {
	Model   string
	Status  int // HTTP status; 0: no answer
	Err     string
	Elapsed time.Duration
}

// Error is a request that did not end by an answer. Result tells what was done before.
type Error struct {
	Code     string
	Message  string
	Model    bool // the model endpoint is at fault
	Attempts []Attempt
	Result   engine.Result
	Pending  string // of CodePending: the run that waits
	kind     errs.Kind
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// Unwrap gives an error with the kind on which callers act.
func (e *Error) Unwrap() error { return errs.New(e.kind, "%s", e.Message) }

func fail(kind errs.Kind, code, message string) *Error {
	return &Error{Code: code, Message: message, kind: kind}
}

// failed makes the error of a request that ended otherwise than by an answer.
func failed(res engine.Result, cause *model.Error) *Error {
	e := &Error{Code: string(res.End), Message: res.Message, Result: res, kind: errs.Exhausted}
	switch res.End {
	case engine.ByAnswer, engine.BySuspend, engine.ByReject, engine.ByGiveUp: // no errors
	case engine.ByMaxIterations, engine.ByToolCalls, engine.ByTokens, engine.ByCost, engine.BySameCall:
	case engine.ByDeadline:
		e.kind = errs.Timeout
	case engine.ByCancel:
		e.kind = errs.Canceled
	case engine.ByFault:
		e.Code, e.kind = res.Code, errs.Unavailable
		if cause != nil {
			e.Model = true
			for _, a := range cause.Attempts {
				e.Attempts = append(e.Attempts, Attempt(a))
			}
		}
	}
	return e
}
