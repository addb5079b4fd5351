package redis

import (
	"context"
	"errors"
	"net"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// Error is why a server can't be used. Its kind is errs.Unavailable.
type Error struct {
	Code    phase.Code // unreachable, timeout, unauthorized or invalid
	Address string
	Message string
	err     error
}

// Error gives the message with the address.
func (e *Error) Error() string { return "redis " + e.Address + ": " + e.Message }

// Unwrap gives the kind on which callers act, and the cause.
func (e *Error) Unwrap() []error { return []error{errs.New(errs.Unavailable, "%s", e.Message), e.err} }

// ailments are the answers by which a server says that it can't do its work now.
func ailments() []string {
	return []string{"READONLY", "LOADING", "MISCONF", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "ERR max number of clients"}
}

// refusals are the answers to a wrong credential, or one that may too little.
func refusals() []string {
	return []string{"WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR invalid password", "ERR Client sent AUTH"}
}

// diagnose makes an *Error of what the server's state caused; nil of what the call itself caused.
func (c *Client) diagnose(err error) *Error {
	e := &Error{Code: phase.Unreachable, Address: c.end.address, err: err}
	var answer goredis.Error
	if errors.As(err, &answer) && !errors.Is(err, goredis.ErrClosed) {
		text := answer.Error()
		for _, r := range refusals() {
			if strings.HasPrefix(text, r) {
				e.Code, e.Message = phase.Unauthorized, clip(text)
				return e
			}
		}
		for _, a := range ailments() {
			if strings.HasPrefix(text, a) {
				e.Message = clip(text)
				return e
			}
		}
		return nil
	}
	var denied *egress.DeniedError
	var timeout net.Error
	switch {
	case errors.As(err, &denied):
		e.Code, e.Message = phase.Invalid, denied.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, goredis.ErrPoolTimeout):
		e.Code, e.Message = phase.Timeout, "no answer within "+c.cfg.Timeout.String()
	default:
		e.Message = clip(err.Error())
	}
	return e
}

// clip bounds a message that the other side may have written.
func clip(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "")
	}
	return s
}
