package commandtest

import (
	"context"

	"connectrpc.com/connect"

	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
)

// Backup answers from Backup.json.
func (x clusters) Backup(ctx context.Context, r *connect.Request[clusterv1.BackupRequest], to *connect.ServerStream[clusterv1.BackupResponse]) error {
	return stream(ctx, x.s, "Backup", r, to)
}

// Restore answers from Restore.json, once everything was sent. What is kept of the request is its options.
func (x clusters) Restore(_ context.Context, from *connect.ClientStream[clusterv1.RestoreRequest]) (*connect.Response[clusterv1.RestoreResponse], error) {
	var options *clusterv1.RestoreRequest
	for from.Receive() {
		if o := from.Msg().GetOptions(); o != nil {
			options = &clusterv1.RestoreRequest{Message: &clusterv1.RestoreRequest_Options{Options: o}}
		}
	}
	if err := from.Err(); err != nil {
		return nil, err
	}
	r := connect.NewRequest(options)
	r.Header().Set("Authorization", from.RequestHeader().Get("Authorization"))
	return unary[clusterv1.RestoreRequest, clusterv1.RestoreResponse](x.s, "Restore", r)
}
