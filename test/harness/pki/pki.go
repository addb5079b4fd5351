// Package pki is a certificate authority in files for whole-process suites and benches: it makes the authority that a control plane is
// given by --ca-cert and --ca-key, and signs certificates of instances with it, so that thousands need no enrolment. It never ends up in
// the product.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Domain is the trust domain of a control plane that was given none.
const Domain = "agentry.local"

// skew is how far before now certificates begin.
const skew = 2 * time.Hour

// CA is an authority: a root and the issuing certificate below it.
type CA struct {
	Root   *x509.Certificate
	Issuer *x509.Certificate
	key    *ecdsa.PrivateKey // of the issuer
}

// Leaf is a certificate with its key.
type Leaf struct {
	Chain [][]byte // leaf first, DER, without the root
	Key   *ecdsa.PrivateKey
}

// New makes an authority.
func New() (*CA, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &CA{}
	if c.Root, err = sign(authority("root"), nil, rootKey, &rootKey.PublicKey); err != nil {
		return nil, err
	}
	if c.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	c.Issuer, err = sign(authority("issuer"), c.Root, rootKey, &c.key.PublicKey)
	return c, err
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: "test " + name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(30 * 24 * time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: Domain}},
	}
}

func sign(template, parent *x509.Certificate, by *ecdsa.PrivateKey, of *ecdsa.PublicKey) (*x509.Certificate, error) {
	var serial [16]byte
	_, _ = rand.Read(serial[:])
	serial[0] &= 0x7f
	template.SerialNumber = new(big.Int).SetBytes(serial[:])
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-skew)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, of, by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// WriteFiles writes what --ca-cert and --ca-key take.
func (c *CA) WriteFiles(dir string) (certFile, keyFile string, err error) {
	key, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	certs := append(encode("CERTIFICATE", c.Issuer.Raw), encode("CERTIFICATE", c.Root.Raw)...)
	return certFile, keyFile, errors.Join(os.WriteFile(certFile, certs, 0o600), os.WriteFile(keyFile, encode("PRIVATE KEY", key), 0o600))
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Load reads what WriteFiles wrote.
func Load(certFile, keyFile string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || len(pair.Certificate) != 2 {
		return nil, fmt.Errorf("%s and %s: not what this package wrote", certFile, keyFile)
	}
	c := &CA{key: key}
	for i, into := range []**x509.Certificate{&c.Issuer, &c.Root} {
		if *into, err = x509.ParseCertificate(pair.Certificate[i]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Agent makes a certificate of an instance of an agent; instance "" is good for every instance of it.
func (c *CA) Agent(namespace, agent, instance string) (Leaf, error) {
	return c.leaf("/ns/"+namespace+"/agent/"+agent, instance, time.Time{}, 24*time.Hour)
}

// ControlPlane makes a certificate of a control plane's runtime door.
func (c *CA) ControlPlane(id string) (Leaf, error) {
	return c.leaf("/cp/"+id, "", time.Time{}, 24*time.Hour)
}

func (c *CA) leaf(path, name string, from time.Time, life time.Duration) (Leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Leaf{}, err
	}
	l := Leaf{Key: key}
	l.Chain, err = c.Sign(path, name, &key.PublicKey, from, life)
	return l, err
}

// Sign makes a certificate of spiffe://DOMAIN + path for a key; from zero: two hours ago. It gives the chain, without the root.
func (c *CA) Sign(path, name string, key *ecdsa.PublicKey, from time.Time, life time.Duration) ([][]byte, error) {
	cert, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: time.Now().Add(life), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs: []*url.URL{{Scheme: "spiffe", Host: Domain, Path: path}},
	}, c.Issuer, c.key, key)
	if err != nil {
		return nil, err
	}
	return [][]byte{cert.Raw, c.Issuer.Raw}, nil
}

// Certificate gives the leaf as crypto/tls takes it; further certificates are sent behind its chain.
func (l Leaf) Certificate(further ...*x509.Certificate) tls.Certificate {
	chain := l.Chain
	for _, f := range further {
		chain = append(chain[:len(chain):len(chain)], f.Raw)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: l.Key}
}

// Client gives a client's settings: TLS 1.3 with this certificate, towards a control plane of this authority. Sessions are resumed where
// sessions isn't nil.
func (c *CA) Client(l Leaf, sessions tls.ClientSessionCache) *tls.Config {
	cfg := c.Anonymous()
	cfg.Certificates, cfg.ClientSessionCache = []tls.Certificate{l.Certificate()}, sessions
	return cfg
}

// Anonymous is Client without a certificate.
func (c *CA) Anonymous() *tls.Config {
	roots := c.pool()
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		InsecureSkipVerify: true, //nolint:gosec // the server's name is its SPIFFE id, which VerifyConnection checks with the chain
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("the server showed no certificate")
			}
			leaf, between := cs.PeerCertificates[0], x509.NewCertPool()
			for _, b := range cs.PeerCertificates[1:] {
				between.AddCert(b)
			}
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between}); err != nil {
				return err
			}
			if len(leaf.URIs) != 1 || leaf.URIs[0].Host != Domain || !strings.HasPrefix(leaf.URIs[0].Path, "/cp/") {
				return fmt.Errorf("the server is %v, not a control plane", leaf.URIs)
			}
			return nil
		},
	}
}

// Server gives a server's settings: TLS 1.3, and a certificate of this authority demanded of clients.
func (c *CA) Server(l Leaf) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: c.pool(),
		Certificates: []tls.Certificate{l.Certificate()}, NextProtos: []string{"h2"},
	}
}

func (c *CA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.Root)
	return p
}
