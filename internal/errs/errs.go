// Package errs holds the kinds of failure that cross a door and their mapping to gRPC and HTTP codes.
// Callers act on a kind, never on text.
package errs

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"
)

// Kind is a class of failure on which a caller can act.
type Kind int

// The kinds. Internal is the kind of every error that carries none.
const (
	Internal     Kind = iota // a fault of ours
	Invalid                  // the input is wrong; the same call never succeeds
	NotFound                 // no such thing, or not yours
	Exists                   // it is there already
	Conflict                 // the revision moved; read again
	Precondition             // not in this state, or only with force
	Unavailable              // try again later
	Timeout                  // a deadline passed
	Unauthenticated
	Denied
	Exhausted   // a limit was hit
	OutOfRange  // a revision that is no longer held
	Unsupported // this version can't
	Canceled
)

// Error is an error with a kind.
type Error struct {
	Kind Kind
	err  error
}

// New makes an error of a kind; format may wrap with %w.
func New(k Kind, format string, args ...any) error {
	return &Error{Kind: k, err: fmt.Errorf(format, args...)}
}

// Error gives the message without the kind.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap gives what was wrapped.
func (e *Error) Unwrap() error { return e.err }

// KindOf gives the kind of err: the nearest *Error's, or that of a context error, else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout
	case errors.Is(err, context.Canceled):
		return Canceled
	default:
		return Internal
	}
}

// Is reports whether err is of kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// Code gives the gRPC code of err; connect's codes have the same numbers.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	switch KindOf(err) {
	case Invalid:
		return codes.InvalidArgument
	case NotFound:
		return codes.NotFound
	case Exists:
		return codes.AlreadyExists
	case Conflict:
		return codes.Aborted
	case Precondition:
		return codes.FailedPrecondition
	case Unavailable:
		return codes.Unavailable
	case Timeout:
		return codes.DeadlineExceeded
	case Unauthenticated:
		return codes.Unauthenticated
	case Denied:
		return codes.PermissionDenied
	case Exhausted:
		return codes.ResourceExhausted
	case OutOfRange:
		return codes.OutOfRange
	case Unsupported:
		return codes.Unimplemented
	case Canceled:
		return codes.Canceled
	default:
		return codes.Internal
	}
}

// HTTPStatus gives the HTTP status of err.
func HTTPStatus(err error) int {
	if err == nil {
		return http.StatusOK
	}
	switch KindOf(err) {
	case Invalid, OutOfRange:
		return http.StatusBadRequest
	case NotFound:
		return http.StatusNotFound
	case Exists, Conflict:
		return http.StatusConflict
	case Precondition:
		return http.StatusPreconditionFailed
	case Unavailable:
		return http.StatusServiceUnavailable
	case Timeout:
		return http.StatusGatewayTimeout
	case Unauthenticated:
		return http.StatusUnauthorized
	case Denied:
		return http.StatusForbidden
	case Exhausted:
		return http.StatusTooManyRequests
	case Unsupported:
		return http.StatusNotImplemented
	default:
		return http.StatusInternalServerError
	}
}
