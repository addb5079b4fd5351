package reseal

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store whose credentials are sealed with the first of two keys.
type world struct {
	t     *testing.T
	store *memstore.Store
	view  *view.View
	dir   string
}

const credentials = 7 // more than one transaction takes

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, store: memstore.New(), dir: t.TempDir()}
	if _, err := view.Init(t.Context(), w.store); err != nil {
		t.Fatal(err)
	}
	v, err := view.Open(t.Context(), view.Config{Store: w.store, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.view = v
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := v.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		_ = w.store.Close()
	})
	vault := w.vault(w.keys("old"))
	for i := range credentials {
		head := view.CredentialHead{Name: fmt.Sprintf("key-%d", i)}
		for n := int64(1); n <= 2; n++ {
			if head, err = head.Next(nil, func(version int64) ([]byte, error) {
				return vault.Seal("default", head.Name, version, secret.NewValue(value(i, version)))
			}); err != nil {
				t.Fatal(err)
			}
		}
		w.put(head)
	}
	return w
}

func value(i int, version int64) string { return fmt.Sprintf("secret-%d-of-%d", version, i) }

func (w *world) put(head view.CredentialHead) {
	w.t.Helper()
	_, err := w.store.Commit(w.t.Context(), store.Txn{Puts: []store.KV{{Key: view.HeadKey(manifest.KindCredential, "default", head.Name), Value: view.Encode(head)}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// keys gives a key file with one line for each name, the first on top.
func (w *world) keys(names ...string) *secret.FileKEK {
	w.t.Helper()
	var lines []string
	for _, n := range names {
		key := make([]byte, 32)
		copy(key, n)
		lines = append(lines, base64.StdEncoding.EncodeToString(key))
	}
	path := filepath.Join(w.dir, strings.Join(names, "-"))
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		w.t.Fatal(err)
	}
	k, err := secret.OpenFileKEK(path)
	if err != nil {
		w.t.Fatal(err)
	}
	return k
}

func (w *world) vault(k secret.KEK) *specapi.Vault {
	w.t.Helper()
	v, err := specapi.OpenVault(w.t.Context(), specapi.VaultConfig{Store: w.store, KEK: k})
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) run(v Vault) (sealed, resealed int, err error) {
	w.t.Helper()
	r, err := New(Config{Store: w.store, View: w.view, Vault: v})
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Run(w.t.Context())
}

// values opens everything.
func (w *world) values(v *specapi.Vault) []string {
	w.t.Helper()
	newest, err := w.store.Commit(w.t.Context(), store.Txn{})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.view.WaitFor(w.t.Context(), newest); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range w.view.Credentials("") {
		for version := int64(1); version <= 2; version++ {
			got, err := v.Reveal(e.Namespace, e.Head.Name, e.Head, version)
			if err != nil {
				w.t.Fatal(err)
			}
			out = append(out, got.Reveal())
		}
	}
	return out
}

func TestEverythingIsSealedWithTheNewKey(t *testing.T) {
	w := newWorld(t)
	want := w.values(w.vault(w.keys("old")))
	both := w.vault(w.keys("new", "old"))
	sealed, resealed, err := w.run(both)
	if all := 1 + 2*credentials; err != nil || sealed != all || resealed != all {
		t.Fatalf("%d of %d, %v", resealed, sealed, err)
	}
	if _, again, err := w.run(both); err != nil || again != 0 {
		t.Errorf("again: %d, %v", again, err)
	}
	if diff := cmp.Diff(want, w.values(w.vault(w.keys("new")))); diff != "" {
		t.Error("with the new key alone:", diff)
	}
	if _, err := specapi.OpenVault(t.Context(), specapi.VaultConfig{Store: w.store, KEK: w.keys("old")}); !errs.Is(err, errs.Precondition) {
		t.Errorf("the former key still opens: %v", err)
	}
}

// A credential that is rotated between the look and the write keeps its newest value.
func TestARotationMeanwhileIsKept(t *testing.T) {
	w := newWorld(t)
	both := w.vault(w.keys("new", "old"))
	racing := &rotates{Vault: both, w: w}
	if _, _, err := w.run(racing); err != nil {
		t.Fatal(err)
	}
	if !racing.done {
		t.Fatal("nothing was rotated meanwhile")
	}
	w.values(w.vault(w.keys("new")))
	head, _, _ := w.view.Credential("default", "key-3")
	if head.Version != 3 {
		t.Errorf("version %d, the rotation is lost", head.Version)
	}
}

// rotates seals a third version of one credential with the former key, once, just before it is sealed anew.
type rotates struct {
	Vault

	w    *world
	done bool
}

func (r *rotates) Reseal(namespace string, head view.CredentialHead) (view.CredentialHead, int, error) {
	if head.Name == "key-3" && !r.done {
		r.done = true
		former := r.w.vault(r.w.keys("old", "new"))
		next, err := head.Next([]string{"1"}, func(version int64) ([]byte, error) {
			return former.Seal(namespace, head.Name, version, secret.NewValue("meanwhile"))
		})
		if err != nil {
			return head, 0, err
		}
		r.w.put(next)
	}
	return r.Vault.Reseal(namespace, head)
}

// A blob that was put in another's place stops the run and isn't sealed anew there: the place is authenticated.
func TestASwappedBlobIsRefused(t *testing.T) {
	w := newWorld(t)
	w.values(w.vault(w.keys("old"))) // the view has caught up
	a, _, _ := w.view.Credential("default", "key-1")
	b, _, _ := w.view.Credential("default", "key-2")
	a.Sealed[2], b.Sealed[2] = b.Sealed[2], a.Sealed[2]
	w.put(a)
	w.put(b)
	both := w.vault(w.keys("new", "old"))
	if _, _, err := w.run(both); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "key-1") {
		t.Errorf("got %v", err)
	}
	if _, err := both.Reveal("default", "key-1", a, 2); !errs.Is(err, errs.Invalid) {
		t.Errorf("a swapped blob opens: %v", err)
	}
}
