package app

import (
	"context"
	"runtime/debug"
	"time"
)

// trimAfter is how long after the start memory is given back to the system, once: by then the first config has been assembled, and what that
// took isn't needed again by an instance that idles.
const trimAfter = 3 * time.Second

// giveBack gives what the start took back to the system.
func giveBack(ctx context.Context) error {
	select {
	case <-ctx.Done():
	case <-time.After(trimAfter):
		debug.FreeOSMemory()
	}
	return nil
}
