package etcdstore

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

func errClosed() error { return errs.New(errs.Unavailable, "store is closed") }

// fault gives etcd's error its kind. During and after Close everything is Unavailable.
func (s *Store) fault(what string, err error) error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return errClosed()
	}
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps):
		return errs.New(errs.Invalid, "store %s: more operations than etcd takes at once (--max-txn-ops): %w", what, err)
	case tooLarge(err):
		return errs.New(errs.Invalid, "store %s: more bytes than etcd takes at once (--max-request-bytes): %w", what, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		s.noteFull()
		return errs.New(errs.Exhausted, "store %s: the store is out of space and takes no writes; agents go on with what they run; "+
			"docs/operations.md, \"The store is full\", says what to do: %w", what, err)
	}
	return errs.New(kindOf(err), "store %s: %w", what, err)
}

// tooLarge knows etcd's own answer and that of gRPC, whose limit lies a little above.
func tooLarge(err error) bool {
	return errors.Is(err, rpctypes.ErrRequestTooLarge) ||
		status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}

func kindOf(err error) errs.Kind {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errs.Timeout
	case errors.Is(err, context.Canceled):
		return errs.Canceled
	case errors.Is(err, rpctypes.ErrTooManyRequests), dropped(err), errors.Is(err, clientv3.ErrNoAvailableEndpoints):
		return errs.Unavailable
	}
	code := status.Code(err)
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		code = e.Code()
	}
	switch code {
	case codes.Unavailable:
		return errs.Unavailable
	case codes.DeadlineExceeded:
		return errs.Timeout
	case codes.Canceled:
		return errs.Canceled
	case codes.OutOfRange:
		return errs.OutOfRange
	case codes.ResourceExhausted:
		return errs.Exhausted
	case codes.InvalidArgument:
		return errs.Invalid
	case codes.FailedPrecondition:
		return errs.Precondition
	case codes.PermissionDenied:
		return errs.Denied
	case codes.Unauthenticated:
		return errs.Unauthenticated
	default:
		return errs.Internal
	}
}

func fromEtcd(kv *mvccpb.KeyValue) store.KV {
	return store.KV{Key: string(kv.Key), Value: kv.Value, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision}
}
