package e2e

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

// sealed takes what lies sealed in a store and in the agents' state: the private keys of the authority and of the instances, and the keys
// that seal.
func (w *secretsWorld) sealed(dataDir string) {
	t := w.t
	s, err := etcdstore.OpenEmbedded(t.Context(), etcdstore.EmbeddedConfig{Dir: dataDir})
	if err != nil {
		t.Fatal(err)
	}
	open := func(key string, at secret.Place) string {
		t.Helper()
		kek, err := secret.OpenFileKEK(filepath.Join(dataDir, "kek"))
		if err != nil {
			t.Fatal(err)
		}
		kv, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		v, err := secret.Open(kek, at, kv.Value)
		if err != nil {
			t.Fatal(err)
		}
		return v.Reveal()
	}
	own := dataDir == w.cp.DataDir // the other has its authority in files
	of := " of " + filepath.Base(filepath.Dir(dataDir))
	if own {
		var authority struct {
			Roots  []struct{ Key, IssuerKey []byte }
			Ticket []byte
		}
		if err := json.Unmarshal([]byte(open("/agentry/identity/trust/authority", secret.Place{Kind: "identity", Name: "authority"})), &authority); err != nil || len(authority.Roots) == 0 {
			t.Fatalf("%d roots, %v", len(authority.Roots), err)
		}
		for _, r := range authority.Roots {
			w.h.key(t, "root key", "", r.Key)
			w.h.key(t, "intermediate key", "", r.IssuerKey)
		}
		w.h.text(t, "seed of session tickets", "", string(authority.Ticket))
	}
	w.h.text(t, "fingerprint key"+of, "", open("/agentry/settings/fingerprint-key", secret.Place{Kind: "setting", Name: "fingerprint-key"}))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	w.keyFile("key file"+of, filepath.Join(dataDir, "kek"))
	if !own {
		return
	}
	for _, a := range w.agents {
		w.keyFile("state key of "+a.Instance, filepath.Join(a.StateDir, "key"))
		w.h.key(t, "private key of "+a.Instance, "", identityKey(t, a))
	}
}

// keyFile takes a file with a key that seals: it may lie there and nowhere else, neither as text nor as bytes.
func (w *secretsWorld) keyFile(name, path string) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	home, err := filepath.Rel(w.Dir, path)
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.h.text(w.t, name, home, string(raw)) // its base64 is the text
}

// identityKey opens an agent's stored identity and gives its private key (PKCS #8).
func identityKey(t *testing.T, a *harness.Agent) []byte {
	t.Helper()
	kek, err := secret.OpenFileKEK(filepath.Join(a.StateDir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	frame, err := os.ReadFile(filepath.Join(a.StateDir, "identity"))
	if err != nil {
		t.Fatal(err)
	}
	var body struct {
		Namespace, Agent string
		Key              []byte
	}
	const header = 72
	if err := json.Unmarshal(frame[header:], &body); err != nil {
		t.Fatal(err)
	}
	v, err := secret.Open(kek, secret.Place{Kind: "identity", Namespace: body.Namespace, Name: body.Agent}, body.Key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := base64.StdEncoding.DecodeString(v.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// keyPEM takes a file with a private key, which may lie there and nowhere else.
func (w *secretsWorld) keyPEM(name, path string) {
	w.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	home, err := filepath.Rel(w.Dir, path)
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	w.h.key(w.t, name, home, block.Bytes)
}
