package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// Proof is what a first identity is given for. Files are read at each attempt, so that what is rotated in place counts. All that is
// set is tried, in this order.
type Proof struct {
	// JoinToken is "agj_" + secret + "." + pin; JoinTokenFile holds one and is used where JoinToken is zero.
	JoinToken     secret.Value
	JoinTokenFile string
	// KubernetesTokenFile is a projected service account token. It needs RootsFile.
	KubernetesTokenFile string
	// CertFile and KeyFile are a certificate (PEM, chain) that the control plane was told to trust, and its key. They need RootsFile.
	CertFile string
	KeyFile  string
	// RootsFile holds the control plane's roots (PEM).
	RootsFile string
}

func (p Proof) set() bool {
	return !p.JoinToken.IsZero() || p.JoinTokenFile != "" || p.KubernetesTokenFile != "" || p.CertFile != ""
}

// Check tells what can't work whatever the files hold.
func (p Proof) Check() error {
	switch {
	case (p.CertFile == "") != (p.KeyFile == ""):
		return errs.New(errs.Invalid, "AGENTD_X509POP_CERT and AGENTD_X509POP_KEY belong together")
	case p.RootsFile == "" && (p.KubernetesTokenFile != "" || p.CertFile != ""):
		return errs.New(errs.Invalid, "AGENTD_KUBERNETES_TOKEN_FILE and AGENTD_X509POP_CERT need AGENTD_ROOTS_FILE: without it any server could take the proof")
	}
	if p.JoinToken.IsZero() {
		return nil
	}
	_, err := pinOf(p.JoinToken)
	return err
}

// pinOf gives the pin that a join token carries: the SHA-256 of the root's public key info, lower hex.
func pinOf(token secret.Value) (string, error) {
	text := token.Reveal()
	i := strings.LastIndexByte(text, '.')
	if !strings.HasPrefix(text, "agj_") || i < 0 {
		return "", errs.New(errs.Invalid, "join token: want agj_SECRET.PIN, as `agentctl identity join-token create` prints it")
	}
	pin := text[i+1:]
	if raw, err := hex.DecodeString(pin); err != nil || len(raw) != sha256.Size {
		return "", errs.New(errs.Invalid, "join token: the pin behind the dot must be %d hexadecimal digits; it may have been cut off", 2*sha256.Size)
	}
	return strings.ToLower(pin), nil
}

// means is one way to a first identity: how the connection is made, and what the request holds.
type means struct {
	name string // as in Identity.proof
	tls  func() (*tls.Config, error)
	fill func(*identityv1.EnrollRequest) error
}

// means gives the ways that are set.
func (k *Keeper) means() []means {
	p := k.cfg.Proof
	var out []means
	if !p.JoinToken.IsZero() || p.JoinTokenFile != "" {
		var token secret.Value
		out = append(out, means{
			name: "join_token",
			tls: func() (*tls.Config, error) {
				var err error
				if token, err = k.joinToken(); err != nil {
					return nil, err
				}
				pin, err := pinOf(token)
				if err != nil {
					return nil, err
				}
				return pinned(pin, k.domain, k.cfg.clock), nil
			},
			fill: func(r *identityv1.EnrollRequest) error {
				r.Proof = &identityv1.EnrollRequest_JoinToken{JoinToken: token.Reveal()}
				return nil
			},
		})
	}
	if p.KubernetesTokenFile != "" {
		out = append(out, means{name: "kubernetes", tls: k.byRoots, fill: func(r *identityv1.EnrollRequest) error {
			token, err := readSecret(p.KubernetesTokenFile)
			if err != nil {
				return fmt.Errorf("kubernetes token: %w", err)
			}
			k.cfg.Redactor.Add(token)
			r.Proof = &identityv1.EnrollRequest_KubernetesToken{KubernetesToken: token.Reveal()}
			return nil
		}})
	}
	if p.CertFile != "" {
		out = append(out, means{
			name: "x509pop",
			tls: func() (*tls.Config, error) {
				cfg, err := k.byRoots()
				if err != nil {
					return nil, err
				}
				cert, err := tls.LoadX509KeyPair(p.CertFile, p.KeyFile)
				if err != nil {
					return nil, fmt.Errorf("AGENTD_X509POP_CERT: %w", err)
				}
				cfg.Certificates = []tls.Certificate{cert}
				return cfg, nil
			},
			fill: func(*identityv1.EnrollRequest) error { return nil },
		})
	}
	return out
}

func (k *Keeper) joinToken() (secret.Value, error) {
	if !k.cfg.Proof.JoinToken.IsZero() {
		return k.cfg.Proof.JoinToken, nil
	}
	token, err := readSecret(k.cfg.Proof.JoinTokenFile)
	if err != nil {
		return secret.Value{}, fmt.Errorf("join token: %w", err)
	}
	k.cfg.Redactor.Add(token)
	return token, nil
}

// readSecret reads a small file.
func readSecret(path string) (secret.Value, error) {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return secret.Value{}, err
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return secret.Value{}, err
	}
	v := secret.NewValue(strings.TrimSpace(string(raw)))
	if v.IsZero() {
		return v, errs.New(errs.Invalid, "%s is empty", path)
	}
	return v, nil
}

// pinned trusts the server whose chain leads to the root with this pin. The server sends that root, too.
func pinned(pin string, domain spiffeid.TrustDomain, clock func() time.Time) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// First contact: no root is held yet, and the pin in the join token names the one to trust.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the whole chain against the pinned root
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, c := range cs.PeerCertificates {
				sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
				if c.IsCA && hex.EncodeToString(sum[:]) == pin {
					return verifyServer(cs.PeerCertificates, x509bundle.FromX509Authorities(domain, []*x509.Certificate{c}), domain, clock())
				}
			}
			return errs.New(errs.Unauthenticated, "the server does not belong to the control plane that made this join token")
		},
	}
}

// byRoots trusts the server whose chain leads to a root of RootsFile.
func (k *Keeper) byRoots() (*tls.Config, error) {
	bundle, err := x509bundle.Load(k.domain, k.cfg.Proof.RootsFile)
	if err != nil {
		return nil, fmt.Errorf("AGENTD_ROOTS_FILE: %w", err)
	}
	return trusting(func(certs []*x509.Certificate) error { return verifyServer(certs, bundle, k.domain, k.cfg.clock()) }), nil
}

// verifyServer checks that a chain is of a control plane: it leads to a root of the bundle and names spiffe://DOMAIN/cp/ID.
func verifyServer(certs []*x509.Certificate, roots x509bundle.Source, domain spiffeid.TrustDomain, now time.Time) error {
	id, _, err := x509svid.Verify(certs, roots, x509svid.WithTime(now))
	if err != nil {
		return err
	}
	name, ok := strings.CutPrefix(id.Path(), "/cp/")
	if id.TrustDomain() != domain || !ok || name == "" || strings.Contains(name, "/") {
		return errs.New(errs.Unauthenticated, "the server is %s, not a control plane of %s", id, domain)
	}
	return nil
}
