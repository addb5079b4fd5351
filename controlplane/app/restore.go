package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/backup"
	"github.com/agentry/agentry/controlplane/clusterapi"
	"github.com/agentry/agentry/controlplane/epoch"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/gate"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/releaseapi"
	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/gen/agentry/cluster/v1/clusterv1connect"
	"github.com/agentry/agentry/internal/errs"
)

// newArchive makes what saves the store and brings it back.
func newArchive(in parts) (*clusterapi.Archive, error) {
	restorer, err := backup.New(backup.Config{
		Store: in.trail.plain, Audited: in.trail.store, Logger: in.log, Replica: in.replica, Now: time.Now,
		Identity: identity.Returning, Audit: adoptAudit, Mark: epoch.WithRestore,
	})
	if err != nil {
		return nil, err
	}
	return clusterapi.NewArchive(clusterapi.ArchiveConfig{
		Store: in.trail.plain, Restorer: restorer, Recorder: in.trail.queue, Dir: in.cfg.DataDir, KEK: in.kek.ID(), Version: in.cfg.Version, Now: time.Now,
		RequestID: gate.RequestID,
		Check: func(r backup.Record, other bool) error {
			if err := specapi.CheckSealed(in.kek, r.Key, r.Value); err != nil {
				return errs.New(errs.Precondition, "this control plane's key file doesn't open it (put the key that the backup was sealed with below the first line of the key file, and restart): %w", err)
			}
			if !other {
				return nil
			}
			return in.authority.CheckReturning(r.Key, r.Value)
		},
	})
}

// adoptAudit brings the audit log of another cluster back.
func adoptAudit(ctx context.Context, s store.Store, walk func() func() (string, []byte, bool, error)) (string, int64, error) {
	return audit.Adopt(ctx, s, func() audit.NextFunc { return walk() })
}

// eras follows the eras of the store: when one ends, everything that holds something of it lets go.
type eras struct {
	view   *view.View
	table  *fleet.Table
	hub    *stream.Hub
	peers  *peers.Peers
	vault  *specapi.Vault
	store  store.Store
	events *releaseapi.Ring
	log    *slog.Logger
	known  view.Era // when the process began
}

// run follows the store until ctx ends; it fails where that went back.
func (e *eras) run(ctx context.Context) error {
	return runAll(ctx, []part{
		{"eras", e.follow},
		{"store's revisions", func(ctx context.Context) error { return followed(ctx, e.store, e.view) }},
	})
}

// follow ends what is of an era as soon as the view shows its end.
func (e *eras) follow(ctx context.Context) error {
	known := e.known
	for {
		now, ok := e.view.AwaitEra(ctx, known)
		if !ok {
			return nil
		}
		e.table.Renew(time.Now())
		e.hub.Renew()
		if !now.Whole() {
			e.log.LogAttrs(ctx, slog.LevelWarn, "a restore is under way: nothing is pushed", slog.String("restore", now.Restoring))
		}
		if now.ClusterID != known.ClusterID || now.Epoch != known.Epoch {
			e.peers.Renew(e.view.EraRevision())
			e.began(ctx, now)
		}
		known = now
	}
}

// began is called once in every new epoch.
func (e *eras) began(ctx context.Context, now view.Era) {
	if err := e.vault.Reload(ctx, e.store); err != nil {
		e.log.LogAttrs(ctx, slog.LevelError, "the fingerprint key can't be opened: restart this process", slog.Any("error", err))
	}
	e.log.LogAttrs(ctx, slog.LevelWarn, "a new epoch began", slog.String("cluster", now.ClusterID), slog.Uint64("epoch", now.Epoch))
	e.events.Add(releaseapi.Event{Type: releaseapi.EventRestored, Message: restoredText(e.view.Cluster())})
}

func restoredText(c view.Cluster) string {
	switch r := c.Restored; {
	case r == nil:
		return fmt.Sprintf("the store began epoch %d", c.Epoch)
	case r.Taken.IsZero():
		return fmt.Sprintf("%s took the store as it is: epoch %d", r.By, c.Epoch)
	default:
		return fmt.Sprintf("%s brought the backup of %s back: epoch %d", r.By, r.Taken.UTC().Format(time.RFC3339), c.Epoch)
	}
}

// whileWhole calls work in every era in which no restore is under way, with a context that ends with the era, until ctx ends or work
// fails. So nothing that was judged before a restore is remembered after it.
func whileWhole(ctx context.Context, v *view.View, work func(ctx context.Context) error) error {
	for ctx.Err() == nil {
		era := v.Era()
		within, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if _, ok := v.AwaitEra(within, era); ok {
				cancel()
			}
		}()
		var err error
		if era.Whole() {
			err = work(within)
		}
		if err != nil {
			cancel()
		}
		<-ended
		cancel()
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// clusterService is the cluster's service.
type clusterService struct {
	*clusterapi.Archive
	*clusterapi.Overview
}

// mountCluster puts the cluster's service on the people door.
func mountCluster(p *people, in parts, overview *clusterapi.Overview) error {
	archive, err := newArchive(in)
	if err != nil {
		return err
	}
	p.handle(clusterv1connect.NewClusterServiceHandler(clusterService{archive, overview}, p.opts...))
	return nil
}
