package app

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/identity/tokenreview"
	"github.com/agentry/agentry/controlplane/identityapi"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	"github.com/agentry/agentry/internal/secret"
)

// Identity is how instances prove who they are.
type Identity struct {
	TrustDomain string
	// CACert and CAKey, when set, are the certificate authority; else the store holds one that was made at the first start.
	CACert, CAKey string
	// X509PoPCA, when set, holds the roots of another authority whose certificates enroll.
	X509PoPCA string
	// KubeAPIURL, when set, is the Kubernetes API that checks service account tokens.
	KubeAPIURL, KubeCA, KubeTokenFile, KubeAudience, KubeMap string
}

func defaultIdentity() Identity {
	return Identity{TrustDomain: "agentry.local", KubeAudience: "agentry"}
}

func identityFlags(fs *flag.FlagSet, c *Identity) {
	fs.StringVar(&c.TrustDomain, "trust-domain", c.TrustDomain, "`name` that heads every identity: spiffe://NAME/ns/...")
	fs.StringVar(&c.CACert, "ca-cert", "", "PEM `file` of the certificate authority: the issuing certificate first, its root last; default: an authority of its own, sealed in the store")
	fs.StringVar(&c.CAKey, "ca-key", "", "PEM `file` (PKCS #8, 0600) of the issuing certificate's key")
	fs.StringVar(&c.X509PoPCA, "x509pop-ca", "", "PEM `file` of roots whose certificates (URI .../ns/NAMESPACE/agent/NAME) enroll instances")
	fs.StringVar(&c.KubeAPIURL, "kube-api-url", "", "`URL` of the Kubernetes API whose service account tokens enroll instances")
	fs.StringVar(&c.KubeCA, "kube-ca", "", "CA `file` of the Kubernetes API")
	fs.StringVar(&c.KubeTokenFile, "kube-token-file", "", "`file` with the token that may create TokenReviews; read at each use")
	fs.StringVar(&c.KubeAudience, "kube-audience", c.KubeAudience, "`audience` that service account tokens must be for")
	fs.StringVar(&c.KubeMap, "kube-map", "", "JSON `file` {\"namespace/serviceaccount\": \"namespace/agent\"}; default: the service account's name is the agent, in the namespace of its name")
}

// faults lists what is wrong.
func (c Identity) faults() []error {
	var out []error
	if c.TrustDomain == "" {
		out = append(out, errors.New("--trust-domain: must not be empty"))
	}
	if (c.CACert == "") != (c.CAKey == "") {
		out = append(out, errors.New("--ca-cert and --ca-key belong together"))
	}
	if c.KubeAPIURL == "" && c.KubeCA+c.KubeTokenFile+c.KubeMap != "" {
		out = append(out, errors.New("--kube-ca, --kube-token-file and --kube-map need --kube-api-url"))
	}
	if c.KubeAPIURL != "" && c.KubeAudience == "" {
		out = append(out, errors.New("--kube-audience: must not be empty: a token for anybody proves nothing"))
	}
	return out
}

// openAuthority opens the certificate authority.
func openAuthority(ctx context.Context, in parts) (*identity.Authority, error) {
	c := in.cfg.Identity
	cfg := identity.Config{
		Store: in.store, Logger: in.log, KEK: in.kek, TrustDomain: c.TrustDomain, ReplicaID: in.replica, LeafTTL: in.cfg.Timing.LeafTTL,
	}
	if c.CACert != "" {
		cert, err := os.ReadFile(filepath.Clean(c.CACert))
		if err != nil {
			return nil, fmt.Errorf("--ca-cert: %w", err)
		}
		key, err := readSecret(c.CAKey)
		if err != nil {
			return nil, fmt.Errorf("--ca-key: %w", err)
		}
		cfg.Files = &identity.Files{Cert: cert, Key: key}
	}
	return identity.Open(ctx, cfg)
}

// readSecret reads a file that only its owner may read.
func readSecret(path string) (secret.Value, error) {
	info, err := os.Stat(path)
	if err != nil {
		return secret.Value{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return secret.Value{}, fmt.Errorf("%s has mode %04o: only its owner may read it (chmod 600)", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return secret.Value{}, err
	}
	return secret.NewValue(string(b)), nil
}

// identities is what serves who an instance is.
type identities struct {
	authority *identity.Authority
	door      *identityapi.Door
	enroll    *identityapi.Enroll
}

func newIdentities(in parts) (*identities, error) {
	c, out := in.cfg.Identity, &identities{authority: in.authority}
	var pop *x509.CertPool
	if c.X509PoPCA != "" {
		pem, err := os.ReadFile(filepath.Clean(c.X509PoPCA))
		if err != nil {
			return nil, fmt.Errorf("--x509pop-ca: %w", err)
		}
		if pop = x509.NewCertPool(); !pop.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--x509pop-ca: %s holds no certificate", c.X509PoPCA)
		}
	}
	var err error
	if out.door, err = identityapi.NewDoor(identityapi.DoorConfig{Authority: in.authority, Possession: pop, Audit: in.trail.queue}); err != nil {
		return nil, err
	}
	cfg := identityapi.EnrollConfig{Logger: in.log, Authority: in.authority, Audit: in.trail.queue}
	if c.KubeAPIURL != "" {
		if cfg.Kubernetes, err = newTokenReview(c); err != nil {
			return nil, err
		}
	}
	out.enroll, err = identityapi.NewEnroll(cfg)
	return out, err
}

func newTokenReview(c Identity) (*tokenreview.Reviewer, error) {
	cfg := tokenreview.Config{URL: c.KubeAPIURL, Audience: c.KubeAudience}
	for path, into := range map[string]*[]byte{c.KubeCA: &cfg.CA, c.KubeMap: &cfg.Map} {
		if path == "" {
			continue
		}
		b, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return nil, fmt.Errorf("--kube-ca or --kube-map: %w", err)
		}
		*into = b
	}
	if c.KubeTokenFile != "" {
		cfg.Token = func() (secret.Value, error) {
			b, err := os.ReadFile(filepath.Clean(c.KubeTokenFile))
			return secret.NewValue(string(b)), err
		}
	}
	return tokenreview.New(cfg)
}

// mountIdentities puts the people's side on the people door.
func mountIdentities(p *people, in parts, table *fleet.Table) error {
	s, err := identityapi.New(identityapi.Config{
		Authority: in.authority,
		Connected: func(namespace, agent, instance string) bool {
			for _, i := range table.Agent(namespace, agent) {
				if i.ID.Instance == instance {
					return i.Connected
				}
			}
			return false
		},
		Labels: in.view.AgentLabels,
	})
	if err != nil {
		return err
	}
	p.handle(identityv1connect.NewIdentityServiceHandler(s, p.opts...))
	return nil
}
