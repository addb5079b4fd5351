package identityapi_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/identity"
	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
)

func TestEnrollAndStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.join("default", "helper", "i1")
	if b.cert.GetSpiffeId() != "spiffe://example.org/ns/default/agent/helper" || b.cert.GetGraceSeconds() != 7*24*3600 || len(b.cert.GetRoots()) != 1 {
		t.Errorf("certificate %v", b.cert)
	}
	got, err := who(t.Context(), w.as(b))
	if err != nil || got != "agent:default/helper default/helper/i1" {
		t.Errorf("%q, %v", got, err)
	}
	_, err = who(t.Context(), w.as(nil))
	wantKind(t, "a stream without a certificate", err, errs.Unauthenticated)
	if e := w.log.last(); e.Type != audit.Unauthenticated || e.Actor != "address:127.0.0.1" {
		t.Errorf("event %+v", e)
	}
}

// TestProofsThatDoNotHold: every one of them gets the very same answer.
func TestProofsThatDoNotHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(w *world) {
		w.kube = func(token string) (identity.Attested, error) {
			if token != "good" {
				return identity.Attested{}, errs.New(errs.Unauthenticated, "kubernetes knows why")
			}
			return identity.Attested{Namespace: "default", Agent: "pod", Proof: identity.ByKubernetes}, nil
		}
	})
	spent := w.token("default", "helper")
	enroll := func(r *identityv1.EnrollRequest) error {
		r.Csr = csrOf(t, newKey(t))
		if r.GetInstance() == "" {
			r.Namespace, r.Agent, r.Instance = "default", "helper", "i1"
		}
		_, err := identityv1.NewEnrollServiceClient(w.as(nil)).Enroll(t.Context(), r)
		return err
	}
	join := func(token string) *identityv1.EnrollRequest {
		return &identityv1.EnrollRequest{Proof: &identityv1.EnrollRequest_JoinToken{JoinToken: token}}
	}
	if err := enroll(join(spent)); err != nil {
		t.Fatal(err)
	}
	foreign := join(w.token("default", "helper"))
	foreign.Namespace, foreign.Agent, foreign.Instance = "default", "other", "i1"
	answers := map[string]bool{}
	for name, r := range map[string]*identityv1.EnrollRequest{
		"spent":             join(spent),
		"of another agent":  foreign,
		"never made":        join("agj_nothing"),
		"empty":             join(""),
		"very long":         join(strings.Repeat("x", 1<<20)),
		"no proof":          {},
		"kubernetes":        {Proof: &identityv1.EnrollRequest_KubernetesToken{KubernetesToken: "bad"}},
		"kubernetes, other": {Proof: &identityv1.EnrollRequest_KubernetesToken{KubernetesToken: "good"}},
	} {
		err := enroll(r)
		wantKind(t, name, err, errs.Unauthenticated)
		answers[status.Convert(err).Message()] = true
	}
	if len(answers) != 1 {
		t.Errorf("told apart: %v", answers)
	}
	pod := &identityv1.EnrollRequest{Namespace: "default", Agent: "pod", Instance: "i1", Proof: &identityv1.EnrollRequest_KubernetesToken{KubernetesToken: "good"}}
	if err := enroll(pod); err != nil {
		t.Errorf("a good service account token: %v", err)
	}
}

func TestRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b := w.join("default", "helper", "i1")
	renew := func(b *bearer, instance string) (*bearer, error) {
		next := &bearer{key: newKey(t)}
		r, err := identityv1.NewEnrollServiceClient(w.as(b)).Renew(t.Context(), &identityv1.RenewRequest{Instance: instance, Csr: csrOf(t, next.key)})
		next.cert = r.GetCertificate()
		return next, err
	}
	_, err := renew(nil, "i1")
	wantKind(t, "without a certificate", err, errs.Unauthenticated)
	_, err = renew(b, "i2")
	wantKind(t, "for another instance", err, errs.Denied)
	// Run out, but within the grace: nothing but a renewal.
	w.pass(2 * day)
	_, err = who(t.Context(), w.as(b))
	wantKind(t, "a stream in the grace", err, errs.Unauthenticated)
	next, err := renew(b, "i1")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := who(t.Context(), w.as(next)); err != nil || !strings.HasSuffix(got, "default/helper/i1") {
		t.Errorf("%q, %v", got, err)
	}
	if _, _, err := w.authority.Revoke(t.Context(), identity.Subject{Namespace: "default", Agent: "helper"}, "user:ada", ""); err != nil {
		t.Fatal(err)
	}
	_, err = renew(next, "i1")
	wantKind(t, "revoked", err, errs.Denied)
	_, err = who(t.Context(), w.as(next))
	wantKind(t, "a stream of a revoked one", err, errs.Denied)
	if e := w.log.last(); e.Type != audit.Denied || e.Actor != "agent:default/helper" || e.Instance != "i1" {
		t.Errorf("event %+v", e)
	}
	w.pass(30 * day)
	old := w.join("default", "other", "i1")
	w.pass(9 * day)
	_, err = renew(old, "i1")
	wantKind(t, "after the grace", err, errs.Unauthenticated)
}

