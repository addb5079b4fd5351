// Package oidclogin verifies the ID tokens with which people log in: issuer, audience, signature, expiry, age, nonce and authorized
// party, by the keys that the provider publishes. The access service uses it. It speaks to the provider only when somebody logs in,
// keeps no state but the provider's metadata and keys, and grants nothing: it says who somebody is.
package oidclogin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/agentry/agentry/internal/errs"
)

const (
	// providerWait bounds what one login may wait for the provider.
	providerWait = 10 * time.Second
	// retryAfter is how long a provider that didn't answer isn't asked for its metadata again.
	retryAfter = 5 * time.Second
	// maxAge is how old an ID token may be: it is exchanged at once by whoever got it.
	maxAge = 15 * time.Minute
	// skew is how far the provider's clock may be ahead.
	skew = 5 * time.Minute
	// maxToken is the most bytes that an ID token may have.
	maxToken = 64 << 10
)

// DefaultGroupsClaim is the claim that holds a user's groups where nothing else is said.
const DefaultGroupsClaim = "groups"

// Config is what New needs.
type Config struct {
	// Issuer and ClientID are the provider's URL and what this control plane's users are clients of; required.
	Issuer, ClientID string
	// GroupsClaim defaults to DefaultGroupsClaim.
	GroupsClaim string
	// Client speaks to the provider; required.
	Client *http.Client
	Now    func() time.Time
}

// Verifier verifies ID tokens of one provider. It is safe for concurrent use.
type Verifier struct {
	cfg Config

	mu       sync.Mutex // held while the provider is asked: one asks, the others wait for its answer
	provider *metadata  // guarded by mu, like the two below
	failure  error
	retry    time.Time
}

// metadata is what the provider says of itself.
type metadata struct {
	keys       oidc.KeySet
	algorithms []string
}

// New makes a Verifier. It doesn't ask the provider: one that is down at a start keeps nothing else from working.
func New(cfg Config) (*Verifier, error) {
	if cfg.Issuer == "" || cfg.ClientID == "" || cfg.Client == nil || cfg.Now == nil {
		return nil, errs.New(errs.Invalid, "oidclogin: something required is missing")
	}
	if cfg.GroupsClaim == "" {
		cfg.GroupsClaim = DefaultGroupsClaim
	}
	return &Verifier{cfg: cfg}, nil
}

// Verify gives the user's name and groups of an ID token. nonce is the one that the login was begun with; empty where it had none,
// and then the token must have none. A token that doesn't hold is errs.Unauthenticated, a provider that doesn't answer
// errs.Unavailable.
func (v *Verifier) Verify(ctx context.Context, rawIDToken, nonce string) (user string, groups []string, err error) {
	if rawIDToken == "" || len(rawIDToken) > maxToken {
		return "", nil, errs.New(errs.Unauthenticated, "no ID token, or one of more than 64 KiB")
	}
	ctx, cancel := context.WithTimeout(ctx, providerWait)
	defer cancel()
	meta, err := v.metadata(ctx)
	if err != nil {
		return "", nil, err
	}
	keys := &watched{KeySet: meta.keys}
	verifier := oidc.NewVerifier(v.cfg.Issuer, keys, &oidc.Config{
		ClientID: v.cfg.ClientID, SupportedSigningAlgs: meta.algorithms, Now: v.cfg.Now,
	})
	token, err := verifier.Verify(oidc.ClientContext(ctx, v.cfg.Client), rawIDToken)
	switch {
	case keys.unreachable != nil:
		return "", nil, errs.New(errs.Unavailable, "the OIDC provider's keys can't be read: %w", keys.unreachable)
	case err != nil:
		return "", nil, errs.New(errs.Unauthenticated, "the ID token doesn't hold: %w", err)
	}
	var c claims
	if err := token.Claims(&c); err != nil {
		return "", nil, errs.New(errs.Unauthenticated, "the ID token's claims can't be read: %w", err)
	}
	if err := v.check(token, c, nonce); err != nil {
		return "", nil, err
	}
	groups, err = v.groups(token)
	return c.user(token.Subject), groups, err
}

