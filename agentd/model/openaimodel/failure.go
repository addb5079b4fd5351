package openaimodel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/phase"
)

// The codes that only a model gives.
const (
	codeContextLength = "context_length"
	codeContentFilter = "content_filter"
)

// failure is one attempt's end, classified.
type failure struct {
	code       string
	message    string
	status     int
	retryable  bool
	retryAfter time.Duration
	spent      *model.Usage // by an answer that broke off
	learnt     bool         // the next attempt asks in another way
	unsent     bool         // the endpoint was not asked
}

// classify names what went wrong; actx is the attempt's context, whose cause tells its own timeouts apart.
func classify(actx context.Context, x *exchange, err error) *failure {
	f := &failure{status: x.status}
	var refused *refusal
	var proto *protocolError
	var netErr net.Error
	var denied *egress.DeniedError
	var here *unsentError
	switch cause := context.Cause(actx); {
	case errors.Is(cause, errTimeout), errors.Is(cause, errIdle):
		f.set(phase.Timeout, cause.Error())
	case errors.As(err, &here):
		f.unsent = true
		f.set(phase.Invalid, here.text)
	case errors.As(err, &denied):
		f.set(phase.Invalid, denied.Error())
	case errors.As(err, &refused):
		f.fromRefusal(x, refused)
	case errors.As(err, &proto), errors.Is(err, errTooLarge), errors.Is(err, errCalls):
		f.set(phase.Invalid, err.Error())
	case errors.Is(err, errBrokenStream), errors.Is(err, errTruncated):
		f.set(phase.Unreachable, err.Error())
	case errors.As(err, &netErr) && netErr.Timeout():
		f.set(phase.Timeout, err.Error())
	default: // what an endpoint says wrong has a type of its own: this is the connection
		f.set(phase.Unreachable, err.Error())
	}
	f.retryAfter = parseRetryAfter(x.retryAfter)
	if ms, err := strconv.ParseFloat(x.retryAfterMS, 64); err == nil && ms > 0 && ms < 1e9 {
		f.retryAfter = time.Duration(ms * float64(time.Millisecond))
	}
	return f
}

func (f *failure) set(code phase.Code, message string) {
	f.code, f.message, f.retryable = string(code), message, code.Retryable()
}

// fromRefusal reads what the server said: with an HTTP status, or in the middle of a stream without one.
func (f *failure) fromRefusal(x *exchange, e *refusal) {
	kind := e.Code
	if kind == "" {
		kind = e.Type
	}
	status := e.status
	if status == 0 && x.status < 300 { // inside a stream, or in place of an answer
		status = http.StatusInternalServerError
		if n, err := strconv.Atoi(kind); err == nil && n >= 400 {
			status = n
		} else if strings.Contains(kind, "rate_limit") {
			status = http.StatusTooManyRequests
		}
	}
	f.fromStatus(status, oneLine(e.Message))
	kind = strings.ToLower(kind)
	switch {
	case oneOf(kind, "context_length"), (status == http.StatusBadRequest || status == http.StatusRequestEntityTooLarge) && oneOf(strings.ToLower(e.Message), tooLong...):
		f.code, f.retryable = codeContextLength, false
	case oneOf(kind, "content_filter", "content_policy", "data_inspection", "datainspection"):
		f.code, f.retryable = codeContentFilter, false
	case status == http.StatusPaymentRequired, oneOf(kind, "arrearage"):
		f.set(phase.Unauthorized, f.message)
	case oneOf(kind, "insufficient_quota", "exceeded_current_quota"):
		f.retryable = false
	}
}

// tooLong is how servers without a code for it say that a request doesn't fit: OpenAI, vLLM and DeepSeek; llama.cpp; Kimi; Gemini; Mistral; Qwen.
var tooLong = []string{ //nolint:gochecknoglobals // a constant
	"maximum context length", "context size", "context window", "exceeded model token limit", "exceeds the maximum number of tokens",
	"too large for model with", "range of input length",
}

func oneOf(s string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(s, p) })
}

func (f *failure) fromStatus(status int, message string) {
	if message == "" {
		message = http.StatusText(status)
	}
	message = fmt.Sprintf("HTTP %d: %s", status, message)
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		f.set(phase.Unauthorized, message)
	case status == http.StatusTooManyRequests:
		f.set(phase.RateLimited, message)
	case status == http.StatusRequestTimeout:
		f.set(phase.Timeout, message)
	case status >= 500:
		f.set(phase.HTTP5xx, message)
	default:
		f.set(phase.Invalid, message)
	}
}

// parseRetryAfter reads seconds (fractions too) or an HTTP date; 0: none.
func parseRetryAfter(s string) time.Duration {
	if s == "" {
		return 0
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		if sec <= 0 || sec > 1e6 {
			return max(0, time.Duration(min(sec, 1e6))*time.Second)
		}
		return time.Duration(sec * float64(time.Second))
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "..."
	}
	return s
}
