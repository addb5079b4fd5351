package directory

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// The kinds of tokens.
const (
	KindAPI     = "api"
	KindSession = "session"
)

const (
	// MaxTTL is how long an API token lives at most, and by default.
	MaxTTL = 90 * 24 * time.Hour
	// SessionTTL is how long a login lasts.
	SessionTTL = 12 * time.Hour

	bearerPrefix = "agt_"
	devName      = "dev"
	ownerToken   = "token:" // of a token that is its own owner
	maxTokens    = 200      // of one owner and kind
	maxDepth     = 4        // of tokens made with tokens
	maxScopes    = 32
)

// Token is what may be told of an API token or a session.
type Token struct {
	ID      string         `json:"id"`
	Kind    string         `json:"kind"` // KindAPI or KindSession
	Name    string         `json:"name"`
	Owner   string         `json:"owner"` // "user:NAME", "dev", or "token:ID" of the token itself
	Groups  []string       `json:"groups,omitempty"`
	Scopes  []access.Scope `json:"scopes,omitempty"`
	Created time.Time      `json:"created"`
	Expires time.Time      `json:"expires"`
	// LastUsed is kept to the hour; zero: never.
	LastUsed time.Time `json:"lastUsed,omitzero"`
	// Parent is the id of the API token with which it was made; with that one it ends.
	Parent string `json:"parent,omitempty"`
}

// token is the stored record.
type token struct {
	Token

	Hash string `json:"hash"` // SHA-256 of the secret, hex
	// Above are the bounds of the tokens that it was made with, nearest first.
	Above []access.Bound `json:"above,omitempty"`

	sum    [sha256.Size]byte
	holder access.Holder
}

func (d *Directory) decodeToken(key string, value []byte) (*token, error) {
	t := &token{}
	if err := json.Unmarshal(value, t); err != nil {
		return nil, err
	}
	sum, err := hex.DecodeString(t.Hash)
	if err != nil || len(sum) != sha256.Size || t.ID != key {
		return nil, errs.New(errs.Invalid, "not written by agentry")
	}
	t.sum = [sha256.Size]byte(sum)
	t.holder = d.holderOf(t)
	return t, nil
}

func (d *Directory) holderOf(t *token) access.Holder {
	owner := access.Principal{Name: t.Owner, Kind: access.User, Groups: t.Groups}
	switch {
	case t.Kind == KindSession:
		return access.Holder{Owner: owner}
	case t.Owner == devName: // holds something only while the token file counts
		owner = access.Principal{Name: devName, Kind: access.Dev, Admin: !d.cfg.Dev.IsZero()}
	case strings.HasPrefix(t.Owner, ownerToken):
		id := strings.TrimPrefix(t.Owner, ownerToken)
		owner = access.Principal{Name: t.Owner, Kind: access.Token, TokenID: id}
	}
	caller := t.principal()
	bounds := slices.Concat([]access.Bound{{Token: t.ID, Scopes: t.Scopes}}, t.Above)
	return access.Holder{Owner: owner, Caller: &caller, Bounds: bounds}
}

// principal is who shows the token, without the rules.
func (t *token) principal() access.Principal {
	if t.Kind == KindSession {
		return access.Principal{Name: t.Owner, Kind: access.User, Groups: t.Groups, TokenID: t.ID, Expires: t.Expires}
	}
	return access.Principal{Name: t.actor(), Kind: access.Token, Groups: t.Groups, TokenID: t.ID, Expires: t.Expires}
}

// actor is how history and audit name an API token. Names are their owners' own, so that the owner belongs to it, or else anybody could
// act under the name of another's token.
func (t *token) actor() string {
	name := ownerToken + t.Name
	if t.Owner == devName || t.Owner == ownerToken+t.ID {
		return name
	}
	return name + " of " + t.Owner
}

// Authenticate gives who shows a bearer token: the token file's, a session's or an API token's. Anything else, and what has ended,
// is errs.Unauthenticated.
func (d *Directory) Authenticate(_ context.Context, bearer string) (access.Principal, error) {
	if bearer == "" {
		return access.Principal{}, errs.New(errs.Unauthenticated, "no token: log in (agentctl login), or send an API token")
	}
	if !d.cfg.Dev.IsZero() && d.cfg.Dev.Equal(secret.NewValue(bearer)) {
		return access.Principal{Name: devName, Kind: access.Dev, Admin: true, Rules: d}, nil
	}
	sum := sha256.Sum256([]byte(bearer))
	row, ok := d.tokens.Get(idOf(sum))
	if !ok || !strings.HasPrefix(bearer, bearerPrefix) || subtle.ConstantTimeCompare(row.Value.sum[:], sum[:]) != 1 {
		return access.Principal{}, errs.New(errs.Unauthenticated, "the token isn't this control plane's, or was revoked")
	}
	t, err := d.counting(row.Value.ID)
	if err != nil {
		return access.Principal{}, err
	}
	d.used.note(t, d.cfg.Now())
	who := t.principal()
	who.Rules = d
	return who, nil
}

// counting gives a token that counts now: it is there, hasn't expired, and so are the tokens that it was made with.
func (d *Directory) counting(id string) (*token, error) {
	row, ok := d.tokens.Get(id)
	if !ok {
		return nil, errs.New(errs.Unauthenticated, "the token was revoked")
	}
	now := d.cfg.Now()
	for t, depth := row.Value, 0; ; depth++ {
		if !now.Before(t.Expires) {
			return nil, errs.New(errs.Unauthenticated, "the token expired at %s: log in again, or make another", t.Expires.UTC().Format(time.RFC3339))
		}
		if t.Parent == "" {
			return row.Value, nil
		}
		parent, ok := d.tokens.Get(t.Parent)
		if !ok || depth > maxDepth {
			return nil, errs.New(errs.Unauthenticated, "the token that this one was made with was revoked")
		}
		t = parent.Value
	}
}

// newSecret gives a token's secret with its hash and id.
func newSecret() (value secret.Value, sum [sha256.Size]byte, id string) {
	var raw [32]byte
	_, _ = rand.Read(raw[:])
	text := bearerPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
	sum = sha256.Sum256([]byte(text))
	return secret.NewValue(text), sum, idOf(sum)
}

// idOf names a token by the beginning of its hash, which tells nothing of use about its 256 random bits.
func idOf(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:8]) }
