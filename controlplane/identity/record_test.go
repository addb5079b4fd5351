package identity_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestReplicasShareOneAuthority(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		pins = map[string]bool{}
	)
	for range 5 { // all find an empty store
		wg.Go(func() {
			a, err := identity.Open(t.Context(), identity.Config{
				Store: c.store, Logger: slog.New(slog.DiscardHandler), KEK: c.kek, TrustDomain: "example.org", ReplicaID: "r",
			})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			pins[a.Roots()[0].Pin] = true
		})
	}
	wg.Wait()
	if len(pins) != 1 {
		t.Errorf("%d roots", len(pins))
	}
}

func TestAuthorityIsSealed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.replica("r1", nil)
	page, err := c.store.List(t.Context(), view.IdentityPrefix, store.ListOptions{})
	if err != nil || len(page.KVs) != 1 {
		t.Fatalf("%d records, %v", len(page.KVs), err)
	}
	kv := page.KVs[0]
	if secret.SealedBy(kv.Value) != c.kek.ID() || strings.Contains(string(kv.Value), "issuerKey") {
		t.Errorf("not sealed: %.80s", kv.Value)
	}
	wrong, err := secret.CreateFileKEK(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = identity.Open(t.Context(), identity.Config{
		Store: c.store, Logger: slog.New(slog.DiscardHandler), KEK: wrong, TrustDomain: "example.org", ReplicaID: "r",
	})
	if !errs.Is(err, errs.Precondition) {
		t.Errorf("opened with another key: %v", err)
	}
	_, err = identity.Open(t.Context(), identity.Config{
		Store: c.store, Logger: slog.New(slog.DiscardHandler), KEK: c.kek, TrustDomain: "example.com", ReplicaID: "r",
	})
	if !errs.Is(err, errs.Precondition) {
		t.Errorf("opened for another trust domain: %v", err)
	}
}

// TestReseal puts a new key on top of the key file, as its owner does, and takes the former away after it.
func TestReseal(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	before := c.replica("r1", nil)
	pin := before.Roots()[0].Pin
	if sealed, again, err := before.Reseal(t.Context()); err != nil || sealed != 1 || again != 0 {
		t.Errorf("nothing to do: %d, %d, %v", sealed, again, err)
	}
	old, err := os.ReadFile(c.kekFile)
	if err != nil {
		t.Fatal(err)
	}
	open := func(content ...[]byte) *secret.FileKEK {
		t.Helper()
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, bytes.Join(content, nil), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := secret.OpenFileKEK(path)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	fresh := []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32)) + "\n")
	c.kek = open(fresh, old)
	for i, want := range []int{1, 0} {
		if sealed, again, err := c.replica("r2", nil).Reseal(t.Context()); err != nil || sealed != 1 || again != want {
			t.Errorf("run %d: %d, %d, %v", i, sealed, again, err)
		}
	}
	c.kek = open(fresh)
	if got := c.replica("r3", nil).Roots()[0].Pin; got != pin {
		t.Errorf("root %s, want %s", got, pin)
	}
	// A replica that hasn't got the new key yet goes on with what it read.
	if got := kind(before.Verify(parse(t, give(t, before, helper("i1")).Chain), c.clock.now())); got != "" {
		t.Errorf("a replica with the former key: %q", got)
	}
}

func TestIntermediateIsRenewedByOneReplica(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.replica("r1", nil), c.replica("r2", nil)
	before, _ := a.Issuer()
	old := give(t, a, helper("i1"))
	c.clock.add(50 * day)
	tend(t, a, b)
	if now, _ := a.Issuer(); now != before {
		t.Error("renewed before its time")
	}
	c.clock.add(11 * day)
	tend(t, a, b)
	sa, _ := a.Issuer()
	eventually(t, b, func() bool { sb, _ := b.Issuer(); return sb == sa })
	if sa == before {
		t.Fatal("not renewed after two thirds of its life")
	}
	// What the former one signed counts as long as it lives.
	if got := kind(b.Verify(parse(t, old.Chain), old.NotAfter)); got != "" {
		t.Errorf("a leaf of the former intermediate: %q", got)
	}
	if got := kind(a.Verify(parse(t, give(t, b, helper("i1")).Chain), c.clock.now())); got != "" {
		t.Errorf("a leaf of the new one: %q", got)
	}
}
