package identity

import (
	"crypto/x509"
	"time"

	"github.com/agentry/agentry/internal/errs"
)

// maxChain bounds what a peer may show.
const maxChain = 4

// Peer is who showed a certificate.
type Peer struct {
	Subject

	Serial              string
	NotBefore, NotAfter time.Time
	// InGrace: it has run out and is good for a renewal only. As of the check.
	InGrace bool

	root string // the pin of the root it leads to
}

// Verify says who a peer is: its chain leads to a root of ours, it is an SVID, it counts now, and it isn't revoked. Errors are
// errs.Unauthenticated, and errs.Denied for what is revoked.
func (a *Authority) Verify(chain []*x509.Certificate, now time.Time) (Peer, error) {
	p, err := a.Chain(chain)
	if err != nil {
		return p, err
	}
	return a.Standing(p, now)
}

// Chain is the part of Verify that doesn't change while a connection lasts: signatures and shape. Standing is the other.
func (a *Authority) Chain(chain []*x509.Certificate) (Peer, error) {
	if len(chain) == 0 || len(chain) > maxChain {
		return Peer{}, errs.New(errs.Unauthenticated, "no certificate was shown, or too long a chain")
	}
	leaf := chain[0]
	s, err := subjectOf(leaf, a.domain)
	if err != nil {
		return Peer{}, err
	}
	root, err := a.rootOf(chain, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return Peer{}, err
	}
	return Peer{Subject: s, Serial: serialOf(leaf), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, root: root}, nil
}

// rootOf gives the pin of the root of ours that a chain leads to. Whether it counts now is not asked.
func (a *Authority) rootOf(chain []*x509.Certificate, usage x509.ExtKeyUsage) (string, error) {
	leaf := chain[0]
	if leaf.IsCA || leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0 || leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return "", errs.New(errs.Unauthenticated, "certificate %s isn't for authentication", serialOf(leaf))
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	for _, r := range a.trust.Load().roots {
		// As of the leaf's last second: whether it counts now is for others to say.
		if _, err := leaf.Verify(x509.VerifyOptions{
			Roots: r.pool, Intermediates: between, CurrentTime: leaf.NotAfter, KeyUsages: []x509.ExtKeyUsage{usage},
		}); err == nil {
			return r.pin, nil
		}
	}
	return "", errs.New(errs.Unauthenticated, "certificate %s leads to no root of this control plane", serialOf(leaf))
}

// Standing says whether a peer whose chain was verified counts now: its root is still trusted, it hasn't run out by more than the
// grace, and it isn't revoked. It is cheap and does no I/O.
func (a *Authority) Standing(p Peer, now time.Time) (Peer, error) {
	switch before := a.revokedBefore(p.Subject); {
	case p.NotBefore.Before(before):
		return p, errs.New(errs.Denied, "certificate %s of %s/%s is revoked", p.Serial, p.Namespace, p.Agent)
	case a.trust.Load().pinned(p.root) == nil:
		return p, errs.New(errs.Unauthenticated, "certificate %s leads to a root that isn't trusted any more", p.Serial)
	case now.Add(Skew).Before(p.NotBefore):
		return p, errs.New(errs.Unauthenticated, "certificate %s is not valid yet", p.Serial)
	case now.After(p.NotAfter.Add(a.cfg.Grace)):
		return p, errs.New(errs.Unauthenticated, "certificate %s ran out and is too old to be renewed", p.Serial)
	}
	p.InGrace = now.After(p.NotAfter)
	return p, nil
}
