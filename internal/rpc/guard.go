package rpc

import (
	"context"
	"log/slog"
	"runtime/debug"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/internal/errs"
)

// internalMessage is all that a caller hears of a fault of ours; the log has the rest.
const internalMessage = "internal error; see the server's log"

// Bearer gives the token of an incoming gRPC call; "" if there is none.
func Bearer(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, v := range md.Get("authorization") {
		return BearerOf(v)
	}
	return ""
}

// BearerOf gives the token of an Authorization header; "" if it holds none.
func BearerOf(header string) string {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// unaryGuard authenticates, recovers from panics and maps errors, in one interceptor: the fewer frames the better.
func unaryGuard(log *slog.Logger, auth Auth) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
		defer func() { err = finish(ctx, log, info.FullMethod, recover(), err) }()
		in, err := auth(ctx, info.FullMethod)
		if err != nil {
			return nil, err
		}
		return next(in, req)
	}
}

func streamGuard(log *slog.Logger, auth Auth) grpc.StreamServerInterceptor {
	return func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
		defer func() { err = finish(s.Context(), log, info.FullMethod, recover(), err) }()
		ctx, err := auth(s.Context(), info.FullMethod)
		if err != nil {
			return err
		}
		return next(srv, &authenticated{ServerStream: s, with: func() context.Context { return ctx }})
	}
}

// authenticated is a stream with the context that Auth gave.
type authenticated struct {
	grpc.ServerStream

	with func() context.Context
}

// Context gives what Auth made of the call.
func (s *authenticated) Context() context.Context { return s.with() }

// finish turns what a handler left into a status. A panic is a fault of ours.
func finish(ctx context.Context, log *slog.Logger, method string, panicked any, err error) error {
	if panicked != nil {
		logPanic(ctx, log, method, panicked)
		return status.Error(codes.Internal, internalMessage)
	}
	if err == nil {
		return nil
	}
	if errs.Is(err, errs.Internal) && !hasStatus(err) {
		log.LogAttrs(ctx, slog.LevelError, "call broke", slog.String("method", method), slog.Any("error", err))
		return status.Error(codes.Internal, internalMessage)
	}
	return Status(err)
}

func logPanic(ctx context.Context, log *slog.Logger, method string, panicked any) {
	log.LogAttrs(ctx, slog.LevelError, "handler panicked", slog.String("method", method),
		slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
}

// Status gives the gRPC status error of an error of package errs. A status stays what it is.
func Status(err error) error {
	if err == nil || hasStatus(err) {
		return err
	}
	return status.Error(errs.Code(err), err.Error())
}

// FromStatus gives the errs error of what a call answered, so that callers act on a kind.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	return errs.New(kindOf(s.Code()), "%s", s.Message())
}

func hasStatus(err error) bool {
	s, ok := status.FromError(err)
	return ok && s.Code() != codes.Unknown
}

func kindOf(c codes.Code) errs.Kind {
	for k := errs.Internal; k <= errs.Canceled; k++ {
		if errs.Code(errs.New(k, "kind")) == c {
			return k
		}
	}
	return errs.Internal
}
