package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

// Proof is how somebody showed who it is.
type Proof string

// The proofs.
const (
	ByJoinToken  Proof = "join_token"
	ByKubernetes Proof = "kubernetes"
	ByX509       Proof = "x509pop"
	ByRenewal    Proof = "renewal"
)

// Certificate is what an instance is given.
type Certificate struct {
	// Chain is DER: leaf first, without the root. Roots are DER: the active one first.
	Chain, Roots        [][]byte
	ID                  string
	Serial              string
	NotBefore, NotAfter time.Time
	// Now is the clock of the control plane.
	Now time.Time
}

// Issued is the newest certificate of an instance, as it is stored.
type Issued struct {
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
	Proof     Proof     `json:"proof"`
	// Roots are the pins of the roots that came with it.
	Roots []string `json:"roots"`
	// Key is the hash of its public key, Spent the hash of the join token that it was given for, if so.
	Key   string `json:"key"`
	Spent string `json:"spent,omitempty"`
	// Until is when the spent token would have ended.
	Until time.Time `json:"until,omitzero"`
}

// Attested is what a proof says: who may have a certificate, and what must be true and is written when it gets one.
type Attested struct {
	Namespace, Agent string
	Proof            Proof
	// Renews is whose certificate is renewed; nil for every other proof.
	Renews *Peer
	// If and Deletes go into the transaction that writes the certificate down; a token is spent by them.
	If      []store.Cond
	Deletes []string
	// Spent and Until are a join token's hash and end.
	Spent string
	Until time.Time
	// Revision is the store revision at which the proof was made, for one that the store holds; Made is when, for another. A proof
	// that isn't known to be younger than a revocation doesn't count.
	Revision int64
	Made     time.Time
}

// Enroll gives an instance a certificate and writes it down, in one transaction with the spending of its proof. A proof that
// somebody else spent meanwhile is errs.Unauthenticated.
func (a *Authority) Enroll(ctx context.Context, by Attested, instance string, key *ecdsa.PublicKey) (Certificate, error) {
	s := Subject{Namespace: by.Namespace, Agent: by.Agent, Instance: instance}
	if err := s.Check(); err != nil {
		return Certificate{}, err
	}
	c, err := a.Issue(s, key)
	if err != nil {
		return Certificate{}, err
	}
	// Asked once the certificate has its beginning: a revocation that comes meanwhile either shows here, or ends this one as well.
	if by.Proof != ByRenewal && a.outdated(s, by) {
		return Certificate{}, errs.New(errs.Unauthenticated, "%s/%s, instance %s, was revoked after the proof was made", s.Namespace, s.Agent, s.Instance)
	}
	if by.Renews != nil {
		if _, err := a.Standing(*by.Renews, a.cfg.Now()); err != nil {
			return Certificate{}, err
		}
	}
	hash, err := keyHash(key)
	if err != nil {
		return Certificate{}, err
	}
	row := Issued{
		Namespace: s.Namespace, Agent: s.Agent, Instance: s.Instance, Serial: c.Serial, NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		Proof: by.Proof, Roots: a.pins(), Key: hash, Spent: by.Spent, Until: by.Until,
	}
	value, err := json.Marshal(row)
	if err != nil {
		return Certificate{}, fmt.Errorf("certificate of %s: %w", c.ID, err)
	}
	_, err = a.cfg.Store.Commit(ctx, store.Txn{If: by.If, Deletes: by.Deletes, Puts: []store.KV{{Key: issuedKey(s), Value: value}}})
	if errs.Is(err, errs.Conflict) {
		return Certificate{}, errs.New(errs.Unauthenticated, "the join token was spent meanwhile")
	}
	return c, err
}

// Issue signs a certificate for a key without writing it down.
func (a *Authority) Issue(s Subject, key *ecdsa.PublicKey) (Certificate, error) {
	id, err := s.id(a.domain)
	if err != nil {
		return Certificate{}, err
	}
	t, now := a.trust.Load(), a.cfg.Now()
	r := t.active()
	notBefore, notAfter := seconds(now.Add(-Skew)), seconds(now.Add(a.cfg.LeafTTL))
	// A revocation ends what began before it, so what is given after it begins no sooner.
	if before := a.revokedBefore(s); notBefore.Before(before) {
		notBefore = before
	}
	leaf, err := r.issuer.leaf(id, s.Instance, key, notBefore, notAfter)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{
		Chain: r.chain(leaf), Roots: t.bundle(), ID: id.String(), Serial: serialOf(leaf),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Now: now,
	}, nil
}

// chain gives a leaf and what leads to the root, without it.
func (r *root) chain(leaf *x509.Certificate) [][]byte {
	out := [][]byte{leaf.Raw}
	if !selfSigned(r.issuer.cert) {
		out = append(out, r.issuer.cert.Raw)
	}
	return append(out, r.between...)
}

func (a *Authority) pins() []string {
	var out []string
	for _, r := range a.trust.Load().roots {
		out = append(out, r.pin)
	}
	return out
}

func keyHash(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", errs.New(errs.Invalid, "public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// issuedKey is where the newest certificate of an instance lies. Agents are unique without case.
func issuedKey(s Subject) string {
	return issuedPrefix + s.Namespace + "/" + strings.ToLower(s.Agent) + "/" + s.Instance
}

// Issued gives the newest certificates that are written down, of one namespace and agent; empty: of all.
func (a *Authority) Issued(ctx context.Context, namespace, agent string) ([]Issued, error) {
	prefix := issuedPrefix
	if namespace != "" {
		prefix += namespace + "/"
		if agent != "" {
			prefix += strings.ToLower(agent) + "/"
		}
	}
	var out []Issued
	opts := store.ListOptions{Limit: 1000}
	for {
		page, err := a.cfg.Store.List(ctx, prefix, opts)
		if err != nil {
			return nil, err
		}
		for _, kv := range page.KVs {
			var i Issued
			if err := json.Unmarshal(kv.Value, &i); err != nil {
				return nil, fmt.Errorf("record %s: %w", kv.Key, err)
			}
			out = append(out, i)
		}
		if page.Next == "" {
			return out, nil
		}
		opts.From, opts.Revision = page.Next, page.Revision
	}
}
