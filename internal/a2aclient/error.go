package a2aclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// UncertainError says that a message may have reached the agent, and that nobody knows what became of it: the connection broke before the agent said which task it is.
// The message is not sent again. TaskID is the task that it was for, if it was for one.
type UncertainError struct {
	TaskID string
	Err    error
}

// Error gives the text.
func (e *UncertainError) Error() string {
	return "the message was sent, but the connection broke before the agent answered, and it is not sent again: " + e.Err.Error()
}

// Unwrap gives why.
func (e *UncertainError) Unwrap() error { return e.Err }

// LostError says that a task goes on at the agent, which can't be reached any more.
type LostError struct {
	TaskID string
	Err    error
}

// Error gives the text.
func (e *LostError) Error() string {
	return fmt.Sprintf("task %s goes on, but its agent can't be reached: %v", e.TaskID, e.Err)
}

// Unwrap gives why.
func (e *LostError) Unwrap() error { return e.Err }

// linkError is a failure of the way to the agent: no answer of the protocol came.
type linkError struct {
	err  error
	sent bool // the request may have been performed
}

func (e *linkError) Error() string { return e.err.Error() }
func (e *linkError) Unwrap() error { return e.err }

// link makes a linkError; its kind is that of what failed, Unavailable by default.
func link(sent bool, where string, err error) error {
	var u *url.Error
	if errors.As(err, &u) { // its text has the whole URL, which may hold a key
		err = u.Err
	}
	kind := errs.Unavailable
	switch {
	case errors.Is(err, context.Canceled):
		kind = errs.Canceled
	case errors.Is(err, egress.ErrDenied):
		kind = errs.Denied
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		kind = errs.Timeout
	}
	return &linkError{err: errs.New(kind, "%s: %w", where, err), sent: sent}
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// told makes the error of an agent's answer.
func told(e *a2a.Error) error {
	e.Message = clip(e.Message)
	return errs.New(kindOf(e.Reason), "%w", e)
}

// maxText bounds a message of the other side that is passed on, in bytes.
const maxText = 2 << 10

// clip makes text of the other side fit to be shown.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "..."
	}
	return text
}

func kindOf(r a2a.Reason) errs.Kind {
	switch r {
	case a2a.TaskNotFound:
		return errs.NotFound
	case a2a.TaskNotCancelable, a2a.PushNotificationNotSupported, a2a.UnsupportedOperation, a2a.ExtendedAgentCardNotConfigured, a2a.ExtensionSupportRequired:
		return errs.Precondition
	case a2a.VersionNotSupported, a2a.MethodNotFound:
		return errs.Unsupported
	case a2a.ContentTypeNotSupported, a2a.ParseError, a2a.InvalidRequest, a2a.InvalidParams, a2a.NotAllowed:
		return errs.Invalid
	case a2a.Unauthenticated:
		return errs.Unauthenticated
	case a2a.PermissionDenied:
		return errs.Denied
	case a2a.Exhausted, a2a.TooLarge:
		return errs.Exhausted
	case a2a.Unavailable:
		return errs.Unavailable
	default:
		return errs.Internal
	}
}

// invalid is an answer that is none of the protocol's.
func invalid(format string, args ...any) error {
	return told(a2a.Fail(a2a.InvalidAgentResponse, fmt.Sprintf(format, args...)))
}

// isReason reports whether err is the agent's answer of one of these reasons.
func isReason(err error, reasons ...a2a.Reason) bool {
	var e *a2a.Error
	if !errors.As(err, &e) {
		return false
	}
	return slices.Contains(reasons, e.Reason)
}

// known are the reasons that a code of JSON-RPC stands for.
func known() []a2a.Reason {
	return []a2a.Reason{
		a2a.TaskNotFound, a2a.TaskNotCancelable, a2a.PushNotificationNotSupported, a2a.UnsupportedOperation, a2a.ContentTypeNotSupported, a2a.InvalidAgentResponse,
		a2a.ExtendedAgentCardNotConfigured, a2a.ExtensionSupportRequired, a2a.VersionNotSupported, a2a.ParseError, a2a.InvalidRequest, a2a.MethodNotFound, a2a.InvalidParams,
		a2a.Internal, a2a.Unauthenticated, a2a.PermissionDenied, a2a.Exhausted, a2a.Unavailable, a2a.TooLarge, a2a.NotAllowed,
	}
}

// detailOf reads the details of an error: the reason of an ErrorInfo of the protocol's domain, and the fields of a BadRequest.
func detailOf(raw []json.RawMessage, e *a2a.Error) {
	for _, d := range raw {
		var in struct {
			Type            string `json:"@type"`
			Reason          string
			Domain          string
			Metadata        map[string]string
			FieldViolations []struct{ Field, Description string }
		}
		if json.Unmarshal(d, &in) != nil {
			continue
		}
		if strings.HasSuffix(in.Type, "/google.rpc.ErrorInfo") && in.Domain == a2a.Domain && in.Reason != "" {
			e.Reason, e.Meta = a2a.Reason(clip(in.Reason)), in.Metadata
		}
		for _, v := range in.FieldViolations {
			e.Fields = append(e.Fields, a2a.Field{Path: clip(v.Field), Fault: clip(v.Description)})
		}
	}
}

// ofHTTP gives the reason of a status that came without one.
func ofHTTP(code int) a2a.Reason {
	switch code {
	case http.StatusUnauthorized:
		return a2a.Unauthenticated
	case http.StatusForbidden:
		return a2a.PermissionDenied
	case http.StatusNotFound:
		return a2a.TaskNotFound
	case http.StatusTooManyRequests:
		return a2a.Exhausted
	case http.StatusRequestEntityTooLarge:
		return a2a.TooLarge
	case http.StatusUnsupportedMediaType:
		return a2a.ContentTypeNotSupported
	case http.StatusMethodNotAllowed:
		return a2a.NotAllowed
	case http.StatusServiceUnavailable:
		return a2a.Unavailable
	}
	if code >= http.StatusBadRequest && code < http.StatusInternalServerError {
		return a2a.InvalidRequest
	}
	return a2a.Internal
}

// ofGRPC gives the error of a gRPC status; an error of the way to the agent has no ErrorInfo.
func ofGRPC(where string, err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return link(true, where, err)
	}
	e := &a2a.Error{Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == a2a.Domain {
				e.Reason, e.Meta = a2a.Reason(clip(d.GetReason())), d.GetMetadata()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				e.Fields = append(e.Fields, a2a.Field{Path: clip(v.GetField()), Fault: clip(v.GetDescription())})
			}
		}
	}
	if e.Reason != "" {
		return told(e)
	}
	switch st.Code() {
	case codes.Canceled:
		return link(true, where, context.Canceled)
	case codes.DeadlineExceeded:
		return link(true, where, context.DeadlineExceeded)
	case codes.Unimplemented: // no such service there
		return link(false, where, errors.New(clip(st.Message())))
	case codes.NotFound:
		e.Reason = a2a.TaskNotFound
	case codes.InvalidArgument, codes.OutOfRange:
		e.Reason = a2a.InvalidParams
	case codes.FailedPrecondition:
		e.Reason = a2a.UnsupportedOperation
	case codes.Unauthenticated:
		e.Reason = a2a.Unauthenticated
	case codes.PermissionDenied:
		e.Reason = a2a.PermissionDenied
	case codes.ResourceExhausted:
		e.Reason = a2a.Exhausted
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.Aborted:
		return link(true, where, errors.New(clip(st.Message())))
	default:
		e.Reason = a2a.Internal
	}
	return told(e)
}