// check holds what the library leaves to its callers.
func (v *Verifier) check(t *oidc.IDToken, c claims, nonce string) error {
	now := v.cfg.Now()
	refuse := func(text string) error { return errs.New(errs.Unauthenticated, "the ID token doesn't hold: %s", text) }
	switch {
	case t.Nonce != nonce:
		return refuse("its nonce isn't the login's")
	case t.Subject == "":
		return refuse("it names no subject")
	case len(t.Audience) > 1 && c.AuthorizedParty == "":
		return refuse("it is for several audiences and names no authorized party")
	case c.AuthorizedParty != "" && c.AuthorizedParty != v.cfg.ClientID:
		return refuse("it was issued to another client")
	case t.IssuedAt.Before(now.Add(-maxAge)):
		return refuse("it was issued more than 15 minutes ago")
	case t.IssuedAt.After(now.Add(skew)):
		return refuse("it was issued in the future")
	}
	return nil
}

// metadata asks the provider once, and again where that failed.
func (v *Verifier) metadata(ctx context.Context) (*metadata, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.provider != nil {
		return v.provider, nil
	}
	if v.failure != nil && v.cfg.Now().Before(v.retry) {
		return nil, v.failure
	}
	// A caller who goes away must not make the provider look as if it were down to the others.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerWait)
	defer cancel()
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, v.cfg.Client), v.cfg.Issuer)
	var said struct {
		Keys       string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err == nil {
		err = provider.Claims(&said)
	}
	if err == nil && said.Keys == "" {
		err = errors.New("it names no keys")
	}
	if err != nil {
		v.failure = errs.New(errs.Unavailable, "the OIDC provider %s can't be asked: %w", v.cfg.Issuer, err)
		v.retry = v.cfg.Now().Add(retryAfter)
		return nil, v.failure
	}
	// The key set outlives this call and takes no more than the client from the context.
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), v.cfg.Client), said.Keys)
	v.provider, v.failure = &metadata{keys: keys, algorithms: asymmetric(said.Algorithms)}, nil
	return v.provider, nil
}

// asymmetric leaves out what isn't signed with a key of the provider's alone.
func asymmetric(algorithms []string) []string {
	known := []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
	return slices.DeleteFunc(slices.Clone(algorithms), func(a string) bool { return !slices.Contains(known, a) })
}

// watched tells a provider that isn't reached from a signature that doesn't hold.
type watched struct {
	oidc.KeySet

	unreachable error
}

// VerifySignature notes why it failed.
func (w *watched) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := w.KeySet.VerifySignature(ctx, jwt)
	if e := new(url.Error); errors.As(err, &e) || errors.Is(err, context.DeadlineExceeded) {
		w.unreachable = err
	}
	return payload, err
}

// claims are those of an ID token that say who somebody is.
type claims struct {
	Email           string `json:"email"`
	EmailVerified   flag   `json:"email_verified"`
	AuthorizedParty string `json:"azp"`
}

// user gives the name: the email where the provider has verified it, else the subject. A subject that looks like an email is marked, so
// that it never is taken for one.
func (c claims) user(subject string) string {
	if c.Email != "" && bool(c.EmailVerified) && !strings.HasPrefix(c.Email, subjectMark) {
		return c.Email
	}
	if strings.Contains(subject, "@") || strings.HasPrefix(subject, subjectMark) {
		return subjectMark + subject
	}
	return subject
}

const subjectMark = "sub:"

// flag is a boolean, which some providers send as text.
type flag bool

// UnmarshalJSON reads true and "true"; all else is false.
func (f *flag) UnmarshalJSON(b []byte) error {
	*f = string(b) == "true" || string(b) == `"true"`
	return nil
}

// groups reads the claim: a list of names, or one name.
func (v *Verifier) groups(t *oidc.IDToken) ([]string, error) {
	var all map[string]json.RawMessage
	if err := t.Claims(&all); err != nil {
		return nil, errs.New(errs.Unauthenticated, "the ID token's claims can't be read: %w", err)
	}
	raw, ok := all[v.cfg.GroupsClaim]
	if !ok || string(raw) == "null" {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		slices.Sort(list)
		return slices.DeleteFunc(slices.Compact(list), func(g string) bool { return g == "" }), nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}, nil
	}
	return nil, errs.New(errs.Unauthenticated, "the ID token's claim %q is neither a name nor a list of names", v.cfg.GroupsClaim)
}
