package oidclogin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is a fake OIDC provider: it publishes metadata and keys, and signs what it is told to.
type provider struct {
	url string

	mu          sync.Mutex // guards what follows
	keys        []key
	keysDown    bool
	down        bool
	issuer      string // what the metadata says; "": the URL
	discoveries int
}

type key struct {
	id      string
	private *ecdsa.PrivateKey
}

func newKey(t *testing.T, id string) key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{id: id, private: k}
}

func newProvider(t *testing.T) (*provider, *http.Client) {
	t.Helper()
	p := &provider{keys: []key{newKey(t, "one")}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.discoveries++
		if p.down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		issuer := p.url
		if p.issuer != "" {
			issuer = p.issuer
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": issuer, "jwks_uri": p.url + "/keys", "authorization_endpoint": p.url + "/auth", "token_endpoint": p.url + "/token",
			"id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.keysDown {
			panic(http.ErrAbortHandler)
		}
		var set jose.JSONWebKeySet
		for _, k := range p.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: "ES256", Use: "sig"})
		}
		_ = json.NewEncoder(w).Encode(set)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	client := srv.Client()
	t.Cleanup(client.CloseIdleConnections)
	return p, client
}

func (p *provider) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, signer any, kid string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: signer, KeyID: kid}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (p *provider) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	p.mu.Lock()
	k := p.keys[len(p.keys)-1]
	p.mu.Unlock()
	return sign(t, jose.ES256, k.private, k.id, claims)
}

func (p *provider) claims(more map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": p.url, "aud": "agentctl", "sub": "1234", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "nonce": "n",
		"email": "ada@example.org", "email_verified": true, "groups": []string{"ops", "dev", "ops"},
	}
	maps.Copy(c, more)
	return c
}

func verifier(t *testing.T, p *provider, client *http.Client, now func() time.Time) *Verifier {
	t.Helper()
	v, err := New(Config{Issuer: p.url, ClientID: "agentctl", Client: client, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVerify(t *testing.T) {
	p, client := newProvider(t)
	v := verifier(t, p, client, time.Now)
	type more = map[string]any
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	cases := map[string]struct {
		claims more
		nonce  string
		user   string // "": refused
		groups []string
	}{
		"a verified email":             {nil, "n", "ada@example.org", []string{"dev", "ops"}},
		"verified in a text":           {more{"email_verified": "true"}, "n", "ada@example.org", []string{"dev", "ops"}},
		"an email that isn't verified": {more{"email_verified": false}, "n", "1234", []string{"dev", "ops"}},
		"an email of which isn't said": {more{"email_verified": nil}, "n", "1234", []string{"dev", "ops"}},
		"a subject like an email":      {more{"email": nil, "sub": "bob@example.org"}, "n", "sub:bob@example.org", []string{"dev", "ops"}},
		"a subject like a marked one":  {more{"email": nil, "sub": "sub:x"}, "n", "sub:sub:x", []string{"dev", "ops"}},
		"no groups":                    {more{"groups": nil}, "n", "ada@example.org", nil},
		"one group":                    {more{"groups": "ops"}, "n", "ada@example.org", []string{"ops"}},
		"groups that aren't names":     {more{"groups": more{"ops": true}}, "n", "", nil},
		"no nonce, none wanted":        {more{"nonce": nil}, "", "ada@example.org", []string{"dev", "ops"}},
		"a nonce, none wanted":         {nil, "", "", nil},
		"no nonce, one wanted":         {more{"nonce": nil}, "n", "", nil},
		"another nonce":                {nil, "m", "", nil},
		"another issuer":               {more{"iss": "https://other.example.org"}, "n", "", nil},
		"another audience":             {more{"aud": "other"}, "n", "", nil},
		"several audiences":            {more{"aud": []string{"agentctl", "other"}}, "n", "", nil},
		"and the right party":          {more{"aud": []string{"agentctl", "other"}, "azp": "agentctl"}, "n", "ada@example.org", []string{"dev", "ops"}},
		"and another party":            {more{"aud": []string{"agentctl", "other"}, "azp": "other"}, "n", "", nil},
		"another party alone":          {more{"azp": "other"}, "n", "", nil},
		"expired":                      {more{"exp": ago(time.Minute)}, "n", "", nil},
		"without an end":               {more{"exp": nil}, "n", "", nil},
		"old":                          {more{"iat": ago(20 * time.Minute)}, "n", "", nil},
		"of no time":                   {more{"iat": nil}, "n", "", nil},
		"of the future":                {more{"iat": ago(-10 * time.Minute)}, "n", "", nil},
		"not yet":                      {more{"nbf": ago(-10 * time.Minute)}, "n", "", nil},
		"nobody":                       {more{"sub": ""}, "n", "", nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			user, groups, err := v.Verify(t.Context(), p.sign(t, p.claims(c.claims)), c.nonce)
			if c.user == "" {
				if !errs.Is(err, errs.Unauthenticated) {
					t.Errorf("got %q, %v", user, err)
				}
				return
			}
			if err != nil || user != c.user || !slices.Equal(groups, c.groups) {
				t.Errorf("got %q %v, %v, want %q %v", user, groups, err, c.user, c.groups)
			}
		})
	}
	if p.discoveries != 1 {
		t.Errorf("the provider was asked for its metadata %d times", p.discoveries)
	}
}

func TestForgedTokens(t *testing.T) {
	p, client := newProvider(t)
	v := verifier(t, p, client, time.Now)
	good := p.sign(t, p.claims(nil))
	parts := strings.Split(good, ".")
	public, err := json.Marshal(jose.JSONWebKey{Key: p.keys[0].private.Public(), KeyID: "one"})
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"nothing":                    "",
		"no token":                   "x",
		"too long":                   strings.Repeat("x", maxToken+1),
		"no signature":               parts[0] + "." + parts[1] + ".",
		"alg none":                   "eyJhbGciOiJub25lIn0." + parts[1] + ".",
		"another key of the same id": sign(t, jose.ES256, newKey(t, "one").private, "one", p.claims(nil)),
		"a key that isn't published": sign(t, jose.ES256, newKey(t, "two").private, "two", p.claims(nil)),
		"signed with the public key": sign(t, jose.HS256, public, "one", p.claims(nil)),
		"other claims":               parts[0] + "." + parts[1][:len(parts[1])-4] + "AAAA." + parts[2],
	}
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			if user, _, err := v.Verify(t.Context(), token, "n"); !errs.Is(err, errs.Unauthenticated) {
				t.Errorf("got %q, %v", user, err)
			}
		})
	}
	if _, _, err := v.Verify(t.Context(), good, "n"); err != nil {
		t.Errorf("the true one: %v", err)
	}
}

