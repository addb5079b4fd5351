package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/agentry/agentry/internal/errs"
)

// signer is a certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// root is a root, and what signs under it.
type root struct {
	state State
	signer
	issuer signer
	// between are the certificates that lead from the issuer to the root, without both.
	between [][]byte
	pin     string
	pool    *x509.CertPool // of this root alone
}

func poolOf(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

// newSerial gives 159 random bits.
func newSerial() *big.Int {
	var b [20]byte
	_, _ = rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// serialOf writes a serial number the way everybody here does: lower hex.
func serialOf(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }

// pinOf gives what join tokens carry of a root: hex SHA-256 of its public key info.
func pinOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func newKey() (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return k, nil
}

// sign makes a certificate out of a template. parent nil: it signs itself.
func sign(template *x509.Certificate, key crypto.PublicKey, parent *x509.Certificate, by crypto.Signer) (*x509.Certificate, error) {
	if parent == nil {
		parent = template
	}
	template.SerialNumber = newSerial()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, by)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate: %w", err)
	}
	return c, nil
}

func authorityTemplate(td spiffeid.TrustDomain, what string, now time.Time, life time.Duration, maxPath int) *x509.Certificate {
	return &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{"agentry"}, CommonName: what + " of " + td.Name() + " of " + now.UTC().Format(time.DateOnly)},
		NotBefore: now.Add(-issuerSkew), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, MaxPathLen: maxPath, MaxPathLenZero: maxPath == 0,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		URIs:     []*url.URL{td.ID().URL()},
	}
}

// newRoot makes a root with an intermediate.
func newRoot(td spiffeid.TrustDomain, now time.Time) (*root, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	cert, err := sign(authorityTemplate(td, "root", now, rootLife, 1), key.Public(), nil, key)
	if err != nil {
		return nil, err
	}
	r := &root{signer: signer{cert: cert, key: key}, pin: pinOf(cert)}
	r.issuer, err = newIntermediate(td, r.signer, now)
	return r, err
}

func newIntermediate(td spiffeid.TrustDomain, by signer, now time.Time) (signer, error) {
	key, err := newKey()
	if err != nil {
		return signer{}, err
	}
	template := authorityTemplate(td, "intermediate", now, intermediateLife, 0)
	template.NotBefore = by.cert.NotBefore // a replica whose clock is far ahead renews it for all the others
	cert, err := sign(template, key.Public(), by.cert, by.key)
	return signer{cert: cert, key: key}, err
}

// leaf makes the certificate of an instance or of a door. notBefore and notAfter lie within the issuer's.
func (s signer) leaf(id spiffeid.ID, commonName string, key crypto.PublicKey, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	if notAfter.After(s.cert.NotAfter) {
		notAfter = s.cert.NotAfter
	}
	return sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: commonName},
		NotBefore: notBefore, NotAfter: notAfter,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:                  []*url.URL{id.URL()},
	}, key, s.cert, s.key)
}

// KeyOf gives the key of a PKCS #10 request in DER whose signature holds. Only P-256 keys are taken.
func KeyOf(csr []byte) (*ecdsa.PublicKey, error) {
	r, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, errs.New(errs.Invalid, "certificate request: %w", err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, errs.New(errs.Invalid, "certificate request: %w", err)
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errs.New(errs.Invalid, "certificate request: want an ECDSA key on P-256")
	}
	return key, nil
}
