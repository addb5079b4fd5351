package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness/pki"
)

// TestIdentityFiles: what the flags name is read at the start, and what is wrong with it is told with the flag's name.
func TestIdentityFiles(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.New()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.WriteFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	put := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secretText, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	open, none := put("open.pem", string(secretText), 0o644), filepath.Join(dir, "none")
	kek, err := secret.CreateFileKEK(filepath.Join(dir, "kek"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set  func(*Identity)
		want string // "": it starts
	}{
		"an authority of its own": {func(*Identity) {}, ""},
		"an authority in files":   {func(c *Identity) { c.CACert, c.CAKey = cert, key }, ""},
		"x509pop":                 {func(c *Identity) { c.X509PoPCA = cert }, ""},
		"kubernetes": {func(c *Identity) {
			c.KubeAPIURL, c.KubeCA, c.KubeTokenFile, c.KubeMap = "https://kubernetes.default.svc", cert, none, put("map.json", `{"a/b": "default/helper"}`, 0o600)
		}, ""},
		"no CA certificate":       {func(c *Identity) { c.CACert, c.CAKey = none, key }, "--ca-cert"},
		"no CA key":               {func(c *Identity) { c.CACert, c.CAKey = cert, none }, "--ca-key"},
		"a key for all to read":   {func(c *Identity) { c.CACert, c.CAKey = cert, open }, "chmod 600"},
		"a key that is no key":    {func(c *Identity) { c.CACert, c.CAKey = cert, put("noise.pem", "x", 0o600) }, "no PEM key"},
		"no roots of possession":  {func(c *Identity) { c.X509PoPCA = none }, "--x509pop-ca"},
		"roots that are none":     {func(c *Identity) { c.X509PoPCA = put("x", "x", 0o600) }, "--x509pop-ca"},
		"kubernetes without TLS":  {func(c *Identity) { c.KubeAPIURL = "http://kubernetes" }, "https"},
		"kubernetes map is a key": {func(c *Identity) { c.KubeAPIURL, c.KubeMap = "https://kubernetes", key }, "kubernetes map"},
		"a trust domain of noise": {func(c *Identity) { c.TrustDomain = "A B" }, "trust domain"},
	} {
		t.Run(name, func(t *testing.T) {
			in := parts{cfg: Config{Identity: defaultIdentity()}, replica: "r1", log: slog.New(slog.DiscardHandler), store: memstore.New(), kek: kek, trail: &trail{}}
			tc.set(&in.cfg.Identity)
			in.authority, err = openAuthority(t.Context(), in)
			if err == nil {
				_, err = newIdentities(in)
			}
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
