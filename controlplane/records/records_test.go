package records

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func decode(_ string, value []byte) (string, error) {
	if strings.HasPrefix(string(value), "bad") {
		return "", errs.New(errs.Invalid, "a bad record")
	}
	return string(value), nil
}

func put(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func running(t *testing.T, s store.Store, log *slog.Logger) *Table[string] {
	t.Helper()
	table, err := Open(t.Context(), Config[string]{Store: s, Prefix: "a/", Decode: decode, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- table.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return table
}

func TestATableFollowsItsPrefix(t *testing.T) {
	s := memstore.New()
	for i := range 1500 { // more than a page
		put(t, s, fmt.Sprintf("a/%04d", i), "v")
	}
	put(t, s, "b/x", "other")
	table := running(t, s, slog.New(slog.DiscardHandler))
	if rows, _ := table.All(); len(rows) != 1500 {
		t.Fatalf("%d rows", len(rows))
	}
	changed := table.Changed()
	rev := put(t, s, "b/x", "again")
	if err := table.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		t.Error("a change of other keys is told")
	default:
	}
	rev = put(t, s, "a/0000", "w")
	<-changed
	if err := table.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if row, ok := table.Get("0000"); !ok || row.Value != "w" || row.ModRevision != rev {
		t.Errorf("row %+v", row)
	}
	rev, err := s.Commit(t.Context(), store.Txn{Deletes: []string{"a/0000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := table.WaitFor(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Get("0000"); ok {
		t.Error("a deleted row is there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := table.WaitFor(ctx, rev+1); !errs.Is(err, errs.Timeout) {
		t.Errorf("wait for the future: %v", err)
	}
}

// Default deny: a record that turned unreadable doesn't go on counting as it was.
func TestARecordThatCannotBeReadIsLeftOut(t *testing.T) {
	s := memstore.New()
	put(t, s, "a/x", "good")
	put(t, s, "a/y", "bad from the beginning")
	var log bytes.Buffer
	table := running(t, s, slog.New(slog.NewTextHandler(&log, nil)))
	if _, ok := table.Get("y"); ok {
		t.Error("a bad record is there")
	}
	if err := table.WaitFor(t.Context(), put(t, s, "a/x", "bad")); err != nil {
		t.Fatal(err)
	}
	if _, ok := table.Get("x"); ok {
		t.Error("a record that turned bad is there")
	}
	if !strings.Contains(log.String(), "a/y") || !strings.Contains(log.String(), "a/x") {
		t.Errorf("it isn't told: %s", log.String())
	}
}

func TestOpenRefuses(t *testing.T) {
	s := memstore.New()
	log := slog.New(slog.DiscardHandler)
	for name, cfg := range map[string]Config[string]{
		"no store":  {Prefix: "a/", Decode: decode, Logger: log},
		"no prefix": {Store: s, Decode: decode, Logger: log},
		"no end":    {Store: s, Prefix: "a", Decode: decode, Logger: log},
		"no decode": {Store: s, Prefix: "a/", Logger: log},
		"no logger": {Store: s, Prefix: "a/", Decode: decode},
	} {
		if _, err := Open(t.Context(), cfg); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	down := errs.New(errs.Unavailable, "down")
	s.FailNext(down)
	if _, err := Open(t.Context(), Config[string]{Store: s, Prefix: "a/", Decode: decode, Logger: log}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a store that is down: %v", err)
	}
}

// TestABrokenWatch: an etcd that was away for longer than its history reaches must not end the process, nor hide what was deleted.
func TestABrokenWatch(t *testing.T) {
	for name, compacted := range map[string]bool{"the store was away": false, "its history is gone": true} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New()
			put(t, s, "a/gone", "v")
			put(t, s, "a/stays", "v")
			table := running(t, s, slog.New(slog.DiscardHandler))
			kind := errs.Unavailable
			if compacted {
				kind = errs.OutOfRange
			}
			changed := table.Changed()
			s.BreakWatches(errs.New(kind, "broken"))
			if _, err := s.Commit(t.Context(), store.Txn{Deletes: []string{"a/gone"}}); err != nil {
				t.Fatal(err)
			}
			rev := put(t, s, "a/new", "v")
			if err := table.WaitFor(t.Context(), rev); err != nil {
				t.Fatal(err)
			}
			<-changed
			rows, _ := table.All()
			if _, there := rows["gone"]; there || len(rows) != 2 {
				t.Errorf("rows %v", rows)
			}
			rev = put(t, s, "a/later", "v")
			if err := table.WaitFor(t.Context(), rev); err != nil {
				t.Fatal(err)
			}
		})
	}
}
