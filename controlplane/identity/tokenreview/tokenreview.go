// Package tokenreview asks a Kubernetes API whose service account token it was shown (authentication.k8s.io/v1 TokenReview), so that
// pods enroll with the tokens that the cluster projects into them. App plugs it into package identityapi. It keeps no token.
package tokenreview

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// timeout bounds one review, maxAnswer its answer.
const (
	timeout   = 5 * time.Second
	maxAnswer = 1 << 20
	path      = "/apis/authentication.k8s.io/v1/tokenreviews"
	userMark  = "system:serviceaccount:"
)

// Config is what New needs.
type Config struct {
	// URL of the API server, https.
	URL string
	// CA is PEM; empty: the system's roots.
	CA []byte
	// Token gives the bearer that may create TokenReviews; nil: none is sent.
	Token func() (secret.Value, error)
	// Audience that tokens must be for. Required.
	Audience string
	// Map is a JSON object from "namespace/serviceaccount" to "namespace/agent". Empty: a service account is the agent of its name, in
	// the namespace of its name. With a map, who isn't in it is nobody.
	Map []byte
}

// Reviewer checks tokens. It is safe for concurrent use.
type Reviewer struct {
	cfg    Config
	url    string
	agents map[string]string // nil: by name
	client *http.Client
}

// New makes a Reviewer.
func New(cfg Config) (*Reviewer, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errs.New(errs.Invalid, "kubernetes API: %q is no https URL", cfg.URL)
	}
	if cfg.Audience == "" {
		return nil, errs.New(errs.Invalid, "kubernetes API: an audience is required")
	}
	r := &Reviewer{cfg: cfg, url: strings.TrimSuffix(cfg.URL, "/") + path}
	if len(cfg.Map) > 0 {
		if err := json.Unmarshal(cfg.Map, &r.agents); err != nil || r.agents == nil {
			return nil, errs.New(errs.Invalid, "kubernetes map: want {\"namespace/serviceaccount\": \"namespace/agent\"}")
		}
		for account, agent := range r.agents {
			if strings.Count(account, "/") != 1 || strings.Count(agent, "/") != 1 {
				return nil, errs.New(errs.Invalid, "kubernetes map: %q: %q", account, agent)
			}
		}
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(cfg.CA) > 0 {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, errs.New(errs.Invalid, "kubernetes API: the CA file holds no certificate")
		}
	}
	r.client = &http.Client{
		Transport: &http.Transport{TLSClientConfig: t, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute},
		// An API server doesn't redirect, and the token goes to nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       timeout,
	}
	return r, nil
}

// review is the part of a TokenReview that counts.
type review struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	Spec       reviewSpec   `json:"spec"`
	Status     reviewStatus `json:"status,omitzero"`
}

type reviewSpec struct {
	Token     string   `json:"token"`
	Audiences []string `json:"audiences"`
}

type reviewStatus struct {
	Authenticated bool     `json:"authenticated"`
	Audiences     []string `json:"audiences,omitempty"`
	Error         string   `json:"error,omitempty"`
	User          struct {
		Username string `json:"username"`
	} `json:"user,omitzero"`
}

// Attest says which agent a service account is. A token that doesn't hold, or isn't for our audience, is errs.Unauthenticated; an API
// that can't be asked errs.Unavailable.
func (r *Reviewer) Attest(ctx context.Context, token secret.Value) (identity.Attested, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, err := r.ask(ctx, token)
	switch {
	case err != nil:
		return identity.Attested{}, err
	case !status.Authenticated:
		return identity.Attested{}, errs.New(errs.Unauthenticated, "kubernetes doesn't know the token: %s", status.Error)
	case !slices.Contains(status.Audiences, r.cfg.Audience): // an API server that knows no audiences answers none
		return identity.Attested{}, errs.New(errs.Unauthenticated, "the token is not for %q", r.cfg.Audience)
	}
	account, ok := strings.CutPrefix(status.User.Username, userMark)
	namespace, name, two := strings.Cut(account, ":")
	if !ok || !two || strings.Contains(name, ":") {
		return identity.Attested{}, errs.New(errs.Unauthenticated, "%q is no service account", status.User.Username)
	}
	if r.agents != nil {
		to, known := r.agents[namespace+"/"+name]
		if !known {
			return identity.Attested{}, errs.New(errs.Unauthenticated, "service account %s/%s is no agent by the map", namespace, name)
		}
		namespace, name, _ = strings.Cut(to, "/")
	}
	return identity.Attested{Namespace: namespace, Agent: name, Proof: identity.ByKubernetes, Made: madeAt(token)}, nil
}

// madeAt reads when a token was made, which the API server vouched for as a whole; zero: it doesn't say.
func madeAt(token secret.Value) time.Time {
	part := strings.Split(token.Reveal(), ".")
	if len(part) != 3 {
		return time.Time{}
	}
	var claims struct {
		IssuedAt int64 `json:"iat"`
	}
	b, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil || json.Unmarshal(b, &claims) != nil || claims.IssuedAt <= 0 {
		return time.Time{}
	}
	return time.Unix(claims.IssuedAt, 0)
}

func (r *Reviewer) ask(ctx context.Context, token secret.Value) (_ reviewStatus, err error) {
	body, err := json.Marshal(review{
		APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview",
		Spec: reviewSpec{Token: token.Reveal(), Audiences: []string{r.cfg.Audience}},
	})
	if err != nil {
		return reviewStatus{}, fmt.Errorf("token review: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return reviewStatus{}, fmt.Errorf("token review: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	if r.cfg.Token != nil {
		own, err := r.cfg.Token()
		if err != nil {
			return reviewStatus{}, errs.New(errs.Unavailable, "token review: own token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(own.Reveal()))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return reviewStatus{}, errs.New(errs.Unavailable, "token review: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return reviewStatus{}, errs.New(errs.Unavailable, "token review: %w", err)
	}
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		return reviewStatus{}, errs.New(errs.Unavailable, "token review: the API answers %s", resp.Status)
	}
	var out review
	if err := json.Unmarshal(answer, &out); err != nil || out.Kind != "TokenReview" {
		return reviewStatus{}, errs.New(errs.Unavailable, "token review: the API answers something else")
	}
	return out.Status, nil
}

// Close ends idle connections.
func (r *Reviewer) Close() { r.client.CloseIdleConnections() }
