package identity_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestCertificateAuthorityFromFiles(t *testing.T) {
	t.Parallel()
	rootKey, issuerKey := newKey(t), newKey(t)
	ca := func(cn string, key *ecdsa.PrivateKey, parent *x509.Certificate, by *ecdsa.PrivateKey) *x509.Certificate {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(365 * day),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := ca("root", rootKey, nil, rootKey)
	issuer := ca("issuer", issuerKey, root, rootKey)
	formerKey := newKey(t)
	former := ca("former", formerKey, nil, formerKey)
	text := func(certs ...*x509.Certificate) []byte {
		var out []byte
		for _, c := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out
	}
	keyText := func(k *ecdsa.PrivateKey) secret.Value {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return secret.NewValue(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	for name, tc := range map[string]struct {
		cert  []byte
		key   *ecdsa.PrivateKey
		roots int // 0: refused
		chain int
	}{
		"issuer and root":        {text(issuer, root), issuerKey, 1, 2},
		"root alone":             {text(root), rootKey, 1, 1},
		"with a former root":     {text(issuer, root, former), issuerKey, 2, 2},
		"another key":            {text(issuer, root), rootKey, 0, 0},
		"without the root":       {text(issuer), issuerKey, 0, 0},
		"no certificate":         {[]byte("nothing"), issuerKey, 0, 0},
		"the root doesn't match": {text(issuer, former), issuerKey, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			a, err := identity.Open(t.Context(), identity.Config{
				Store: c.store, Logger: slog.New(slog.DiscardHandler), TrustDomain: "example.org", ReplicaID: "r1",
				Files: &identity.Files{Cert: tc.cert, Key: keyText(tc.key)},
			})
			if tc.roots == 0 {
				if !errs.Is(err, errs.Invalid) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			given := give(t, a, helper("i1"))
			if len(given.Roots) != tc.roots || len(given.Chain) != tc.chain {
				t.Errorf("%d roots, chain of %d", len(given.Roots), len(given.Chain))
			}
			if got := kind(a.Verify(parse(t, given.Chain), time.Now())); got != "" {
				t.Errorf("verify: %q", got)
			}
			if _, err := a.Rotate(t.Context(), "", true, nil); !errs.Is(err, errs.Precondition) {
				t.Errorf("rotate: %v", err)
			}
			page, err := c.store.List(t.Context(), view.IdentityPrefix+"trust/", store.ListOptions{})
			if err != nil || len(page.KVs) != 0 {
				t.Errorf("%d records of the authority in the store, %v", len(page.KVs), err)
			}
		})
	}
}
