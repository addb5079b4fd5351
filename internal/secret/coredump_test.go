//go:build unix

package secret

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNoCoreDumps(t *testing.T) {
	if err := NoCoreDumps(); err != nil {
		t.Fatal(err)
	}
	var is unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &is); err != nil || is.Cur != 0 || is.Max != 0 {
		t.Errorf("limit %+v, %v", is, err)
	}
}
