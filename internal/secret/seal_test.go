package secret_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func newKEK(t *testing.T) (*secret.FileKEK, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	k, err := secret.CreateFileKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	return k, path
}

func TestSealOpensOnlyAtItsPlace(t *testing.T) {
	k, _ := newKEK(t)
	other, _ := newKEK(t)
	at := secret.Place{Kind: "credential", Namespace: "default", Name: "a.model.apiKey", Version: 1}
	sealed, err := secret.Seal(k, at, secret.NewValue(canary))
	if err != nil {
		t.Fatal(err)
	}
	again, err := secret.Seal(k, at, secret.NewValue(canary))
	if err != nil || bytes.Equal(sealed, again) {
		t.Errorf("sealing twice: equal bytes or %v", err)
	}
	if bytes.Contains(sealed, []byte("canary")) {
		t.Error("the secret lies in the sealed bytes")
	}
	if v, err := secret.Open(k, at, sealed); err != nil || v.Reveal() != canary {
		t.Errorf("open: %v", err)
	}
	flipped := bytes.Replace(sealed, []byte(`"data":"`), []byte(`"data":"A`), 1)
	cases := map[string]struct {
		kek    secret.KEK
		at     secret.Place
		sealed []byte
		want   errs.Kind
	}{
		"other namespace": {k, secret.Place{Kind: "credential", Namespace: "other", Name: at.Name, Version: 1}, sealed, errs.Invalid},
		"other name":      {k, secret.Place{Kind: "credential", Namespace: "default", Name: "b.model.apiKey", Version: 1}, sealed, errs.Invalid},
		"shifted border":  {k, secret.Place{Kind: "credential", Namespace: "defaulta", Name: ".model.apiKey", Version: 1}, sealed, errs.Invalid},
		"other kind":      {k, secret.Place{Kind: "setting", Namespace: "default", Name: at.Name, Version: 1}, sealed, errs.Invalid},
		"other version":   {k, secret.Place{Kind: "credential", Namespace: "default", Name: at.Name, Version: 2}, sealed, errs.Invalid},
		"other key":       {other, at, sealed, errs.Precondition},
		"changed bytes":   {k, at, flipped, errs.Invalid},
		"no envelope":     {k, at, []byte("sk-plain"), errs.Invalid},
		"empty":           {k, at, nil, errs.Invalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if v, err := secret.Open(c.kek, c.at, c.sealed); !errs.Is(err, c.want) || !v.IsZero() {
				t.Errorf("got %v, want kind %v", err, c.want)
			}
		})
	}
	if secret.SealedBy(sealed) != k.ID() || secret.SealedBy([]byte("x")) != "" {
		t.Error("SealedBy is wrong")
	}
}

func TestRotationKeepsOldValuesAndFingerprints(t *testing.T) {
	k, path := newKEK(t)
	at := secret.Place{Kind: "setting", Name: "fingerprint-key"}
	key := secret.NewFingerprintKey()
	sealed, err := secret.Seal(k, at, key)
	if err != nil {
		t.Fatal(err)
	}
	place := secret.Place{Kind: "credential", Namespace: "default", Name: "x"}
	before := fingerprint(t, key, place)

	_, newPath := newKEK(t)
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(newPath)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(fresh, old...), 0o600); err != nil {
		t.Fatal(err)
	}
	rotated, err := secret.OpenFileKEK(path)
	if err != nil {
		t.Fatal(err)
	}
	if rotated.ID() == k.ID() {
		t.Error("the new key is not on top")
	}
	got, err := secret.Open(rotated, at, sealed)
	if err != nil {
		t.Fatal(err)
	}
	after := fingerprint(t, got, place)
	var f *secret.Fingerprinter
	if !f.Equal(before, after) || f.Equal("", "") {
		t.Errorf("fingerprints: %q and %q", before, after)
	}
	place.Name = "y"
	if fingerprint(t, got, place) == before {
		t.Error("one secret has one fingerprint at two places")
	}
}

func fingerprint(t *testing.T, key secret.Value, at secret.Place) string {
	t.Helper()
	f, err := secret.NewFingerprinter(key)
	if err != nil {
		t.Fatal(err)
	}
	return f.Sum(at, secret.NewValue(canary))
}

func TestKeyFileFaults(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := strings.Repeat("A", 43) + "=\n"
	cases := map[string]struct {
		path string
		want errs.Kind
	}{
		"missing":       {filepath.Join(dir, "none"), errs.NotFound},
		"group reads":   {write("open", good, 0o640), errs.Precondition},
		"short key":     {write("short", "QUJD\n", 0o600), errs.Invalid},
		"not base64":    {write("text", "hello there\n", 0o600), errs.Invalid},
		"only comments": {write("none-in", "# nothing\n", 0o600), errs.Invalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := secret.OpenFileKEK(c.path); !errs.Is(err, c.want) {
				t.Errorf("got %v, want kind %v", err, c.want)
			}
		})
	}
	if _, err := secret.OpenFileKEK(write("good", "# a comment\n"+good, 0o600)); err != nil {
		t.Error(err)
	}
	if _, err := secret.CreateFileKEK(filepath.Join(dir, "good")); !errs.Is(err, errs.Exists) {
		t.Errorf("overwriting a key file: %v", err)
	}
}
