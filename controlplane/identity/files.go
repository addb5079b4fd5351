package identity

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"

	"github.com/agentry/agentry/internal/errs"
)

// fromFiles makes the authority that the files are.
func (a *Authority) fromFiles(f Files) (*trust, error) {
	var certs []*x509.Certificate
	for rest := f.Cert; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, errs.New(errs.Invalid, "CA certificate: %w", err)
		}
		certs = append(certs, c)
	}
	block, _ := pem.Decode([]byte(f.Key.Reveal()))
	if len(certs) == 0 || block == nil {
		return nil, errs.New(errs.Invalid, "CA: the files hold no PEM certificate, or no PEM key")
	}
	key, err := parseKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(certs[0].PublicKey) {
		return nil, errs.New(errs.Invalid, "CA: the key isn't that of the first certificate")
	}
	if !certs[0].IsCA || certs[0].NotAfter.Before(a.cfg.Now()) {
		return nil, errs.New(errs.Invalid, "CA: the first certificate may not sign, or has run out")
	}
	t := &trust{ticket: block.Bytes}
	issuer, between := signer{cert: certs[0], key: key}, [][]byte(nil)
	at := certs[0]
	for _, c := range certs {
		switch {
		case !selfSigned(c):
			if c != certs[0] && at.CheckSignatureFrom(c) == nil {
				between, at = append(between, c.Raw), c
			}
		case t.active() == nil && (at == c || at.CheckSignatureFrom(c) == nil):
			t.roots = append(t.roots, &root{state: Active, signer: signer{cert: c}, issuer: issuer, between: between, pin: pinOf(c), pool: poolOf(c)})
		default:
			t.roots = append(t.roots, &root{state: Former, signer: signer{cert: c}, pin: pinOf(c), pool: poolOf(c)})
		}
	}
	if t.active() == nil {
		return nil, errs.New(errs.Invalid, "CA: the certificates lead to no root (issuing CA first, root last)")
	}
	return t, nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
