package identity_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
)

// shake makes a TLS connection between two replicas and gives the chain that the server saw, and how it ended for the client.
func shake(t *testing.T, client, server *tls.Config) ([]*x509.Certificate, error) {
	t.Helper()
	a, b := net.Pipe()
	defer func() { _ = errors.Join(a.Close(), b.Close()) }()
	srv, cl := tls.Server(b, server), tls.Client(a, client)
	done := make(chan error, 1)
	go func() {
		err := srv.HandshakeContext(t.Context())
		if err != nil {
			_ = b.Close()
		}
		done <- err
	}()
	err := cl.HandshakeContext(t.Context())
	if err != nil {
		_ = a.Close()
		<-done
		return nil, err
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return srv.ConnectionState().PeerCertificates, nil
}

func TestReplicasKnowEachOther(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one, two := c.replica("one", nil), c.replica("two", nil)
	chain, err := shake(t, one.PeerTLS("two"), two.ServerTLS())
	if err != nil {
		t.Fatal(err)
	}
	r, err := two.VerifyReplica(chain, c.clock.now())
	if err != nil || r.ID != "one" {
		t.Errorf("the client is %q, %v", r.ID, err)
	}
	if _, err := shake(t, one.PeerTLS("three"), two.ServerTLS()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("the door of another replica: %v", err)
	}
	if _, err := shake(t, one.PeerTLS("two"), newCluster(t).replica("two", nil).ServerTLS()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("the door of another control plane: %v", err)
	}
	if _, err := two.VerifyReplica(nil, c.clock.now()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("no certificate: %v", err)
	}
	for name, days := range map[string]int{"a month later": 30, "a month before": -30} {
		if _, err := two.VerifyReplica(chain, c.clock.now().AddDate(0, 0, days)); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An instance is no replica, and a replica no instance.
func TestReplicasAndInstancesAreApart(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one, two := c.replica("one", nil), c.replica("two", nil)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := one.Issue(identity.Subject{Namespace: "ns", Agent: "cp", Instance: "one"}, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	for _, der := range issued.Chain {
		p, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, p)
	}
	if _, err := two.VerifyReplica(chain, c.clock.now()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("an instance as a replica: %v", err)
	}
	shown, err := shake(t, one.PeerTLS("two"), two.ServerTLS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Verify(shown, c.clock.now()); !errs.Is(err, errs.Unauthenticated) {
		t.Errorf("a replica as an instance: %v", err)
	}
}
