package app

import (
	"context"
	"log/slog"
	"net"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/stream"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/rpc"
)

// runtimeDoor is where instances connect.
type runtimeDoor struct {
	srv *grpc.Server
	hub *stream.Hub
	log *slog.Logger
}

func newRuntimeDoor(log *slog.Logger, guard *access.Guard, hub *stream.Hub) (*runtimeDoor, error) {
	srv, err := rpc.NewServer(rpc.Config{Logger: log, Auth: authOf(guard)})
	if err != nil {
		return nil, err
	}
	pushv1.RegisterConfigServiceServer(srv, hub)
	return &runtimeDoor{srv: srv, hub: hub, log: log}, nil
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
	return <-done
}
