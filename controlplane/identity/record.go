package identity

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The key space below view.IdentityPrefix. What every replica holds in memory is under trust/.
const (
	trustPrefix  = view.IdentityPrefix + "trust/"
	issuedPrefix = view.IdentityPrefix + "issued/" // <namespace>/<agent>/<instance>
	joinPrefix   = view.IdentityPrefix + "join/"   // <SHA-256 of the secret>

	authorityKey  = "authority"
	revokedPrefix = "revoked/" // <namespace>/<agent>/<instance or nothing>
)

// record is what lies under trustPrefix. The authority itself is in Authority.trust.
type record struct{ revoked *Revocation }

// trust is the authority as of one record. It is immutable.
type trust struct {
	roots  []*root // former, active, next
	ticket []byte  // what session ticket keys are made of
	mod    int64   // ModRevision of the record; 0: not known
	stored authorityRecord
}

// authorityRecord is the stored authority; it is sealed as a whole.
type authorityRecord struct {
	Schema int          `json:"v"`
	Roots  []rootRecord `json:"roots"`
	Ticket []byte       `json:"ticket"`
}

type rootRecord struct {
	State      State  `json:"state"`
	Cert       []byte `json:"cert"`
	Key        []byte `json:"key"`
	Issuer     []byte `json:"issuer"`
	IssuerKey  []byte `json:"issuerKey"`
	LeavesTill int64  `json:"leavesTill,omitempty"` // of a former root: Unix seconds after which no leaf of it is valid
}

func place() secret.Place { return secret.Place{Kind: "identity", Name: authorityKey} }

// decode reads a record of the table. An authority counts from here on, and before those who wait for a change are told; one that
// can't be read (a key file that lags behind) leaves the one before.
func (a *Authority) decode(key string, value []byte) (record, error) {
	switch {
	case key == authorityKey:
		if a.cfg.Files != nil {
			return record{}, nil // one of before: the files count
		}
		t, err := a.unseal(value)
		if err == nil {
			a.trust.Store(t)
		}
		return record{}, err
	case strings.HasPrefix(key, revokedPrefix):
		r := &Revocation{}
		err := json.Unmarshal(value, r)
		return record{revoked: r}, err
	}
	return record{}, errs.New(errs.Invalid, "unknown key")
}

func (a *Authority) unseal(sealed []byte) (*trust, error) {
	v, err := secret.Open(a.cfg.KEK, place(), sealed)
	if err != nil {
		return nil, err
	}
	t := &trust{}
	if err := json.Unmarshal([]byte(v.Reveal()), &t.stored); err != nil {
		return nil, errs.New(errs.Invalid, "certificate authority: not a record of this version")
	}
	if t.stored.Schema != 1 || len(t.stored.Roots) == 0 {
		return nil, errs.New(errs.Precondition, "certificate authority: schema %d isn't known here", t.stored.Schema)
	}
	t.ticket = t.stored.Ticket
	for _, r := range t.stored.Roots {
		parsed, err := r.parse()
		if err != nil {
			return nil, err
		}
		t.roots = append(t.roots, parsed)
	}
	if t.active() == nil {
		return nil, errs.New(errs.Invalid, "certificate authority: no root is active")
	}
	return t, nil
}

func (r rootRecord) parse() (*root, error) {
	out := &root{state: r.State}
	var err error
	if out.signer, err = parseSigner(r.Cert, r.Key); err != nil {
		return nil, err
	}
	out.pin, out.pool = pinOf(out.cert), poolOf(out.cert)
	out.issuer, err = parseSigner(r.Issuer, r.IssuerKey)
	return out, err
}

func parseSigner(cert, key []byte) (signer, error) {
	c, err := x509.ParseCertificate(cert)
	if err != nil {
		return signer{}, errs.New(errs.Invalid, "certificate authority: %w", err)
	}
	if len(key) == 0 {
		return signer{cert: c}, nil // a former root signs nothing
	}
	k, err := parseKey(key)
	if err != nil {
		return signer{}, err
	}
	return signer{cert: c, key: k}, nil
}

