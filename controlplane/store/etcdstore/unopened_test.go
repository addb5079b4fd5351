package etcdstore

import (
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/errs"
)

// What broke: on a full disk people were told to restore a backup, or to move their data away.
func TestAFullDiskIsNoDamage(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		free  int64
		known bool
		kind  errs.Kind
		want  string
		not   string
	}{
		"full":    {3 << 20, true, errs.Exhausted, "3 MiB are free there, etcd's log needs 61: make room", "backup"},
		"room":    {1 << 30, true, errs.Precondition, "from a backup", "make room"},
		"unknown": {0, false, errs.Precondition, "from a backup", "make room"},
	} {
		err := unopened("data/etcd", "failed to create WAL", func(string) (int64, bool) { return tc.free, tc.known })
		if !errs.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), tc.not) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, ok := freeBytes(t.TempDir()); !ok || n <= 0 {
		t.Errorf("%d bytes free, known %v", n, ok)
	}
}
