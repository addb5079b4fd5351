package a2a

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Signer signs cards.
type Signer struct {
	key jose.JSONWebKey
	alg jose.SignatureAlgorithm
}

// NewSigner reads a PEM private key: EC P-256 or P-384, RSA of at least 2048 bits, or Ed25519. Errors never hold the key.
func NewSigner(text []byte) (*Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the signing key is no PEM")
	}
	private, err := parseKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := private.(interface{ Public() crypto.PublicKey })
	if !ok {
		return nil, errors.New("the signing key is of a kind that can't sign cards")
	}
	alg, err := algorithm(public.Public())
	if err != nil {
		return nil, err
	}
	s := &Signer{key: jose.JSONWebKey{Key: private, Algorithm: string(alg), Use: "sig"}, alg: alg}
	thumb, err := s.key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, errors.New("the signing key has no thumbprint")
	}
	s.key.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	return s, nil
}

func parseKey(der []byte) (any, error) {
	if k, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(der); err == nil {
		return k, nil
	}
	if k, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return k, nil
	}
	return nil, errors.New("the signing key is no PKCS #8, SEC 1 or PKCS #1 private key")
}

// algorithm gives the one algorithm that a key is used with.
func algorithm(public any) (jose.SignatureAlgorithm, error) {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 {
			return jose.RS256, nil
		}
	case ed25519.PublicKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("want a key of EC P-256 or P-384, RSA of at least 2048 bits, or Ed25519")
}

// KeyID names the key.
func (s *Signer) KeyID() string { return s.key.KeyID }

// Signature is one signature of a card.
type Signature struct {
	Protected string `json:"protected"`
	Signature string `json:"signature"`
}

// Sign signs a card's JSON; jku, if any, is where the key is found.
func (s *Signer) Sign(card []byte, jku string) (Signature, error) {
	payload, err := Canonical(card)
	if err != nil {
		return Signature{}, err
	}
	return s.sign(payload, jku)
}

// SignForAll gives the signature that Sign gives and, for a card with empty values inside, one more for the readers that Lean is for. A reader takes
// the one that fits.
func (s *Signer) SignForAll(card []byte, jku string) ([]Signature, error) {
	payload, err := Canonical(card)
	if err != nil {
		return nil, err
	}
	lean, err := Lean(card)
	if err != nil {
		return nil, err
	}
	payloads := [][]byte{payload}
	if !bytes.Equal(payload, lean) {
		payloads = append(payloads, lean)
	}
	out := make([]Signature, len(payloads))
	for i, p := range payloads {
		if out[i], err = s.sign(p, jku); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Signer) sign(payload []byte, jku string) (Signature, error) {
	opts := (&jose.SignerOptions{}).WithType("JOSE")
	if jku != "" {
		opts = opts.WithHeader("jku", jku)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.alg, Key: s.key}, opts)
	if err != nil {
		return Signature{}, errors.New("the signing key can't sign")
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return Signature{}, errors.New("the card could not be signed")
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		return Signature{}, err
	}
	parts := strings.Split(compact, ".")
	return Signature{Protected: parts[0], Signature: parts[2]}, nil
}

// Keys gives the public key as a JWK set.
func (s *Signer) Keys() json.RawMessage {
	b, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{s.key.Public()}})
	if err != nil {
		return json.RawMessage(`{"keys":[]}`)
	}
	return b
}

// Verify says whether one of a card's signatures is by a key that keys gives. keys is asked by the key's name, and decides alone whom it trusts: an address
// that the card names for its keys is not asked. The error says what was wrong with each signature.
func Verify(card []byte, keys func(kid string) (crypto.PublicKey, error)) error {
	payload, err := Canonical(card)
	if err != nil {
		return err
	}
	var in struct {
		Signatures []Signature `json:"signatures"`
	}
	if err := json.Unmarshal(card, &in); err != nil {
		return errors.New("the card's signatures are none")
	}
	if len(in.Signatures) == 0 {
		return ErrUnsigned
	}
	var faults []error
	for i, s := range in.Signatures {
		if i >= maxSignatures {
			break
		}
		if err := verify(s, payload, keys); err != nil {
			faults = append(faults, fmt.Errorf("signature %d: %w", i, err))
			continue
		}
		return nil
	}
	return errors.Join(faults...)
}

// ErrUnsigned is Verify's error for a card without signatures.
var ErrUnsigned = errors.New("the card is not signed")

// maxSignatures is how many signatures are tried.
const maxSignatures = 8

func verify(s Signature, payload []byte, keys func(string) (crypto.PublicKey, error)) error {
	for _, part := range []string{s.Protected, s.Signature} { // a decoder would skip line breaks
		if part == "" || strings.Trim(part, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return errors.New("it is no base64url")
		}
	}
	jws, err := jose.ParseDetached(s.Protected+".."+s.Signature, payload, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.RS256, jose.EdDSA})
	if err != nil {
		return errors.New("it is no JWS of an algorithm that is taken")
	}
	header := jws.Signatures[0].Protected
	key, err := keys(header.KeyID)
	if err != nil {
		return err
	}
	alg, err := algorithm(key)
	if err != nil {
		return err
	}
	if string(alg) != header.Algorithm {
		return fmt.Errorf("the key is one for %s", alg)
	}
	if _, err := jws.Verify(key); err != nil {
		return errors.New("it doesn't fit the card")
	}
	return nil
}
