package app

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/identityapi"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/stream"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	peerv1 "github.com/agentry/agentry/gen/agentry/peer/v1"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
)

// maxCalls bounds the calls of one connection, which is one instance's: its stream, the one that replaces it, and an enrollment.
const maxCalls = 8

// runtimeDoor is where instances enroll and connect, and the other replicas link: TLS 1.3 always.
type runtimeDoor struct {
	srv   *grpc.Server
	hub   *stream.Hub
	peers *peers.Peers
	ids   *identities
	log   *slog.Logger
}

func newRuntimeDoor(log *slog.Logger, ids *identities, hub *stream.Hub, others *peers.Peers) (*runtimeDoor, error) {
	srv, err := rpc.NewServer(rpc.Config{
		Logger: log, Credentials: ids.door.Credentials(), Auth: ids.door.Authenticate, MaxStreams: maxCalls,
		Options: []grpc.ServerOption{grpc.ForceServerCodecV2(stream.Codec()), grpc.ChainUnaryInterceptor(onceEach)},
	})
	if err != nil {
		return nil, err
	}
	pushv1.RegisterConfigServiceServer(srv, hub)
	identityv1.RegisterEnrollServiceServer(srv, ids.enroll)
	peerv1.RegisterPeerServiceServer(srv, others)
	return &runtimeDoor{srv: srv, hub: hub, peers: others, ids: ids, log: log}, nil
}

// callerOf is whose certificate opened a stream.
func callerOf(ids *identities) stream.Identify {
	return func(ctx context.Context) (stream.Caller, error) {
		p, ok := identityapi.PeerOf(ctx)
		if !ok {
			return stream.Caller{}, errs.New(errs.Unauthenticated, "no certificate was shown")
		}
		return stream.Caller{
			ID:    snapshot.InstanceID{Namespace: p.Namespace, Agent: p.Agent, Instance: p.Instance},
			Until: p.NotAfter, Check: func() error { return ids.stands(p) },
		}, nil
	}
}

// stands says why a certificate doesn't count any more, whatever the time: a stream ends by itself at its certificate's end.
func (ids *identities) stands(p identity.Peer) error {
	_, err := ids.authority.Standing(p, p.NotAfter)
	return err
}

// foreign tells the audit log of an instance that asked for another's stream.
func foreign(ids *identities) func(context.Context, stream.Caller, snapshot.InstanceID, error) {
	return func(_ context.Context, who stream.Caller, asked snapshot.InstanceID, why error) {
		ids.door.Denied(identity.Peer{Subject: identity.Subject{Namespace: who.ID.Namespace, Agent: who.ID.Agent, Instance: who.ID.Instance}},
			pushv1.ConfigService_Stream_FullMethodName, "agent/"+asked.Agent, why.Error())
	}
}

// serve answers on ln until ctx ends, then sends every instance away with Goaway and waits for the streams to end.
func (d *runtimeDoor) serve(ctx context.Context, ln net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- d.srv.Serve(ln) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := d.hub.Shutdown(stop); err != nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "streams were cut", slog.Any("error", err))
	}
	d.srv.Stop()
	d.peers.Wait()
	return <-done
}

// cut ends streams as soon as their certificate is revoked, or its root isn't trusted any more.
func (d *runtimeDoor) cut(ctx context.Context) error {
	for {
		changed := d.ids.authority.Changed()
		d.hub.Recheck()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}
