package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// NewSession is what a session is made of.
type NewSession struct {
	User   string // without "user:"
	Groups []string
	// Proof names what the user proved it by, such as the hash of an ID token. It makes one session, and no second one for as long as
	// an ID token may be used; empty: nothing is remembered.
	Proof string
}

// CreateSession makes the session of a user who logged in. The user's API tokens get the groups that the user has now. A proof that was
// used already is errs.Unauthenticated.
func (d *Directory) CreateSession(ctx context.Context, n NewSession) (Token, secret.Value, error) {
	if err := checkUser(n.User, n.Groups); err != nil {
		return Token{}, secret.Value{}, err
	}
	now := d.cfg.Now().UTC()
	value, sum, id := newSecret()
	t := &token{Token: Token{
		ID: id, Kind: KindSession, Name: "session-" + id, Owner: "user:" + n.User, Groups: n.Groups, Created: now, Expires: now.Add(SessionTTL),
	}, Hash: hex.EncodeToString(sum[:])}
	note(ctx, "session/"+t.Owner, nil, t.told())
	err := retrying(func() error {
		txn := t.put(0)
		d.refresh(t, &txn)
		if err := d.use(ctx, n.Proof, now, &txn); err != nil {
			return err
		}
		return d.commit(ctx, txn, d.tokens)
	})
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	return t.Token, value, nil
}

// use notes a proof in a transaction, so that of two sessions by it one is made.
func (d *Directory) use(ctx context.Context, proof string, now time.Time, into *store.Txn) error {
	if proof == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(proof))
	key := proofPrefix + hex.EncodeToString(sum[:])
	kv, err := d.get(ctx, key)
	if err != nil {
		return err
	}
	if kv.ModRevision != 0 {
		return errs.New(errs.Unauthenticated, "this proof made a session already: log in again")
	}
	into.If = append(into.If, store.Cond{Key: key})
	into.Puts = append(into.Puts, store.KV{Key: key, Value: encode(now)})
	return nil
}

func checkUser(user string, groups []string) error {
	if err := access.CheckSubjectName(user); err != nil {
		return err
	}
	if len(groups) > maxGroups {
		return errs.New(errs.Invalid, "user %s has %d groups, at most %d fit: have the provider send fewer", user, len(groups), maxGroups)
	}
	for _, g := range groups {
		if err := access.CheckSubjectName(g); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	return nil
}

// maxGroups is how many groups a user may have.
const maxGroups = 500

// refresh puts the groups of a new session into its user's API tokens, and ends the oldest session where there are too many.
func (d *Directory) refresh(session *token, into *store.Txn) {
	rows, _ := d.tokens.All()
	var oldest *token
	var sessions int
	for _, r := range rows {
		t := r.Value
		switch {
		case t.Owner != session.Owner:
		case t.Kind == KindSession:
			sessions++
			if oldest == nil || t.Created.Before(oldest.Created) {
				oldest = t
			}
		case !slices.Equal(t.Groups, session.Groups):
			next := *t
			next.Groups = session.Groups
			put := next.put(r.ModRevision)
			into.If, into.Puts = append(into.If, put.If...), append(into.Puts, put.Puts...)
		}
	}
	if sessions >= maxTokens {
		into.Deletes = append(into.Deletes, tokenPrefix+oldest.ID)
	}
}
