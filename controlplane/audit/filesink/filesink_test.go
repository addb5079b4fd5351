package filesink

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/auditchain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// chained gives n entries as the chainer makes them.
func chained(t *testing.T, n int) []audit.Chained {
	t.Helper()
	s := memstore.New()
	w := audit.Wrap(s, audit.Origin{Replica: "r"})
	c, err := audit.NewChainer(audit.ChainerConfig{Store: s, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := w.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: view.HeadKey("agent", "default", fmt.Sprintf("a<%d>", i))}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	out, _, err := audit.Read(t.Context(), s, 0, 0)
	if err != nil || len(out) != n {
		t.Fatal(err, len(out))
	}
	return out
}

// verify reads files as agentctl does and gives the seqs; the chain goes on from one to the next.
func verify(t *testing.T, paths ...string) []int64 {
	t.Helper()
	var v *auditchain.Verifier
	var out []int64
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			l, previous, seq, err := auditchain.ParseLine(line)
			if err != nil {
				t.Fatal(err)
			}
			if v == nil {
				v = auditchain.NewVerifier(auditchain.Point{Seq: seq - 1, Hash: previous})
			}
			if f := v.Next(l); f != nil {
				t.Fatal(f)
			}
			out = append(out, seq)
		}
	}
	return out
}

func seqs(from, to int64) []int64 {
	var out []int64
	for s := from; s <= to; s++ {
		out = append(out, s)
	}
	return out
}

func open(t *testing.T, path string) *Sink {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func write(t *testing.T, s *Sink, entries []audit.Chained) {
	t.Helper()
	if err := s.Write(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
}

func TestAFileGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	entries := chained(t, 30)
	cases := map[string]func(path string) error{
		"a clean stop": func(string) error { return nil },
		"a line cut off": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()-7)
		},
		"a line begun": func(path string) error {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(`{"hash":"ab` + strings.Repeat("x", 3*tail))
			return err
		},
		"all of it cut off": func(path string) error { return os.Truncate(path, 20) },
	}
	for name, crash := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "audit.jsonl")
			s := open(t, path)
			if s.Position() != 0 {
				t.Errorf("a new file is at %d", s.Position())
			}
			write(t, s, entries[:10])
			write(t, s, entries[10:20])
			if err := crash(path); err != nil {
				t.Fatal(err)
			}
			s = open(t, path)
			write(t, s, entries[s.Position():])
			if got := verify(t, path); !slices.Equal(got, seqs(1, 30)) {
				t.Errorf("the file holds %v", got)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

func TestAFileThatWasMovedAwayIsMadeAnew(t *testing.T) {
	t.Parallel()
	entries := chained(t, 30)
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	s := open(t, path)
	write(t, s, entries[:10])
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, s, entries[10:20])
	write(t, s, entries[20:])
	if got := verify(t, path); !slices.Equal(got, seqs(11, 30)) {
		t.Errorf("the new file holds %v", got)
	}
	if got := verify(t, path+".1", path); !slices.Equal(got, seqs(1, 30)) {
		t.Errorf("both files hold %v", got)
	}
}

func TestAFileThatIsNoneIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"lines": "dear sir\n", "no line": "dear sir", "JSON": "{}\n"} {
		path := filepath.Join(t.TempDir(), "letters")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil {
			t.Errorf("%s: it was opened", name)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%s: now it says %q, %v", name, b, err)
		}
		if _, err := Open(filepath.Join(path, "below")); err == nil {
			t.Errorf("%s: a file below a file was opened", name)
		}
	}
}
