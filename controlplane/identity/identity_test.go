package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	day   = 24 * time.Hour
	grace = 7 * day
)

// clock is a clock that only the test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// cluster is a store with replicas that share it.
type cluster struct {
	t     testing.TB
	store store.Store
	kek   secret.KEK
	clock *clock

	kekFile string
}

func newCluster(tb testing.TB) *cluster {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "kek")
	kek, err := secret.CreateFileKEK(path)
	if err != nil {
		tb.Fatal(err)
	}
	s := memstore.New()
	tb.Cleanup(func() { _ = s.Close() })
	return &cluster{t: tb, store: s, kek: kek, kekFile: path, clock: &clock{t: time.Now().Truncate(time.Second)}}
}

// replica opens an authority and runs it until the test ends. tune may be nil.
func (c *cluster) replica(id string, tune func(*identity.Config)) *identity.Authority {
	c.t.Helper()
	cfg := identity.Config{
		Store: c.store, Logger: slog.New(slog.DiscardHandler), KEK: c.kek, TrustDomain: "example.org", ReplicaID: id, Now: c.clock.now,
	}
	if tune != nil {
		tune(&cfg)
	}
	a, err := identity.Open(c.t.Context(), cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	c.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("run: %v", err)
		}
	})
	return a
}

func newKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

func helper(instance string) identity.Subject {
	return identity.Subject{Namespace: "default", Agent: "helper", Instance: instance}
}

func parse(tb testing.TB, chain [][]byte) []*x509.Certificate {
	tb.Helper()
	var out []*x509.Certificate
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// give enrolls an instance past any proof.
func give(tb testing.TB, a *identity.Authority, s identity.Subject) identity.Certificate {
	tb.Helper()
	c, err := a.Enroll(tb.Context(), identity.Attested{Namespace: s.Namespace, Agent: s.Agent, Proof: identity.ByRenewal}, s.Instance, &newKey(tb).PublicKey)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// kind is "" for no error, "grace" for one that is good for a renewal only, else the kind of the error.
func kind(p identity.Peer, err error) string {
	switch {
	case err == nil && p.InGrace:
		return "grace"
	case err == nil:
		return ""
	case errs.Is(err, errs.Denied):
		return "denied"
	case errs.Is(err, errs.Unauthenticated):
		return "unauthenticated"
	default:
		return err.Error()
	}
}

func TestLeafIsAnSVID(t *testing.T) {
	t.Parallel()
	a := newCluster(t).replica("r1", nil)
	c := give(t, a, helper("i1"))
	certs := parse(t, c.Chain)
	bundle := x509bundle.New(spiffeid.RequireTrustDomainFromString("example.org"))
	for _, r := range parse(t, c.Roots) {
		bundle.AddX509Authority(r)
	}
	id, _, err := x509svid.Verify(certs, bundle) // go-spiffe's own reading of the specification
	if err != nil {
		t.Fatal(err)
	}
	if got := id.String(); got != "spiffe://example.org/ns/default/agent/helper" || got != c.ID {
		t.Errorf("id %s, told %s", got, c.ID)
	}
	leaf := certs[0]
	switch {
	case leaf.IsCA, leaf.KeyUsage != x509.KeyUsageDigitalSignature, len(leaf.URIs) != 1, len(leaf.DNSNames) > 0:
		t.Errorf("not as the specification wants it: %+v", leaf)
	case leaf.SerialNumber.BitLen() < 128:
		t.Errorf("serial of %d bits", leaf.SerialNumber.BitLen())
	case leaf.NotAfter.Sub(c.Now) != day || c.Now.Sub(leaf.NotBefore) != identity.Skew:
		t.Errorf("valid from %s to %s at %s", leaf.NotBefore, leaf.NotAfter, c.Now)
	}
	p, err := a.Verify(certs, c.Now)
	if err != nil || p.Subject != helper("i1") || p.Serial != c.Serial {
		t.Errorf("peer %+v, %v", p, err)
	}
}

// TestExpiryGraceAndSkew moves the clock over the life of a leaf, and that of a replica by an hour either way.
func TestExpiryGraceAndSkew(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		after time.Duration // from when it was given
		want  string
	}{
		"just given":                     {0, ""},
		"by a clock an hour behind":      {-time.Hour, ""},
		"by a clock two hours behind":    {-identity.Skew, ""},
		"by one that is far behind":      {-identity.Skew - 3*time.Hour, "unauthenticated"},
		"at half of its life":            {12 * time.Hour, ""},
		"half, by a clock an hour ahead": {13 * time.Hour, ""},
		"in its last second":             {day, ""},
		"a second later":                 {day + time.Second, "grace"},
		"at the end of the grace":        {day + grace, "grace"},
		"too late":                       {day + grace + time.Second, "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			a := c.replica("r1", nil)
			given := give(t, a, helper("i1"))
			if got := kind(a.Verify(parse(t, given.Chain), c.clock.now().Add(tc.after))); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestForeignCertificates(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.replica("r1", nil)
	other := newCluster(t).replica("r1", nil)
	elsewhere := newCluster(t).replica("r1", func(cfg *identity.Config) { cfg.TrustDomain = "example.com" })
	if got := kind(a.Verify(nil, c.clock.now())); got != "unauthenticated" {
		t.Errorf("nothing: %q", got)
	}
	for name, chain := range map[string][][]byte{
		"another authority of the same name": give(t, other, helper("i1")).Chain,
		"another trust domain":               give(t, elsewhere, helper("i1")).Chain,
		"leaf without its intermediate":      give(t, a, helper("i1")).Chain[:1],
		"an intermediate alone":              give(t, a, helper("i1")).Chain[1:],
		"a root":                             give(t, a, helper("i1")).Roots,
	} {
		if got := kind(a.Verify(parse(t, chain), c.clock.now())); got != "unauthenticated" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func tend(t *testing.T, all ...*identity.Authority) {
	t.Helper()
	for _, a := range all {
		if err := a.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// eventually waits for what the watch brings.
func eventually(t *testing.T, a *identity.Authority, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		changed := a.Changed()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatal("it didn't come")
		}
	}
}

func TestKeyOfRefuses(t *testing.T) {
	t.Parallel()
	csr := func(key any) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := csr(newKey(t))
	if _, err := identity.KeyOf(good); err != nil {
		t.Errorf("a good one: %v", err)
	}
	bent := append([]byte(nil), good...)
	bent[len(bent)-1] ^= 1
	for name, der := range map[string][]byte{"another curve": csr(p384), "a bent signature": bent, "nothing": nil, "noise": []byte("abc")} {
		if _, err := identity.KeyOf(der); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
