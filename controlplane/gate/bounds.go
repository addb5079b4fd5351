package gate

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// bounds gives every unary call a deadline and keeps secrets out of error messages.
type bounds struct {
	redact *secret.Redactor
	unary  time.Duration
}

var _ connect.Interceptor = (*bounds)(nil)

// WrapUnary bounds a call.
func (b *bounds) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, b.unary)
		defer cancel()
		resp, err := next(ctx, req)
		return resp, b.clean(err)
	}
}

// WrapStreamingClient is not used by a server.
func (*bounds) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler cleans the error of a stream.
func (b *bounds) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return b.clean(next(ctx, conn))
	}
}

// clean gives an error of the same kind without secrets. One that is connect's already carries details of its own.
func (b *bounds) clean(err error) error {
	var already *connect.Error
	if err == nil || errors.As(err, &already) {
		return err
	}
	if text := err.Error(); b.redact.Redact(text) != text {
		return errs.New(errs.KindOf(err), "%s", b.redact.Redact(text))
	}
	return err
}