func parseKey(der []byte) (crypto.Signer, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errs.New(errs.Invalid, "certificate authority: key: not PKCS #8")
	}
	s, ok := k.(crypto.Signer)
	if !ok {
		return nil, errs.New(errs.Invalid, "certificate authority: the key can't sign")
	}
	return s, nil
}

// recordOf is the stored form of a root that was just made.
func recordOf(r *root, state State) (rootRecord, error) {
	key, err := x509.MarshalPKCS8PrivateKey(r.key)
	if err != nil {
		return rootRecord{}, fmt.Errorf("root key: %w", err)
	}
	issuer, err := x509.MarshalPKCS8PrivateKey(r.issuer.key)
	if err != nil {
		return rootRecord{}, fmt.Errorf("intermediate key: %w", err)
	}
	return rootRecord{State: state, Cert: r.cert.Raw, Key: key, Issuer: r.issuer.cert.Raw, IssuerKey: issuer}, nil
}

func (a *Authority) seal(r authorityRecord) ([]byte, error) {
	plain, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return secret.Seal(a.cfg.KEK, place(), secret.NewValue(string(plain)))
}

// found reads the authority, or makes it: of several replicas at once one wins, and all go on with its.
func (a *Authority) found(ctx context.Context) error {
	t, err := a.read(ctx)
	if errs.Is(err, errs.NotFound) {
		if err = a.create(ctx); err == nil || errs.Is(err, errs.Conflict) {
			t, err = a.read(ctx)
		}
	}
	switch {
	case errs.Is(err, errs.Invalid):
		return fmt.Errorf("certificate authority: what the store holds was changed (put the store back from a backup): %w", err)
	case err != nil:
		return fmt.Errorf("certificate authority: %w", err)
	}
	a.trust.Store(t)
	return nil
}

// read gives the authority as it is stored now.
func (a *Authority) read(ctx context.Context) (*trust, error) {
	kv, err := a.cfg.Store.Get(ctx, trustPrefix+authorityKey)
	if err != nil {
		return nil, err
	}
	t, err := a.unseal(kv.Value)
	if err != nil {
		return nil, err
	}
	t.mod = kv.ModRevision
	return t, nil
}

func (a *Authority) create(ctx context.Context) error {
	r, err := newRoot(a.domain, a.cfg.Now())
	if err != nil {
		return err
	}
	stored, err := recordOf(r, Active)
	if err != nil {
		return err
	}
	ticket := make([]byte, 32)
	_, _ = rand.Read(ticket)
	_, err = a.write(ctx, authorityRecord{Schema: 1, Roots: []rootRecord{stored}, Ticket: ticket}, 0)
	return err
}

// write stores the authority where it is still as it was read.
func (a *Authority) write(ctx context.Context, r authorityRecord, mod int64) (int64, error) {
	sealed, err := a.seal(r)
	if err != nil {
		return 0, err
	}
	key := trustPrefix + authorityKey
	return a.cfg.Store.Commit(ctx, store.Txn{If: []store.Cond{{Key: key, ModRevision: mod}}, Puts: []store.KV{{Key: key, Value: sealed}}})
}

func (t *trust) active() *root { return t.in(Active) }

func (t *trust) in(s State) *root {
	for _, r := range t.roots {
		if r.state == s {
			return r
		}
	}
	return nil
}

func (t *trust) pinned(pin string) *root {
	for _, r := range t.roots {
		if r.pin == pin {
			return r
		}
	}
	return nil
}

// bundle gives the roots to trust, the active one first.
func (t *trust) bundle() [][]byte {
	out := [][]byte{t.active().cert.Raw}
	for _, r := range t.roots {
		if r.state != Active {
			out = append(out, r.cert.Raw)
		}
	}
	return out
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
