package etcdstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/internal/errs"
)

// What broke: a database file that was cut short ended the process with a stack trace of etcd's, without a word of what to do.
func TestEmbeddedRefusesADamagedFile(t *testing.T) {
	whole := t.TempDir()
	s := open(t, etcdstore.EmbeddedConfig{Dir: whole})
	put(t, s, "a", strings.Repeat("x", 200_000))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("etcd", "member", "snap", "db")
	cases := map[string]struct {
		left int64 // -1: the file is gone
		want string
	}{
		"a few pages":            {16384, "pages of"},
		"the heads only":         {8192, "pages of"},
		"not even a head":        {50, "none of its two heads"},
		"empty beside its log":   {0, "none of its two heads"},
		"missing beside its log": {-1, "it is missing"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
				t.Fatal(err)
			}
			db := filepath.Join(dir, file)
			change := func() error { return os.Truncate(db, c.left) }
			if c.left < 0 {
				change = func() error { return os.Remove(db) }
			}
			if err := change(); err != nil {
				t.Fatal(err)
			}
			_, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
			if !errs.Is(err, errs.Precondition) {
				t.Fatalf("error %v, want Precondition", err)
			}
			for _, want := range []string{db, c.want, "from a backup"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q, want %q in it", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
}
