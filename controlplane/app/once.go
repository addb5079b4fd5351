package app

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/epoch"
	"github.com/agentry/agentry/controlplane/gate"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
)

// exactlyOnce puts around a store what makes the writes of calls safe. From the outside in: the audit log adds a change's entry to its
// transaction (newTrail); then once adds the record of the call and sends that one transaction again until it is known what became of
// it, so that the entry is written as often as the change, which is once; then epoch adds, for each try anew, that the cluster record is
// as it is known. Were epoch outside, a try after another replica's first Hello would fail by the old record, and nobody could tell
// whether the try before was written; were audit inside, every try would have an entry of its own.
func exactlyOnce(s store.Store) *once.Store { return once.Wrap(epoch.Wrap(s), once.Config{}) }

// calls begins the people door's calls that write.
type calls struct {
	once *once.Store
	view *view.View
}

var _ gate.Calls = (*calls)(nil)

// Begin gives a context whose transactions are written once, in the epoch that the view shows now.
func (c *calls) Begin(ctx context.Context, principal, key, method string, request proto.Message) (context.Context, error) {
	call, err := once.New(principal, key, method, request)
	if err != nil {
		return nil, err
	}
	call.Epoch = c.view.Cluster().Epoch
	ctx = epoch.Pin(ctx, call.Epoch)
	if err := c.once.Resume(ctx, call); err != nil {
		return nil, err
	}
	return once.With(ctx, call), nil
}

// Refused gives the answer of a call of ctx that was refused with err.
func (c *calls) Refused(ctx context.Context, err error) error {
	call := once.From(ctx)
	if call == nil {
		return err
	}
	return c.once.Refused(ctx, call, err)
}

// onceEach is the runtime door's interceptor: a certificate is written down once, also while the store elects a leader, so that no join
// token is spent for an answer that was lost in here. Instances ask again with what they have; they need no key of their own.
func onceEach(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	call, err := once.New("", "", info.FullMethod, nil)
	if err != nil {
		return nil, err
	}
	return next(once.With(ctx, call), req)
}
