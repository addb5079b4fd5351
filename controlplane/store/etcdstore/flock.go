package etcdstore

import (
	"os"

	"golang.org/x/sys/unix"
)

// flock takes an exclusive lock on f at once or fails. Closing f gives it back.
func flock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}