// TestConnectionOutlivesItsCertificate: what counted when the connection was made is looked at again at each call.
func TestConnectionOutlivesItsCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	conn := w.as(w.join("default", "helper", "i1"))
	if _, err := who(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	w.pass(day + time.Minute)
	_, err := who(t.Context(), conn)
	wantKind(t, "after its end", err, errs.Unauthenticated)
}

func TestResumption(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b, sessions := w.join("default", "helper", "i1"), tls.NewLRUClientSessionCache(4)
	for i, want := range []bool{false, true, true} {
		got, err := who(t.Context(), w.dial(b.cert.GetChain(), b.key, sessions))
		if err != nil || !strings.HasSuffix(got, "default/helper/i1") {
			t.Fatalf("%q, %v", got, err)
		}
		w.mu.Lock()
		resumed := w.resumed
		w.mu.Unlock()
		if resumed != want {
			t.Errorf("connection %d resumed: %t", i, resumed)
		}
	}
	if _, _, err := w.authority.Revoke(t.Context(), identity.Subject{Namespace: "default", Agent: "helper"}, "user:ada", ""); err != nil {
		t.Fatal(err)
	}
	_, err := who(t.Context(), w.dial(b.cert.GetChain(), b.key, sessions))
	wantKind(t, "a resumed session of a revoked certificate", err, errs.Denied)
}

// TestX509Possession: a certificate of another authority enrolls the agent that its URI names, and opens nothing.
func TestX509Possession(t *testing.T) {
	t.Parallel()
	caKey, leafKey := newKey(t), newKey(t)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	make1 := func(uri string, expired bool) [][]byte {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(day), URIs: []*url.URL{u},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if expired {
			leaf.NotAfter = time.Now().Add(-time.Hour)
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, authority, &leafKey.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{der}
	}
	ca, err := x509.CreateCertificate(rand.Reader, authority, authority, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(ca)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(w *world) {
		w.pop = x509.NewCertPool()
		w.pop.AddCert(root)
	})
	enroll := func(chain [][]byte, agent string) error {
		_, err := identityv1.NewEnrollServiceClient(w.dial(chain, leafKey, nil)).Enroll(t.Context(), &identityv1.EnrollRequest{
			Namespace: "default", Agent: agent, Instance: "i1", Csr: csrOf(t, newKey(t)),
		})
		return err
	}
	good := make1("spiffe://elsewhere/ns/default/agent/helper", false)
	if err := enroll(good, "helper"); err != nil {
		t.Error(err)
	}
	for name, tc := range map[string]struct {
		chain [][]byte
		agent string
	}{
		"another agent": {good, "other"},
		"expired":       {make1("spiffe://elsewhere/ns/default/agent/helper", true), "helper"},
		"another path":  {make1("spiffe://elsewhere/workload/helper", false), "helper"},
	} {
		wantKind(t, name, enroll(tc.chain, tc.agent), errs.Unauthenticated)
	}
	_, err = who(t.Context(), w.dial(good, leafKey, nil))
	wantKind(t, "a stream", err, errs.Unauthenticated)
}

func TestEnrollmentIsRated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	c := identityv1.NewEnrollServiceClient(w.as(nil))
	csr := csrOf(t, newKey(t))
	for range 2000 {
		_, err := c.Enroll(t.Context(), &identityv1.EnrollRequest{
			Proof: &identityv1.EnrollRequest_JoinToken{JoinToken: "agj_x"}, Namespace: "default", Agent: "helper", Instance: "i1", Csr: csr,
		})
		if errs.Is(errFrom(err), errs.Exhausted) {
			return
		}
	}
	t.Error("2,000 enrollments in a row were all heard")
}

// TestRenewalsAreRated: one certificate writes no endless series of records and audit entries, over however many connections.
func TestRenewalsAreRated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	b, csr := w.join("default", "helper", "i1"), csrOf(t, newKey(t))
	renew := func(b *bearer) error {
		_, err := identityv1.NewEnrollServiceClient(w.as(b)).Renew(t.Context(), &identityv1.RenewRequest{Csr: csr})
		return err
	}
	for i := range 20 {
		if err := renew(b); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	wantKind(t, "the 21st", renew(b), errs.Exhausted)
	if err := renew(w.join("default", "helper", "i2")); err != nil {
		t.Errorf("another instance: %v", err)
	}
	w.pass(2 * time.Hour)
	if err := renew(b); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestPlaintextIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	_, err := who(t.Context(), w.plain())
	wantKind(t, "plaintext", err, errs.Unavailable)
}
