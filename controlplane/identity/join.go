package identity

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The life of a join token, and the most that may wait to be spent: a list is read as a whole.
const (
	joinTTL    = 10 * time.Minute
	maxJoinTTL = 24 * time.Hour
)

// joinMark makes join tokens recognisable to secret scanners.
const joinMark = "agj_"

// idDigits is how much of its hash names a token.
const idDigits = 16

// JoinToken is what may be told of a token that can still be spent.
type JoinToken struct {
	ID        string    `json:"id"`
	Namespace string    `json:"namespace"`
	Agent     string    `json:"agent"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires"`
	CreatedBy string    `json:"createdBy"`
	Pin       string    `json:"pin"`
}

// CreateJoinToken makes a token for one instance of an agent. ttl 0 is 10 minutes; at most 24 h. The secret is
// "agj_" + base64url(32 bytes) + "." + the pin of the root that the door's certificate leads to.
func (a *Authority) CreateJoinToken(ctx context.Context, namespace, agent string, ttl time.Duration, by string) (JoinToken, secret.Value, error) {
	if err := (Subject{Namespace: namespace, Agent: agent, Instance: "any"}).Check(); err != nil {
		return JoinToken{}, secret.Value{}, err
	}
	ttl = cmp.Or(ttl, joinTTL)
	if ttl < 0 || ttl > maxJoinTTL {
		return JoinToken{}, secret.Value{}, errs.New(errs.Invalid, "ttl %s: a join token lives at most %s", ttl, maxJoinTTL)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random)
	now := a.cfg.Now()
	t := JoinToken{Namespace: namespace, Agent: agent, Created: seconds(now), Expires: seconds(now.Add(ttl)), CreatedBy: by, Pin: a.trust.Load().active().pin}
	text := joinMark + base64.RawURLEncoding.EncodeToString(random) + "." + t.Pin
	hash := joinHash(text)
	t.ID = hash[:idDigits]
	value, err := json.Marshal(t)
	if err != nil {
		return JoinToken{}, secret.Value{}, fmt.Errorf("join token: %w", err)
	}
	key := joinPrefix + hash
	_, err = a.cfg.Store.Commit(ctx, store.Txn{If: []store.Cond{{Key: key}}, Puts: []store.KV{{Key: key, Value: value}}})
	return t, secret.NewValue(text), err
}

// joinHash is what is kept of a secret. The pin at its end is for who joins, and no part of the proof.
func joinHash(text string) string {
	text, _, _ = strings.Cut(text, ".")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// JoinTokens gives the tokens that can still be spent, of one namespace; empty: of all.
func (a *Authority) JoinTokens(ctx context.Context, namespace string) ([]JoinToken, error) {
	var out []JoinToken
	err := a.eachJoin(ctx, func(_ store.KV, t JoinToken) {
		if (namespace == "" || t.Namespace == namespace) && a.cfg.Now().Before(t.Expires) {
			out = append(out, t)
		}
	})
	return out, err
}

func (a *Authority) eachJoin(ctx context.Context, do func(store.KV, JoinToken)) error {
	opts := store.ListOptions{Limit: 1000}
	for {
		page, err := a.cfg.Store.List(ctx, joinPrefix, opts)
		if err != nil {
			return err
		}
		for _, kv := range page.KVs {
			var t JoinToken
			if err := json.Unmarshal(kv.Value, &t); err != nil {
				return fmt.Errorf("record %s: %w", kv.Key, err)
			}
			do(kv, t)
		}
		if page.Next == "" {
			return nil
		}
		opts.From, opts.Revision = page.Next, page.Revision
	}
}

// DeleteJoinToken makes a token useless. One that isn't there is errs.NotFound.
func (a *Authority) DeleteJoinToken(ctx context.Context, namespace, id string) error {
	key := ""
	err := a.eachJoin(ctx, func(kv store.KV, t JoinToken) {
		if t.Namespace == namespace && t.ID == id {
			key = kv.Key
		}
	})
	switch {
	case err != nil:
		return err
	case key == "":
		return errs.New(errs.NotFound, "join token %s doesn't exist", cut(id))
	}
	_, err = a.cfg.Store.Commit(ctx, store.Txn{Deletes: []string{key}})
	return err
}

// AttestJoin says who a join token is for. A token that isn't there, has run out, or was spent by another key is
// errs.Unauthenticated. Who lost the answer to its enrolment shows the same token with the same key and instance again, as long as
// the token would have lived.
func (a *Authority) AttestJoin(ctx context.Context, token secret.Value, claimed Subject, key *ecdsa.PublicKey) (Attested, error) {
	hash := joinHash(token.Reveal())
	at := joinPrefix + hash
	kv, err := a.cfg.Store.Get(ctx, at)
	if errs.Is(err, errs.NotFound) {
		return a.again(ctx, hash, claimed, key)
	}
	if err != nil {
		return Attested{}, err
	}
	var t JoinToken
	if err := json.Unmarshal(kv.Value, &t); err != nil {
		return Attested{}, fmt.Errorf("record of a join token: %w", err)
	}
	if !a.cfg.Now().Before(t.Expires) {
		return Attested{}, errs.New(errs.Unauthenticated, "join token %s ran out at %s", t.ID, t.Expires.Format(time.RFC3339))
	}
	return Attested{
		Namespace: t.Namespace, Agent: t.Agent, Proof: ByJoinToken, Spent: hash, Until: t.Expires, Revision: kv.CreateRevision,
		If: []store.Cond{{Key: at, ModRevision: kv.ModRevision}}, Deletes: []string{at},
	}, nil
}

// again finds the certificate that a token was spent for.
func (a *Authority) again(ctx context.Context, hash string, claimed Subject, key *ecdsa.PublicKey) (Attested, error) {
	spent := errs.New(errs.Unauthenticated, "no such join token: it was never made here, was spent, or was deleted")
	if claimed.Check() != nil {
		return Attested{}, spent
	}
	at := issuedKey(claimed)
	kv, err := a.cfg.Store.Get(ctx, at)
	if errs.Is(err, errs.NotFound) {
		return Attested{}, spent
	}
	if err != nil {
		return Attested{}, err
	}
	var i Issued
	if err := json.Unmarshal(kv.Value, &i); err != nil {
		return Attested{}, fmt.Errorf("record of a certificate: %w", err)
	}
	of, err := keyHash(key)
	if err != nil || i.Spent != hash || i.Key != of || !a.cfg.Now().Before(i.Until) || a.IsRevoked(i) {
		return Attested{}, spent
	}
	return Attested{
		Namespace: i.Namespace, Agent: i.Agent, Proof: ByJoinToken, Spent: hash, Until: i.Until, Revision: kv.ModRevision,
		If: []store.Cond{{Key: at, ModRevision: kv.ModRevision}},
	}, nil
}
