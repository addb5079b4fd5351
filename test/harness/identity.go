package harness

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	identityv1 "github.com/agentry/agentry/gen/agentry/identity/v1"
	"github.com/agentry/agentry/gen/agentry/identity/v1/identityv1connect"
	"github.com/agentry/agentry/test/harness/pki"
)

// UseCA has control planes that are started from now on use an authority in files, which can sign for thousands of simulated instances.
// Without it a control plane makes its own and seals it in its store.
func (e *Env) UseCA() error {
	ca, err := pki.New()
	if err != nil {
		return err
	}
	e.CA = ca
	e.CACert, e.CAKey, err = ca.WriteFiles(e.Dir)
	return err
}

// Identities is the service for join tokens and revocations, with the dev token.
func (c *ControlPlane) Identities() (identityv1connect.IdentityServiceClient, error) {
	token, err := c.Token()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return identityv1connect.NewIdentityServiceClient(client, "http://"+c.People, connect.WithInterceptors(bearer(token))), nil
}

// JoinToken makes a one-time token for one instance of an agent.
func (c *ControlPlane) JoinToken(ctx context.Context, namespace, agent string) (string, error) {
	ids, err := c.Identities()
	if err != nil {
		return "", err
	}
	resp, err := ids.CreateJoinToken(ctx, connect.NewRequest(&identityv1.CreateJoinTokenRequest{Namespace: namespace, Agent: agent}))
	if err != nil {
		return "", fmt.Errorf("join token for %s/%s: %w", namespace, agent, err)
	}
	return resp.Msg.GetSecret(), nil
}

// InstanceTLS gives the TLS settings of an instance: a certificate signed by the Env's authority, else one that it enrolls for.
func (c *ControlPlane) InstanceTLS(ctx context.Context, namespace, agent, instance string) (*tls.Config, error) {
	if c.ca != nil {
		leaf, err := c.ca.Agent(namespace, agent, instance)
		if err != nil {
			return nil, err
		}
		return c.ca.Client(leaf, nil), nil
	}
	token, err := c.JoinToken(ctx, namespace, agent)
	if err != nil {
		return nil, err
	}
	return c.Enroll(ctx, token, namespace, agent, instance)
}

// Enroll spends a join token and gives the TLS settings of who has its certificate.
func (c *ControlPlane) Enroll(ctx context.Context, token, namespace, agent, instance string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(c.Runtime, grpc.WithTransportCredentials(credentials.NewTLS(Pinned(token))))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	resp, err := identityv1.NewEnrollServiceClient(conn).Enroll(ctx, &identityv1.EnrollRequest{
		Proof: &identityv1.EnrollRequest_JoinToken{JoinToken: token}, Namespace: namespace, Agent: agent, Instance: instance, Csr: csr,
	})
	if err != nil {
		return nil, err
	}
	cfg := Pinned(token)
	cfg.Certificates = []tls.Certificate{{Certificate: resp.GetCertificate().GetChain(), PrivateKey: key}}
	return cfg, nil
}

// Pinned trusts the server that shows, and whose chain leads to, the root that a join token carries the pin of.
func Pinned(token string) *tls.Config {
	_, pin, _ := strings.Cut(token, ".")
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies the chain
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots, between := x509.NewCertPool(), x509.NewCertPool()
			for _, c := range cs.PeerCertificates {
				if sum := sha256.Sum256(c.RawSubjectPublicKeyInfo); hex.EncodeToString(sum[:]) == pin {
					roots.AddCert(c)
				}
				between.AddCert(c)
			}
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the server showed no certificate")
			}
			_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between})
			return err
		},
	}
}
