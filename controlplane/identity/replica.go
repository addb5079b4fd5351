package identity

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/agentry/agentry/internal/errs"
)

// Replica is a control plane that showed a certificate.
type Replica struct {
	ID                  string
	Serial              string
	NotBefore, NotAfter time.Time

	root string
}

// VerifyReplica says which control plane a client's chain is of: it leads to a root of ours, names spiffe://<trust-domain>/cp/<id>,
// and counts now. Errors are errs.Unauthenticated. A replica's certificate can't be revoked: it lives for a week, and retiring the
// root ends it.
func (a *Authority) VerifyReplica(chain []*x509.Certificate, now time.Time) (Replica, error) {
	r, err := a.ReplicaChain(chain)
	if err != nil {
		return r, err
	}
	return r, a.ReplicaStanding(r, now)
}

// ReplicaChain is the part of VerifyReplica that doesn't change while a connection lasts. ReplicaStanding is the other.
func (a *Authority) ReplicaChain(chain []*x509.Certificate) (Replica, error) {
	return a.replicaOf(chain, x509.ExtKeyUsageClientAuth)
}

func (a *Authority) replicaOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) (Replica, error) {
	if len(chain) == 0 || len(chain) > maxChain+1 { // a door sends its root, too
		return Replica{}, errs.New(errs.Unauthenticated, "no certificate was shown, or too long a chain")
	}
	leaf := chain[0]
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return Replica{}, errs.New(errs.Unauthenticated, "certificate: %w", err)
	}
	name, ok := strings.CutPrefix(id.Path(), "/cp/")
	if id.TrustDomain() != a.domain || !ok || name == "" || strings.Contains(name, "/") {
		return Replica{}, errs.New(errs.Unauthenticated, "%s is no replica of the trust domain %q", id, a.domain)
	}
	root, err := a.rootOf(chain, usage)
	if err != nil {
		return Replica{}, err
	}
	return Replica{ID: name, Serial: serialOf(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, root: root}, nil
}

// ReplicaStanding says whether a replica whose chain was verified counts now. It is cheap and does no I/O.
func (a *Authority) ReplicaStanding(r Replica, now time.Time) error {
	switch {
	case a.trust.Load().pinned(r.root) == nil:
		return errs.New(errs.Unauthenticated, "certificate %s leads to a root that isn't trusted any more", r.Serial)
	case now.Add(Skew).Before(r.NotBefore):
		return errs.New(errs.Unauthenticated, "certificate %s is not valid yet", r.Serial)
	case now.After(r.NotAfter.Add(Skew)):
		return errs.New(errs.Unauthenticated, "certificate %s ran out", r.Serial)
	}
	return nil
}

// PeerTLS gives the settings of a connection to the runtime door of another replica: TLS 1.3, this replica's own certificate, and a
// server that is the replica with this id and no other.
func (a *Authority) PeerTLS(replica string) *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13}
	// go-spiffe turns off what verifies a host name, which a replica's certificate doesn't have. Its own check is replaced: ours takes
	// the newest roots and the clock of the authority. There is no session cache, so every connection is checked.
	tlsconfig.HookTLSClientConfig(cfg, x509bundle.New(spiffeid.TrustDomain{}), tlsconfig.AuthorizeAny())
	cfg.VerifyPeerCertificate = nil
	cfg.VerifyConnection = func(cs tls.ConnectionState) error {
		r, err := a.replicaOf(cs.PeerCertificates, x509.ExtKeyUsageServerAuth)
		if err == nil {
			err = a.ReplicaStanding(r, a.cfg.Now())
		}
		if err == nil && r.ID != replica {
			err = errs.New(errs.Unauthenticated, "the server is replica %q, not %q", r.ID, replica)
		}
		return err
	}
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if err := a.fresh(); err != nil {
			return nil, err
		}
		return &a.served.Load().tls.Certificates[0], nil
	}
	return cfg
}

// fresh makes the door's certificate anew where it is about to run out: the machine slept, or its clock was set.
func (a *Authority) fresh() error {
	if a.cfg.Now().After(a.served.Load().ends.Add(-serverLife / 4)) {
		return a.serve()
	}
	return nil
}
