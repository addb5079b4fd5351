package backup_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/backup"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
)

// Who asks for a restore hears how much of what there is it takes away, before it does.
func TestARestoreTellsWhatGoes(t *testing.T) {
	s := memstore.New()
	w := newWorld(t, s, 1)
	w.apply("stays")
	w.apply("back") // deleted in the backup, made again since
	w.remove("back")
	file := take(t, s)
	told := func(want bool, text string) {
		t.Helper()
		res, err := restorer(t, s, nil).Plan(t.Context(), receive(t, file), backup.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(res.Notes, func(n string) bool { return strings.HasSuffix(n, text) }) != want {
			t.Errorf("notes %q, want %t for %q", res.Notes, want, text)
		}
	}
	w.remove("stays")
	told(false, " goes: 1 agent")
	w.apply("back")
	told(true, " goes: 1 agent")
	w.apply("new")
	w.apply("gone")
	w.remove("gone")
	w.prompt("p")
	w.mcp("m")
	w.mcp("n")
	w.credential("k")
	told(true, " goes: 2 agents, 1 prompt, 2 MCP entries, 1 credential")
}

// An epoch near the end of numbers would be the last one that instances ever take: no backup brings it.
func TestAnEpochThatNeverWas(t *testing.T) {
	s := memstore.New()
	w := newWorld(t, s, 1)
	got, err := s.Get(t.Context(), view.ClusterKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := view.Decode[view.Cluster](got.Value)
	if err != nil {
		t.Fatal(err)
	}
	c.Epoch = 1<<64 - 2
	w.put(kv(view.ClusterKey, view.Encode(c)))
	f, err := backup.Receive(t.Context(), t.TempDir(), bytes.NewReader(take(t, s)), anything)
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "epoch 18446744073709551614") {
		t.Errorf("%v, %v", f, err)
	}
}
