//go:build unix

package secret

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// NoCoreDumps keeps the process's memory, which holds secrets, off the disk when it crashes. Stacks are still printed: they hold no
// secret (Value is a pointer).
func NoCoreDumps() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}