func TestKeysThatAreRotatedAreRead(t *testing.T) {
	p, client := newProvider(t)
	v := verifier(t, p, client, time.Now)
	if _, _, err := v.Verify(t.Context(), p.sign(t, p.claims(nil)), "n"); err != nil {
		t.Fatal(err)
	}
	next := newKey(t, "two")
	p.set(func() { p.keys = append(p.keys, next) })
	if _, _, err := v.Verify(t.Context(), p.sign(t, p.claims(nil)), "n"); err != nil {
		t.Errorf("a new key: %v", err)
	}
	p.set(func() { p.keysDown = true })
	if _, _, err := v.Verify(t.Context(), p.sign(t, p.claims(nil)), "n"); err != nil {
		t.Errorf("a key that is known needs no provider: %v", err)
	}
	unknown := sign(t, jose.ES256, newKey(t, "three").private, "three", p.claims(nil))
	if _, _, err := v.Verify(t.Context(), unknown, "n"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("keys that can't be read: %v", err)
	}
}

func TestAProviderThatIsDownIsAskedAgain(t *testing.T) {
	p, client := newProvider(t)
	now := time.Now()
	v := verifier(t, p, client, func() time.Time { return now })
	p.set(func() { p.down = true })
	token := p.sign(t, p.claims(nil))
	for range 3 {
		if _, _, err := v.Verify(t.Context(), token, "n"); !errs.Is(err, errs.Unavailable) {
			t.Errorf("got %v", err)
		}
	}
	if p.discoveries != 1 {
		t.Errorf("asked %d times within the wait", p.discoveries)
	}
	p.set(func() { p.down = false })
	now = now.Add(retryAfter)
	if _, _, err := v.Verify(t.Context(), token, "n"); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestAProviderThatSaysItIsAnotherIsRefused(t *testing.T) {
	p, client := newProvider(t)
	p.set(func() { p.issuer = "https://other.example.org" })
	if _, _, err := verifier(t, p, client, time.Now).Verify(t.Context(), p.sign(t, p.claims(nil)), "n"); !errs.Is(err, errs.Unavailable) {
		t.Errorf("got %v", err)
	}
}
