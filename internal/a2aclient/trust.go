package a2aclient

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/url"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// Mode is what a card's signature has to be.
type Mode string

// The modes.
const (
	// Verify refuses a card with a signature that a known key doesn't fit. One that isn't signed, or by keys that nobody has, is taken: whoever could change the
	// card could take its signature off, too.
	Verify Mode = "verify"
	// Require refuses every card without a signature that fits a known key.
	Require Mode = "require"
	// Off looks at no signature.
	Off Mode = "off"
)

// Trust is a policy of signatures. Without Keys those count that the card names (jku) at its own origin; with Keys no others do.
type Trust struct {
	Mode Mode // "": Verify
	Keys []Key
}

// Key is a public key that cards may be signed by.
type Key struct {
	id     string // "": fits any name
	public crypto.PublicKey
}

// Verdict is what is known of a card's signature.
type Verdict struct {
	Signed   bool
	Verified bool
	// Why says why a card is not verified; "" if it is.
	Why string
}

const (
	maxKeys = 16
	maxJKU  = 2
)

// ParseKeys reads PEM (public keys or certificates) or a JWK set. The error is of kind Invalid.
func ParseKeys(b []byte) ([]Key, error) {
	var out []Key
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		k, err := parsePEM(block)
		if err != nil {
			return nil, err
		}
		out = append(out, Key{public: k})
	}
	if len(out) == 0 {
		var err error
		if out, err = parseJWKS(b); err != nil {
			return nil, err
		}
	}
	if len(out) == 0 || len(out) > maxKeys {
		return nil, errs.New(errs.Invalid, "%d keys: want 1 to %d", len(out), maxKeys)
	}
	return out, nil
}

func parsePEM(block *pem.Block) (crypto.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		if k, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			return k, nil
		}
	case "RSA PUBLIC KEY":
		if k, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
			return k, nil
		}
	case "CERTIFICATE":
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			return c.PublicKey, nil
		}
	}
	return nil, errs.New(errs.Invalid, "want PEM blocks of public keys or certificates")
}

// parseJWKS reads a JWK set, or a single JWK. Keys that can't sign cards are passed over.
func parseJWKS(b []byte) ([]Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, errs.New(errs.Invalid, "the keys are neither PEM nor a JWK set")
	}
	if set.Keys == nil {
		set.Keys = []json.RawMessage{b}
	}
	var out []Key
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || !k.Valid() || (k.Use != "" && k.Use != "sig") {
			continue
		}
		if public := k.Public(); public.Key != nil { // not of a symmetric one
			out = append(out, Key{id: k.KeyID, public: public.Key})
		}
	}
	return out, nil
}

// judge says what a card's signatures are worth; the error is of kind Denied.
func (t Trust) judge(ctx context.Context, w *web, card fetched) (Verdict, error) {
	if t.Mode == Off {
		return Verdict{Why: "signatures are not looked at"}, nil
	}
	signed := headers(card.body)
	v := Verdict{Signed: len(signed) > 0}
	if !v.Signed {
		v.Why = "the card is not signed"
		return t.unless(v)
	}
	keys := t.Keys
	if len(keys) == 0 {
		keys, v.Why = w.named(ctx, signed, card.at)
	}
	tried := false
	var fault error
	for _, k := range keys {
		fits := func(kid string) (crypto.PublicKey, error) {
			if k.id != "" && kid != "" && k.id != kid {
				return nil, errOther
			}
			tried = true
			return k.public, nil
		}
		if fault = a2a.Verify(card.body, fits); fault == nil {
			return Verdict{Signed: true, Verified: true}, nil
		}
	}
	if tried {
		return v, errs.New(errs.Denied, "the card's signature doesn't fit: %w", fault)
	}
	if v.Why == "" {
		v.Why = "the card is signed by a key that is not known here"
	}
	return t.unless(v)
}

var errOther = errors.New("the signature is by another key")

// unless gives an unverified card, unless the policy requires it to be verified.
func (t Trust) unless(v Verdict) (Verdict, error) {
	if t.Mode == Require {
		return v, errs.New(errs.Denied, "a signed card is required: %s", v.Why)
	}
	return v, nil
}

// header is what of a signature's protected header says where its key is.
type header struct {
	JKU string `json:"jku"`
}

func headers(card []byte) []header {
	var in struct {
		Signatures []a2a.Signature `json:"signatures"`
	}
	if json.Unmarshal(card, &in) != nil {
		return nil
	}
	out := make([]header, len(in.Signatures))
	for i, s := range in.Signatures {
		if b, err := base64.RawURLEncoding.DecodeString(s.Protected); err == nil {
			_ = json.Unmarshal(b, &out[i]) // one that is none names no key
		}
	}
	return out
}

// named fetches the keys that the card names at its own origin; why there are none.
func (w *web) named(ctx context.Context, signed []header, card *url.URL) (keys []Key, why string) {
	why = "the card doesn't say where its key is"
	var asked []string
	for _, h := range signed {
		if h.JKU == "" || slices.Contains(asked, h.JKU) || len(asked) >= maxJKU {
			continue
		}
		u, err := url.Parse(h.JKU)
		if err != nil || egress.Origin(u) == "" || egress.Origin(u) != egress.Origin(card) {
			why = "the card's key is at another origin than the card"
			continue
		}
		asked = append(asked, h.JKU)
		b, from, err := w.get(ctx, u, "")
		if err != nil || egress.Origin(from.url) != egress.Origin(card) {
			why = "the card's key can't be fetched"
			continue
		}
		if got, err := ParseKeys(b); err == nil {
			keys = append(keys, got...)
		}
	}
	if len(keys) > 0 {
		why = ""
	}
	return keys, why
}
