package command

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
)

const (
	// loginWait is how long a person may take.
	loginWait = 5 * time.Minute
	// providerDeadline bounds one exchange with the provider.
	providerDeadline = 20 * time.Second
)

// provider is the OIDC provider that the control plane names. The control plane verifies what it answers: agentctl only carries it.
type provider struct{ config oauth2.Config }

// newProvider discovers the endpoints.
func newProvider(ctx context.Context, info *accessv1.LoginInfoResponse) (*provider, error) {
	discover, cancel := context.WithTimeout(withClient(ctx), providerDeadline)
	defer cancel()
	found, err := oidc.NewProvider(discover, info.GetIssuer())
	if err != nil {
		return nil, failf(exitUnreachable, "is it up, and reachable from here?", "OIDC provider %s: %w", info.GetIssuer(), err)
	}
	return &provider{config: oauth2.Config{ClientID: info.GetClientId(), Endpoint: found.Endpoint(), Scopes: info.GetScopes()}}, nil
}

// withClient gives the HTTP client of the OIDC libraries: bounded, without redirects to elsewhere.
func withClient(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, &http.Client{
		Timeout:       providerDeadline,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
}

// byBrowser is the authorization code flow with PKCE (RFC 7636), answered on a loopback port (RFC 8252).
func (p *provider) byBrowser(ctx context.Context, c *cli) (idToken, nonce string, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	p.config.RedirectURL = "http://" + ln.Addr().String() + "/callback"
	state, nonce, verifier := random(), random(), oauth2.GenerateVerifier()
	answers := make(chan answer, 1)
	srv := &http.Server{Handler: callback(state, answers), ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // the browser still reads its page
		defer cancel()
		if srv.Shutdown(stop) != nil {
			_ = srv.Close()
		}
		<-served
	}()
	c.note("Open this address in a browser to log in:\n\n  %s\n", p.config.AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(verifier)))
	select {
	case a := <-answers:
		if a.err != nil {
			return "", "", failf(exitPermission, "", "log in: %w", a.err)
		}
		idToken, err = p.exchange(ctx, a.code, verifier)
		return idToken, nonce, err
	case err := <-served:
		served <- err
		return "", "", err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return "", "", fmt.Errorf("log in: %w", ctx.Err())
		}
		return "", "", failf(exitTimeout, "try again, or use --device", "nobody logged in within %s", loginWait)
	}
}

func (p *provider) exchange(ctx context.Context, code, verifier string) (string, error) {
	ctx, cancel := context.WithTimeout(withClient(ctx), providerDeadline)
	defer cancel()
	token, err := p.config.Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return "", refused(err)
	}
	return idTokenOf(token)
}

// byDevice is the device flow (RFC 8628). It has no nonce: the code is bound to this call instead.
func (p *provider) byDevice(ctx context.Context, c *cli) (string, error) {
	if p.config.Endpoint.DeviceAuthURL == "" {
		return "", failf(exitUsage, "log in without --device", "the OIDC provider has no device flow")
	}
	ctx, cancel := context.WithTimeout(withClient(ctx), loginWait)
	defer cancel()
	asked, err := p.config.DeviceAuth(ctx)
	if err != nil {
		return "", refused(err)
	}
	c.note("Open %s and enter the code %s", asked.VerificationURI, asked.UserCode)
	if asked.VerificationURIComplete != "" {
		c.note("or open %s", asked.VerificationURIComplete)
	}
	token, err := p.config.DeviceAccessToken(ctx, asked)
	late := (*oauth2.RetrieveError)(nil)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "", fmt.Errorf("log in: %w", ctx.Err())
	case ctx.Err() != nil || (errors.As(err, &late) && late.ErrorCode == "expired_token"):
		return "", failf(exitTimeout, "try again", "nobody entered the code in time")
	case err != nil:
		return "", refused(err)
	}
	return idTokenOf(token)
}

// refused tells a provider that says no from one that isn't reached.
func refused(err error) error {
	if gone := (*url.Error)(nil); errors.As(err, &gone) {
		return failf(exitUnreachable, "is the OIDC provider up, and reachable from here?", "log in: %w", err)
	}
	return failf(exitPermission, "", "log in: %w", err)
}

func idTokenOf(t *oauth2.Token) (string, error) {
	id, ok := t.Extra("id_token").(string)
	if !ok || id == "" {
		return "", failf(exitPermission, "the control plane's --oidc-scopes must contain openid", "the OIDC provider answered no ID token")
	}
	return id, nil
}

// answer is what the browser brought back.
type answer struct {
	code string
	err  error
}

// callback takes the one answer that carries the state; everything else is told to go away.
func callback(state string, to chan<- answer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("state") != state {
			http.Error(w, "this is not the answer to the login that agentctl began", http.StatusBadRequest)
			return
		}
		a, text := answer{code: q.Get("code")}, "You are logged in. This page can be closed."
		switch {
		case q.Get("error") != "":
			a.err = fmt.Errorf("the provider says %s: %s", q.Get("error"), q.Get("error_description"))
			text = "You are not logged in; agentctl says why."
		case a.code == "":
			a.err = errors.New("the provider answered no code")
			text = "You are not logged in; agentctl says why."
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(text + "\n"))
		select {
		case to <- a:
		default: // a page that was loaded twice
		}
	})
	return mux
}

func random() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
