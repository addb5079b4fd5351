package app

import (
	"context"
	"log/slog"
	"net"

	"github.com/agentry/agentry/internal/profiles"
)

// profilesPart serves Go's profiles on a loopback address. It is off unless asked for.
func profilesPart(ln net.Listener, log *slog.Logger) part {
	return part{"profiles", func(ctx context.Context) error { return profiles.Serve(ctx, ln, log) }}
}
