package secret

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"github.com/agentry/agentry/internal/errs"
)

// Fingerprinter recognises a secret without keeping it: HMAC-SHA-256 under a key that is itself sealed in the
// store, so it survives a change of the KEK, and a copy of the store gives nothing to guess against.
type Fingerprinter struct{ key []byte }

// NewFingerprintKey makes a key, to be sealed and kept.
func NewFingerprintKey() Value {
	key := make([]byte, keySize)
	_, _ = rand.Read(key)
	return NewValue(base64.StdEncoding.EncodeToString(key))
}

// NewFingerprinter uses a key of NewFingerprintKey.
func NewFingerprinter(key Value) (*Fingerprinter, error) {
	raw, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil || len(raw) != keySize {
		return nil, errs.New(errs.Invalid, "fingerprint key: want %d bytes", keySize)
	}
	return &Fingerprinter{key: raw}, nil
}

// Sum gives the fingerprint of v at a place. The version plays no part; equal secrets at two places differ.
func (f *Fingerprinter) Sum(at Place, v Value) string {
	at.Version = 0
	h := hmac.New(sha256.New, f.key)
	h.Write(at.aad("fingerprint"))
	h.Write([]byte(v.Reveal()))
	return hex.EncodeToString(h.Sum(nil))
}

// Equal compares two fingerprints in constant time; an empty one equals nothing.
func (*Fingerprinter) Equal(a, b string) bool {
	return a != "" && hmac.Equal([]byte(a), []byte(b))
}
