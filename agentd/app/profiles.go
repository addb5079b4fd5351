package app

import (
	"context"
	"fmt"
	"net"

	"github.com/agentry/agentry/internal/profiles"
)

// profiles serves Go's profiles where it was asked to.
func (d *daemon) profiles(ctx context.Context) error {
	if d.cfg.PprofAddr == "" {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", d.cfg.PprofAddr)
	if err != nil {
		return fmt.Errorf("--pprof-addr: %w", err)
	}
	return profiles.Serve(ctx, ln, d.log)
}
