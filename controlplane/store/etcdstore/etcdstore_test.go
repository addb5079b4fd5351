package etcdstore_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/store/storetest"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, cfg etcdstore.EmbeddedConfig) *etcdstore.Store {
	t.Helper()
	s, err := etcdstore.OpenEmbedded(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestEmbeddedConformance gives each case a member of its own: closing the store ends the member.
func TestEmbeddedConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		t.Helper()
		t.Parallel()
		return open(t, etcdstore.EmbeddedConfig{Dir: t.TempDir()})
	})
}

func TestEmbeddedKeepsWhatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	first := open(t, etcdstore.EmbeddedConfig{Dir: dir})
	rev := put(t, first, "a", "1")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := open(t, etcdstore.EmbeddedConfig{Dir: dir})
	got, err := second.Get(t.Context(), "a")
	if err != nil || string(got.Value) != "1" || got.ModRevision != rev {
		t.Fatalf("%v, error %v", got, err)
	}
}

func TestEmbeddedDirInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, etcdstore.EmbeddedConfig{Dir: dir})
	_, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dir})
	if !errs.Is(err, errs.Precondition) {
		t.Fatalf("error %v, want Precondition", err)
	}
	want := fmt.Sprintf("data directory %s is in use by process %d", dir, os.Getpid())
	if !strings.Contains(err.Error(), want) {
		t.Fatalf("error %q, want %q in it", err, want)
	}
}

func TestEmbeddedDirUnusable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: file}); err == nil {
		t.Fatal("a file was taken for a data directory")
	}
}

func TestEmbeddedOutOfSpace(t *testing.T) {
	dir := t.TempDir()
	var logged lockedBuffer
	cfg := etcdstore.EmbeddedConfig{Dir: dir, QuotaBytes: 4 << 20, Logger: slog.New(slog.NewJSONHandler(&logged, nil))}
	s := open(t, cfg)
	big := strings.Repeat("x", 200<<10)
	var err error
	for range 100 { // the live data is one value; its history fills the quota
		if _, err = s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: "a", Value: []byte(big)}}}); err != nil {
			break
		}
	}
	if !errs.Is(err, errs.Exhausted) {
		t.Fatalf("error %v, want Exhausted", err)
	}
	if _, err := s.Get(t.Context(), "a"); err != nil {
		t.Fatalf("reads must go on: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, cfg)
	put(t, again, "b", "room again")
	if !strings.Contains(logged.String(), "store ran out of space and was compacted") {
		t.Errorf("log:\n%s", logged.String())
	}
}

func TestCallsEndWithClose(t *testing.T) {
	s := open(t, etcdstore.EmbeddedConfig{Dir: t.TempDir()})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				_, err := s.Commit(context.Background(), store.Txn{Puts: []store.KV{{Key: "a", Value: []byte("1")}}})
				if err == nil {
					continue
				}
				if !errs.Is(err, errs.Unavailable) {
					t.Errorf("error %v, want Unavailable", err)
				}
				return
			}
		})
	}
	put(t, s, "b", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func put(t *testing.T, s store.Store, key, value string) int64 {
	t.Helper()
	rev, err := s.Commit(t.Context(), store.Txn{Puts: []store.KV{{Key: key, Value: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// lockedBuffer takes the log of a process with many writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
