package app

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/accessapi"
	"github.com/agentry/agentry/controlplane/directory"
	"github.com/agentry/agentry/controlplane/oidclogin"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/secret"
)

// Access says how people prove who they are.
type Access struct {
	// DevToken says whether the token file counts, whose bearer is administrator; nil: exactly on a people door without TLS.
	DevToken *bool
	// OIDCIssuer and OIDCClientID name the provider by which people log in; empty: none.
	OIDCIssuer   string
	OIDCClientID string
	// OIDCGroupsClaim is the claim of ID tokens that holds a user's groups.
	OIDCGroupsClaim string
	// OIDCScopes are asked for at a login.
	OIDCScopes []string
}

func accessDefaults() Access {
	return Access{OIDCGroupsClaim: oidclogin.DefaultGroupsClaim, OIDCScopes: []string{"openid", "profile", "email"}}
}

func accessFlags(fs *flag.FlagSet, a *Access) {
	fs.BoolFunc("dev-token", "let the bearer of the token file in the data directory in as administrator; default: exactly on a people door without TLS", func(text string) error {
		on, err := strconv.ParseBool(text)
		a.DevToken = &on
		return err
	})
	fs.StringVar(&a.OIDCIssuer, "oidc-issuer", a.OIDCIssuer, "`URL` of the OIDC provider by which people log in; default: none")
	fs.StringVar(&a.OIDCClientID, "oidc-client-id", a.OIDCClientID, "`id` of the public client that agentctl is at the provider")
	fs.StringVar(&a.OIDCGroupsClaim, "oidc-groups-claim", a.OIDCGroupsClaim, "`claim` of ID tokens that holds a user's groups")
	fs.Func("oidc-scopes", "comma-separated `scopes` that a login asks for (default openid,profile,email)", func(text string) error {
		a.OIDCScopes = nil
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				a.OIDCScopes = append(a.OIDCScopes, s)
			}
		}
		return nil
	})
}

func (a Access) check(fault func(string, ...any)) {
	if (a.OIDCIssuer == "") != (a.OIDCClientID == "") {
		fault("--oidc-issuer and --oidc-client-id belong together")
	}
	if a.OIDCIssuer == "" {
		return
	}
	u, err := url.Parse(a.OIDCIssuer)
	switch {
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		fault("--oidc-issuer: %q is no URL of a provider", a.OIDCIssuer)
	case u.Scheme != "https" && (u.Scheme != "http" || !onThisMachine(u.Hostname())):
		fault("--oidc-issuer: %q must be https", a.OIDCIssuer)
	}
	if !slices.Contains(a.OIDCScopes, "openid") {
		fault("--oidc-scopes: openid must be among them")
	}
	if a.OIDCGroupsClaim == "" {
		fault("--oidc-groups-claim: must not be empty")
	}
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// devToken says whether the token file counts.
func (c Config) devToken() bool {
	if c.Access.DevToken != nil {
		return *c.Access.DevToken
	}
	return !c.PeopleTLS.on()
}

// openDirectory opens who may do what. The token file is read only where it counts.
func openDirectory(ctx context.Context, cfg Config, s store.Store, redact *secret.Redactor, log *slog.Logger) (*directory.Directory, error) {
	var dev secret.Value
	if cfg.devToken() {
		var err error
		if dev, err = access.LoadToken(filepath.Join(cfg.DataDir, "token")); err != nil {
			return nil, err
		}
		redact.Add(dev)
		if cfg.PeopleTLS.on() {
			log.LogAttrs(ctx, slog.LevelWarn, "the bearer of the token file is administrator on a door that others may reach: bind people to roles, and leave --dev-token out")
		}
	}
	return directory.Open(ctx, directory.Config{Store: s, Logger: log, Now: time.Now, Dev: dev})
}

// accessParts are what runs of it. Where the token file counts, nobody needs a bootstrap token.
func accessParts(cfg Config, d *directory.Directory, redact *secret.Redactor) []part {
	out := []part{{"access", d.Run}}
	if cfg.devToken() {
		return out
	}
	path := filepath.Join(cfg.DataDir, "bootstrap-token")
	return append(out, part{"bootstrap token", func(ctx context.Context) error {
		return d.KeepBootstrap(ctx, path, func(v secret.Value) { redact.Add(v) })
	}})
}

// mountAccess puts the service on the people door by which people log in and keep tokens, roles and bindings.
func mountAccess(p *people, in parts) error {
	cfg := accessapi.Config{Directory: in.directory, Labels: in.view}
	if a := in.cfg.Access; a.OIDCIssuer != "" {
		// What the provider's metadata leads to is guarded as all else that goes out; the provider itself is this process's own setting.
		out := egress.New(egress.Config{Policy: in.cfg.Egress.For("").WithURL(a.OIDCIssuer)})
		v, err := oidclogin.New(oidclogin.Config{
			Issuer: a.OIDCIssuer, ClientID: a.OIDCClientID, GroupsClaim: a.OIDCGroupsClaim, Client: out.HTTPClient(), Now: time.Now,
		})
		if err != nil {
			return fmt.Errorf("oidc: %w", err)
		}
		cfg.Verifier = v
		cfg.Provider = accessapi.Provider{Issuer: a.OIDCIssuer, ClientID: a.OIDCClientID, Scopes: a.OIDCScopes}
	}
	svc, err := accessapi.New(cfg)
	if err != nil {
		return err
	}
	p.handle(accessv1connect.NewAccessServiceHandler(svc, p.opts...))
	return nil
}
