package clusterapi

import (
	"context"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/backup"
	clusterv1 "github.com/agentry/agentry/gen/agentry/cluster/v1"
	"github.com/agentry/agentry/gen/agentry/cluster/v1/clusterv1connect"
)

// Backup sends everything that is kept. It changes nothing, but all sealed credentials leave with it, so the audit log hears of it first.
func (a *Archive) Backup(ctx context.Context, _ *connect.Request[clusterv1.BackupRequest], stream *connect.ServerStream[clusterv1.BackupResponse]) error {
	a.tell(ctx)
	out := &pieces{send: func(b []byte) error { return stream.Send(&clusterv1.BackupResponse{Data: b}) }}
	_, err := backup.Take(ctx, backup.Taking{Store: a.cfg.Store, Version: a.cfg.Version, KEK: a.cfg.KEK, Taken: a.cfg.Now()}, out)
	if err != nil {
		return err
	}
	return out.flush()
}

func (a *Archive) tell(ctx context.Context) {
	who, _ := access.From(ctx)
	a.cfg.Recorder.Record(audit.Event{
		Type: audit.CredentialUse, Outcome: audit.OK, Message: "a backup was taken: every credential leaves with it, sealed", Objects: []string{"cluster"},
		Call: audit.Call{
			Actor: who.Name, Method: clusterv1connect.ClusterServiceBackupProcedure, Permission: "cluster.backup", RequestID: a.cfg.RequestID(ctx),
		},
	})
	bounded, cancel := context.WithTimeout(ctx, auditWait)
	defer cancel()
	_ = a.cfg.Recorder.Flush(bounded) // it stays queued; a store without room must still be saved
}
