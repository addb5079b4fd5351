package directory

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// NewToken is what an API token is made of.
type NewToken struct {
	Name   string
	Scopes []access.Scope // empty: all that the owner holds
	TTL    time.Duration  // 0: MaxTTL
}

func (n NewToken) check(p *access.Policy) error {
	if !spec.ValidName(n.Name) {
		return errs.New(errs.Invalid, "token %q: not a name", n.Name)
	}
	if n.TTL < 0 || n.TTL > MaxTTL {
		return errs.New(errs.Invalid, "a token lives for 90 days at most")
	}
	if len(n.Scopes) > maxScopes {
		return errs.New(errs.Invalid, "a token has %d scopes at most", maxScopes)
	}
	for _, s := range n.Scopes {
		if _, ok := p.Role(s.Role); !ok {
			return errs.New(errs.Invalid, "scope: there is no role %q", s.Role)
		}
		if s.Namespace != "" && s.Namespace != access.AllNamespaces && !spec.ValidName(s.Namespace) {
			return errs.New(errs.Invalid, "scope: %q is no namespace", s.Namespace)
		}
	}
	return nil
}

// CreateToken makes an API token of the caller's. One that is made with an API token belongs to that one's owner, is bounded by its
// scopes too, and ends with it. A name that one of the owner's tokens has is errs.Exists.
func (d *Directory) CreateToken(ctx context.Context, maker access.Principal, n NewToken) (Token, secret.Value, error) {
	if err := n.check(d.Policy()); err != nil {
		return Token{}, secret.Value{}, err
	}
	now := d.cfg.Now().UTC()
	if n.TTL == 0 {
		n.TTL = MaxTTL
	}
	value, sum, id := newSecret()
	t := &token{Token: Token{
		ID: id, Kind: KindAPI, Name: n.Name, Owner: maker.Name, Groups: maker.Groups, Scopes: n.Scopes, Created: now, Expires: now.Add(n.TTL),
	}, Hash: hex.EncodeToString(sum[:])}
	if err := d.inherit(t, maker); err != nil {
		return Token{}, secret.Value{}, err
	}
	if d.count(t.Owner, KindAPI) >= maxTokens {
		return Token{}, secret.Value{}, errs.New(errs.Exhausted, "%s has %d tokens: revoke one first", t.Owner, maxTokens)
	}
	put := t.put(0)
	if err := d.reserve(ctx, t, &put); err != nil {
		return Token{}, secret.Value{}, err
	}
	note(ctx, "token/"+t.Name, nil, t.told())
	err := d.commit(ctx, put, d.tokens)
	if errs.Is(err, errs.Conflict) {
		err = errs.New(errs.Exists, "%s has a token %s already", t.Owner, t.Name)
	}
	if err != nil {
		return Token{}, secret.Value{}, err
	}
	return t.Token, value, nil
}

// inherit makes a token the child of the one that its maker came with.
func (d *Directory) inherit(t *token, maker access.Principal) error {
	switch {
	case maker.Kind == access.Dev:
		t.Groups = nil
		return nil
	case maker.Kind == access.User:
		return nil
	case maker.Kind != access.Token:
		return errs.New(errs.Denied, "%s can't have tokens", maker.Name)
	}
	parent, err := d.counting(maker.TokenID)
	if err != nil {
		return err
	}
	if len(parent.Above) >= maxDepth {
		return errs.New(errs.Precondition, "token %s was made with a token that was made with a token, and so on: make this one with an earlier one", parent.Name)
	}
	t.Owner, t.Groups, t.Parent = parent.Owner, parent.Groups, parent.ID
	t.Above = slices.Concat([]access.Bound{{Token: parent.ID, Scopes: parent.Scopes}}, parent.Above)
	if parent.Expires.Before(t.Expires) {
		t.Expires = parent.Expires
	}
	return nil
}

// nameKey is where a token's name is kept for its owner.
func (t *token) nameKey() string {
	owner := sha256.Sum256([]byte(t.Owner))
	return namePrefix + hex.EncodeToString(owner[:12]) + "/" + strings.ToLower(t.Name)
}

// reserve adds the name to a transaction, so that of two makers one wins.
func (d *Directory) reserve(ctx context.Context, t *token, into *store.Txn) error {
	kv, err := d.get(ctx, t.nameKey())
	if err != nil {
		return err
	}
	if len(kv.Value) > 0 {
		taken, err := d.taken(ctx, string(kv.Value))
		if err != nil {
			return err
		}
		if taken {
			return errs.New(errs.Exists, "%s has a token %s already", t.Owner, t.Name)
		}
	}
	into.If = append(into.If, store.Cond{Key: t.nameKey(), ModRevision: kv.ModRevision})
	into.Puts = append(into.Puts, store.KV{Key: t.nameKey(), Value: []byte(t.ID)})
	return nil
}

// taken says whether the token that has a name counts. One that doesn't show here may have been made a moment ago.
func (d *Directory) taken(ctx context.Context, id string) (bool, error) {
	if _, ok := d.tokens.Get(id); ok {
		_, err := d.counting(id)
		return err == nil, nil
	}
	kv, err := d.get(ctx, tokenPrefix+id)
	return kv.ModRevision != 0, err
}

func (d *Directory) count(owner, kind string) int {
	n := 0
	rows, _ := d.tokens.All()
	for _, r := range rows {
		if r.Value.Owner == owner && r.Value.Kind == kind {
			n++
		}
	}
	return n
}

// Tokens gives the tokens and sessions that count and that keep answers true for, newest first.
func (d *Directory) Tokens(keep func(Token) bool) []Token {
	rows, _ := d.tokens.All()
	var out []Token
	for id, r := range rows {
		if _, err := d.counting(id); err == nil && keep(r.Value.Token) {
			out = append(out, r.Value.Token)
		}
	}
	slices.SortFunc(out, func(a, b Token) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Own says whether a token is a caller's to see and to end: a user's are all that it owns; an API token's are itself and those
// that were made with it.
func (d *Directory) Own(who access.Principal, t Token) bool {
	if who.Kind != access.Token {
		return who.Name == t.Owner
	}
	for range maxDepth + 2 {
		if t.ID == who.TokenID {
			return true
		}
		row, ok := d.tokens.Get(t.Parent)
		if !ok {
			return false
		}
		t = row.Value.Token
	}
	return false
}

// RevokeToken ends a token or session by its id, and with it those that were made with it. errs.NotFound where there is none.
func (d *Directory) RevokeToken(ctx context.Context, id string) (Token, error) {
	row, ok := d.tokens.Get(id)
	if !ok {
		return Token{}, errs.New(errs.NotFound, "there is no token %q", id)
	}
	object := "token/" + row.Value.Name
	if row.Value.Kind == KindSession {
		object = "session/" + row.Value.Owner
	}
	note(ctx, object, row.Value.told(), nil)
	return row.Value.Token, d.remove(ctx, row.Value)
}

// remove deletes a record, and its name where that is still its own.
func (d *Directory) remove(ctx context.Context, t *token) error {
	return retrying(func() error {
		txn := store.Txn{Deletes: []string{tokenPrefix + t.ID}}
		if t.Kind == KindAPI {
			kv, err := d.get(ctx, t.nameKey())
			if err != nil {
				return err
			}
			if string(kv.Value) == t.ID {
				txn.If = append(txn.If, store.Cond{Key: t.nameKey(), ModRevision: kv.ModRevision})
				txn.Deletes = append(txn.Deletes, t.nameKey())
			}
		}
		return d.commit(ctx, txn, d.tokens)
	})
}
