package identity

import (
	"crypto/x509"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
)

// maxInstance bounds an instance id, in bytes, as the push stream does.
const maxInstance = 128

// Subject is who a certificate is for. The agent is in its SPIFFE id, the instance in its common name. An empty Instance is any
// instance of the agent: only who holds the authority's key makes such certificates.
type Subject struct {
	Namespace, Agent, Instance string
}

// Check refuses what is no name.
func (s Subject) Check() error {
	switch {
	case !spec.ValidName(s.Namespace):
		return errs.New(errs.Invalid, "namespace %q is no name", cut(s.Namespace))
	case !spec.ValidName(s.Agent):
		return errs.New(errs.Invalid, "agent %q is no name", cut(s.Agent))
	case !ValidInstance(s.Instance):
		return errs.New(errs.Invalid, "instance %q is no id", cut(s.Instance))
	}
	return nil
}

// ValidInstance reports whether s can name an instance, by the rule of the push stream.
func ValidInstance(s string) bool {
	if s == "" || len(s) > maxInstance {
		return false
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		inner := i > 0 && i < len(s)-1 && (r == '-' || r == '_' || r == '.')
		if !alnum && !inner {
			return false
		}
	}
	return true
}

func cut(s string) string { return s[:min(len(s), maxInstance)] }

// id gives spiffe://<trust-domain>/ns/<namespace>/agent/<agent>.
func (s Subject) id(td spiffeid.TrustDomain) (spiffeid.ID, error) {
	id, err := spiffeid.FromSegments(td, "ns", s.Namespace, "agent", s.Agent)
	if err != nil {
		return id, errs.New(errs.Invalid, "identity of %s/%s: %w", s.Namespace, s.Agent, err)
	}
	return id, nil
}

// subjectOf reads a leaf's identity. Errors are errs.Unauthenticated.
func subjectOf(leaf *x509.Certificate, td spiffeid.TrustDomain) (Subject, error) {
	id, err := x509svid.IDFromCert(leaf)
	switch {
	case err != nil:
		return Subject{}, errs.New(errs.Unauthenticated, "certificate: %w", err)
	case id.TrustDomain() != td:
		return Subject{}, errs.New(errs.Unauthenticated, "certificate is of trust domain %q, not %q", id.TrustDomain(), td)
	}
	s, ok := parsePath(id.Path())
	if !ok {
		return Subject{}, errs.New(errs.Unauthenticated, "%s is no agent's identity", id)
	}
	s.Instance = leaf.Subject.CommonName
	return s, nil
}

func parsePath(path string) (Subject, bool) {
	p := strings.Split(path, "/")
	if len(p) != 5 || p[0] != "" || p[1] != "ns" || p[3] != "agent" || !spec.ValidName(p[2]) || !spec.ValidName(p[4]) {
		return Subject{}, false
	}
	return Subject{Namespace: p[2], Agent: p[4]}, true
}

// SubjectOfURI reads ".../ns/<namespace>/agent/<agent>" of a URI of any trust domain: that of a certificate of another authority,
// which proves who may enroll.
func SubjectOfURI(u *url.URL) (Subject, bool) {
	id, err := spiffeid.FromURI(u)
	if err != nil {
		return Subject{}, false
	}
	return parsePath(id.Path())
}
