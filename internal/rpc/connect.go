package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
	"google.golang.org/grpc/metadata"

	"github.com/agentry/agentry/internal/errs"
)

// HandlerOptions gives what every connect handler of the people door carries: recovery, authentication, the mapping
// of errors and the message bound.
func HandlerOptions(log *slog.Logger, auth Auth) []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithRecover(func(ctx context.Context, s connect.Spec, _ http.Header, panicked any) error {
			logPanic(ctx, log, s.Procedure, panicked)
			return connect.NewError(connect.CodeInternal, errors.New(internalMessage))
		}),
		connect.WithInterceptors(NewAuthInterceptor(log, auth)),
		connect.WithReadMaxBytes(MaxMessage),
		connect.WithSendMaxBytes(MaxMessage),
	}
}

// NewAuthInterceptor gives the interceptor that asks auth before every handler and maps its errors and the handlers'
// to connect's codes. Bearer reads the token for connect calls as it does for gRPC ones.
func NewAuthInterceptor(log *slog.Logger, auth Auth) connect.Interceptor {
	return &connectGuard{log: log, auth: auth}
}

type connectGuard struct {
	log  *slog.Logger
	auth Auth
}

var _ connect.Interceptor = (*connectGuard)(nil)

// WrapUnary guards a unary handler; as a client's interceptor it does nothing.
func (g *connectGuard) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient {
			return next(ctx, req)
		}
		method := req.Spec().Procedure
		in, err := g.auth(withHeader(ctx, req.Header()), method)
		if err != nil {
			return nil, g.mapped(ctx, method, err)
		}
		resp, err := next(in, req)
		return resp, g.mapped(ctx, method, err)
	}
}

// WrapStreamingClient changes nothing.
func (g *connectGuard) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler guards a streaming handler.
func (g *connectGuard) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		method := conn.Spec().Procedure
		in, err := g.auth(withHeader(ctx, conn.RequestHeader()), method)
		if err != nil {
			return g.mapped(ctx, method, err)
		}
		return g.mapped(ctx, method, next(in, conn))
	}
}

// withHeader puts the Authorization header where Bearer looks for it.
func withHeader(ctx context.Context, h http.Header) context.Context {
	v := h.Get("Authorization")
	if v == "" {
		return ctx
	}
	return metadata.NewIncomingContext(ctx, metadata.Pairs("authorization", v))
}

func (g *connectGuard) mapped(ctx context.Context, method string, err error) error {
	if err == nil {
		return nil
	}
	if e := new(connect.Error); errors.As(err, &e) {
		return err
	}
	if errs.Is(err, errs.Internal) {
		g.log.LogAttrs(ctx, slog.LevelError, "call broke", slog.String("method", method), slog.Any("error", err))
		return connect.NewError(connect.CodeInternal, errors.New(internalMessage))
	}
	return ConnectError(err)
}

// ConnectError gives the connect error of an error of package errs; the codes have gRPC's numbers.
func ConnectError(err error) error {
	if err == nil {
		return nil
	}
	return connect.NewError(connect.Code(errs.Code(err)), errors.New(err.Error()))
}
