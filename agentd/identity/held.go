package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// document is what is stored of an identity beside its key.
type document struct {
	Chain [][]byte `json:"chain"` // leaf first, DER
	Roots [][]byte `json:"roots"`
	// By the control plane's clock; Now is when it answered.
	NotAfter time.Time `json:"notAfter"`
	Now      time.Time `json:"now"`
	// Here is the same moment by this machine's clock, which may be another one.
	Here  time.Time `json:"here"`
	Proof string    `json:"proof"`
}

// held is an identity that can be used. It is never changed.
type held struct {
	doc      document
	svid     *x509svid.SVID
	bundle   *x509bundle.Bundle
	received time.Time     // by this machine's clocks: the wall's, and the monotonic one
	before   time.Duration // its age at received
	due      time.Duration // the age at which it is renewed
	recycle  time.Duration // the age from which connections that were made with it are made anew
}

// who an instance is: what a certificate must say.
type who struct {
	id       spiffeid.ID
	instance string
}

// newHeld checks an identity: the leaf is of the key and of the instance, and its chain leads to the roots.
func newHeld(doc document, key *ecdsa.PrivateKey, me who, now time.Time) (*held, error) {
	certs, err := parse(doc.Chain)
	if err != nil {
		return nil, err
	}
	roots, err := parse(doc.Roots)
	if err != nil {
		return nil, err
	}
	bundle := x509bundle.FromX509Authorities(me.id.TrustDomain(), roots)
	got, _, err := x509svid.Verify(certs, bundle, x509svid.WithTime(doc.Now))
	if err != nil {
		return nil, errs.New(errs.Invalid, "certificate: %w", err)
	}
	if got != me.id {
		return nil, errs.New(errs.Invalid, "certificate is of %s, this instance is %s", got, me.id)
	}
	if name := certs[0].Subject.CommonName; name != "" && name != me.instance { // without a name it is any instance's
		return nil, errs.New(errs.Invalid, "certificate is of instance %q, this one is %q, which needs a join token of its own", name, me.instance)
	}
	if pub, ok := certs[0].PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(&key.PublicKey) {
		return nil, errs.New(errs.Invalid, "certificate is of another key")
	}
	h := &held{doc: doc, svid: &x509svid.SVID{ID: me.id, Certificates: certs, PrivateKey: key}, bundle: bundle, received: now}
	if h.life() <= 0 {
		return nil, errs.New(errs.Invalid, "certificate ends %s after it was made", h.life())
	}
	h.due = part(h.life(), 0.5, 0.6)
	h.recycle = part(h.life(), 0.7, 0.85)
	return h, nil
}

// part gives a random share of d.
func part(d time.Duration, from, to float64) time.Duration {
	return time.Duration(float64(d) * (from + (to-from)*rand.Float64())) //nolint:gosec // spreads load
}

func parse(ders [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, errs.New(errs.Invalid, "certificate: %w", err)
		}
		out = append(out, c)
	}
	return out, nil
}

// life is how long the certificate was to live when it was made.
func (h *held) life() time.Duration { return h.doc.NotAfter.Sub(h.doc.Now) }

// age is how old the certificate is. Whichever clock says older counts: the monotonic one stands still while a machine sleeps, the
// wall's may be set back. Too old costs an early renewal, too young would cost the identity.
func (h *held) age(now time.Time) time.Duration {
	return h.before + max(now.Sub(h.received), now.Round(0).Sub(h.received.Round(0)), 0)
}

// there is the time by the control plane's clock.
func (h *held) there(now time.Time) time.Time { return h.doc.Now.Add(h.age(now)) }

func (h *held) expired(now time.Time) bool { return h.age(now) > h.life() }

// serial is the number as the control plane writes it: whole bytes.
func (h *held) serial() string {
	return hex.EncodeToString(h.svid.Certificates[0].SerialNumber.Bytes())
}

// encode gives what is stored.
func (h *held) encode() (raw []byte, key secret.Value, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(h.svid.PrivateKey)
	if err != nil {
		return nil, secret.Value{}, fmt.Errorf("encode key: %w", err)
	}
	raw, err = json.Marshal(h.doc)
	return raw, secret.NewValue(base64.StdEncoding.EncodeToString(der)), err
}

// decodeHeld reads what encode gave, perhaps by a process long ended: how old it is now only the wall's clock can say.
func decodeHeld(raw []byte, key secret.Value, me who, now time.Time) (*held, error) {
	var doc document
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, errs.New(errs.Invalid, "stored identity: %w", err)
	}
	der, err := base64.StdEncoding.DecodeString(key.Reveal())
	if err != nil {
		return nil, errs.New(errs.Invalid, "stored key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errs.New(errs.Invalid, "stored key: %w", err)
	}
	private, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errs.New(errs.Invalid, "stored key: it is no ECDSA key")
	}
	h, err := newHeld(doc, private, me, now)
	if err != nil {
		return nil, fmt.Errorf("stored identity: %w", err)
	}
	passed := now.Round(0).Sub(doc.Here)
	h.before = max(passed, 0)
	switch soon := h.before + part(min(time.Minute, h.life()/50), 0, 1); {
	case passed < 0: // the clock was set back, so nobody knows
		h.due = soon
	case h.before >= h.life():
		h.due = h.before // nothing opens with it but a renewal
	default: // many instances may start at once
		h.due = max(h.due, soon)
	}
	return h, nil
}
