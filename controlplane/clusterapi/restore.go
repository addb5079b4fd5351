package clusterapi

import (
	"context"
	"io"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/backup"
	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
	"github.com/agentry/agentry/internal/errs"
)

// Restore takes the file in, looks at all of it, and only then writes. Once it writes it goes on whether or not its caller is there.
func (a *Archive) Restore(ctx context.Context, stream *connect.ClientStream[clusterv1.RestoreRequest]) (*connect.Response[clusterv1.RestoreResponse], error) {
	if !stream.Receive() {
		return nil, orInvalid(stream.Err())
	}
	o := stream.Msg().GetOptions()
	if o == nil {
		return nil, orInvalid(nil)
	}
	who, _ := access.From(ctx)
	opts := backup.Options{OtherCluster: o.GetOtherCluster(), Access: o.GetAccess(), By: who.Name, Message: o.GetMessage()}
	draft := audit.From(ctx)
	draft.On("cluster")
	draft.Because(o.GetMessage())
	if o.GetAsIs() {
		draft.Changed(true, audit.Change{Object: "cluster", Path: "epoch", After: "begun anew on what the store holds"})
		res, err := a.cfg.Restorer.AsIs(ctx, opts, o.GetDryRun())
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(answer(res)), nil
	}
	file, err := backup.Receive(ctx, a.cfg.Dir, &received{next: func() ([]byte, error) { return next(stream) }}, func(r backup.Record) error {
		return a.cfg.Check(r, opts.OtherCluster)
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if o.GetDryRun() {
		res, err := a.cfg.Restorer.Plan(ctx, file, opts)
		if err != nil {
			return nil, err
		}
		return connect.NewResponse(answer(res)), nil
	}
	draft.Changed(true, audit.Change{Object: "cluster", Path: "restore", After: `"backup of ` + file.Header.Taken.Format("2006-01-02T15:04:05Z") + `"`})
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreMost)
	defer cancel()
	res, err := a.cfg.Restorer.Restore(whole, file, opts)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(answer(res)), nil
}

func orInvalid(err error) error {
	if err != nil {
		return err
	}
	return errs.New(errs.Invalid, "the first message must hold the options")
}

func next(stream *connect.ClientStream[clusterv1.RestoreRequest]) ([]byte, error) {
	if !stream.Receive() {
		if err := stream.Err(); err != nil {
			return nil, err
		}
		return nil, io.EOF
	}
	if stream.Msg().GetOptions() != nil {
		return nil, errs.New(errs.Invalid, "the options come once")
	}
	return stream.Msg().GetData(), nil
}

func answer(r backup.Result) *clusterv1.RestoreResponse {
	out := &clusterv1.RestoreResponse{
		ClusterId: r.Cluster.ID, Epoch: r.Cluster.Epoch, Revision: r.Revision, Written: r.Written, Notes: r.Notes,
	}
	if done := r.Cluster.Restored; done != nil {
		out.BackupRevision = done.BackupRevision
		if !done.Taken.IsZero() {
			out.Taken = timestamppb.New(done.Taken)
		}
	}
	return out
}
