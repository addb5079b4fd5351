package accessapi

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/directory"
	"github.com/agentry/agentry/controlplane/store/memstore"
	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const devSecret = "agt_0123456789abcdef0123456789abcdef"

// fakeProvider says yes to ID tokens that begin with "good".
type fakeProvider struct{}

func (fakeProvider) Verify(_ context.Context, idToken, nonce string) (string, []string, error) {
	if !strings.HasPrefix(idToken, "good.") || nonce != "n" {
		return "", nil, errs.New(errs.Unauthenticated, "the ID token doesn't hold")
	}
	return "ada", []string{"ops"}, nil
}

type labels map[string]map[string]string

func (l labels) AgentLabels(namespace, agent string) map[string]string {
	return l[namespace+"/"+agent]
}

type world struct {
	*Service

	t   *testing.T
	dir *directory.Directory
}

func newWorld(t *testing.T, provider bool) world {
	t.Helper()
	d, err := directory.Open(t.Context(), directory.Config{
		Store: memstore.New(), Logger: slog.New(slog.DiscardHandler), Now: time.Now, Dev: secret.NewValue(devSecret),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	cfg := Config{Directory: d, Labels: labels{"default/helper": {"team": "a"}}}
	if provider {
		cfg.Verifier, cfg.Provider = fakeProvider{}, Provider{Issuer: "https://id.example.org", ClientID: "agentctl", Scopes: []string{"openid"}}
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return world{Service: s, t: t, dir: d}
}

// by gives the context of a call with a bearer.
func (w world) by(bearer string) context.Context {
	w.t.Helper()
	who, err := w.dir.Authenticate(w.t.Context(), bearer)
	if err != nil {
		w.t.Fatal(err)
	}
	return access.With(w.t.Context(), who)
}

func (w world) dev() context.Context { return w.by(devSecret) }

// user gives the context of a user's calls.
func (w world) user(name string, groups ...string) context.Context {
	w.t.Helper()
	_, v, err := w.dir.CreateSession(w.t.Context(), directory.NewSession{User: name, Groups: groups})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.by(v.Reveal())
}

func (w world) bind(b access.Binding) {
	w.t.Helper()
	if err := w.dir.SetBinding(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
}

func req[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

func wantKind(t *testing.T, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("error %v, want kind %v", err, kind)
	}
}

func TestLoginAndLogout(t *testing.T) {
	w := newWorld(t, true)
	info, err := w.LoginInfo(t.Context(), req(&accessv1.LoginInfoRequest{}))
	if err != nil || info.Msg.GetIssuer() != "https://id.example.org" || info.Msg.GetClientId() != "agentctl" || info.Msg.GetBootstrap() {
		t.Errorf("login info %v, %v", info, err)
	}
	_, err = w.Login(t.Context(), req(&accessv1.LoginRequest{IdToken: "bad", Nonce: "n"}))
	wantKind(t, err, errs.Unauthenticated)
	resp, err := w.Login(t.Context(), req(&accessv1.LoginRequest{IdToken: "good.one.signature", Nonce: "n"}))
	if err != nil {
		t.Fatal(err)
	}
	m := resp.Msg
	if c := m.GetCaller(); c.GetName() != "user:ada" || c.GetKind() != "user" || !slices.Equal(c.GetGroups(), []string{"ops"}) || c.GetAdmin() {
		t.Errorf("caller %v", c)
	}
	if left := time.Until(m.GetExpires().AsTime()); left < 11*time.Hour || left > 12*time.Hour {
		t.Errorf("the session lasts %v", left)
	}
	_, err = w.Login(t.Context(), req(&accessv1.LoginRequest{IdToken: "good.one.another-spelling", Nonce: "n"}))
	wantKind(t, err, errs.Unauthenticated)
	ctx := w.by(m.GetToken())
	if _, err := w.Logout(ctx, req(&accessv1.LogoutRequest{})); err != nil {
		t.Fatal(err)
	}
	_, err = w.dir.Authenticate(t.Context(), m.GetToken())
	wantKind(t, err, errs.Unauthenticated)
	if _, err := w.Logout(ctx, req(&accessv1.LogoutRequest{})); err != nil {
		t.Errorf("again: %v", err)
	}
	_, err = w.Logout(w.dev(), req(&accessv1.LogoutRequest{}))
	wantKind(t, err, errs.Precondition)

	without := newWorld(t, false)
	_, err = without.Login(t.Context(), req(&accessv1.LoginRequest{IdToken: "good.one.signature", Nonce: "n"}))
	wantKind(t, err, errs.Precondition)
}

func TestBootstrap(t *testing.T) {
	w := newWorld(t, false)
	if _, err := w.dir.OfferBootstrap(t.Context(), secret.NewValue("agb_one-of-the-tokens")); err != nil {
		t.Fatal(err)
	}
	info, err := w.LoginInfo(t.Context(), req(&accessv1.LoginInfoRequest{}))
	if err != nil || !info.Msg.GetBootstrap() {
		t.Errorf("no token waits: %v", err)
	}
	_, err = w.Bootstrap(t.Context(), req(&accessv1.BootstrapRequest{BootstrapToken: "agb_another"}))
	wantKind(t, err, errs.Unauthenticated)
	resp, err := w.Bootstrap(t.Context(), req(&accessv1.BootstrapRequest{BootstrapToken: "agb_one-of-the-tokens"}))
	if err != nil {
		t.Fatal(err)
	}
	who, err := w.WhoAmI(w.by(resp.Msg.GetToken()), req(&accessv1.WhoAmIRequest{}))
	if err != nil || !who.Msg.GetCaller().GetAdmin() || len(who.Msg.GetBindings()) != 1 {
		t.Errorf("who am i: %v, %v", who, err)
	}
	_, err = w.Bootstrap(t.Context(), req(&accessv1.BootstrapRequest{BootstrapToken: "agb_one-of-the-tokens"}))
	wantKind(t, err, errs.Unauthenticated)
}

func TestNobodyWithoutALogin(t *testing.T) {
	w := newWorld(t, false)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"logout":         func() error { _, err := w.Logout(ctx, req(&accessv1.LogoutRequest{})); return err },
		"who am i":       func() error { _, err := w.WhoAmI(ctx, req(&accessv1.WhoAmIRequest{})); return err },
		"can i":          func() error { _, err := w.CanI(ctx, req(&accessv1.CanIRequest{Permission: "get"})); return err },
		"create token":   func() error { _, err := w.CreateToken(ctx, req(&accessv1.CreateTokenRequest{Name: "a"})); return err },
		"list tokens":    func() error { _, err := w.ListTokens(ctx, req(&accessv1.ListTokensRequest{})); return err },
		"revoke token":   func() error { _, err := w.RevokeToken(ctx, req(&accessv1.RevokeTokenRequest{Token: "a"})); return err },
		"set role":       func() error { _, err := w.SetRole(ctx, req(&accessv1.SetRoleRequest{})); return err },
		"delete role":    func() error { _, err := w.DeleteRole(ctx, req(&accessv1.DeleteRoleRequest{})); return err },
		"list bindings":  func() error { _, err := w.ListBindings(ctx, req(&accessv1.ListBindingsRequest{})); return err },
		"set binding":    func() error { _, err := w.SetBinding(ctx, req(&accessv1.SetBindingRequest{})); return err },
		"delete binding": func() error { _, err := w.DeleteBinding(ctx, req(&accessv1.DeleteBindingRequest{})); return err },
	} {
		if err := call(); !errs.Is(err, errs.Unauthenticated) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCanI(t *testing.T) {
	w := newWorld(t, false)
	w.bind(access.Binding{Name: "team", Namespace: "default", Role: "editor", Kind: "agent", Selector: []string{"team=a"}, Subjects: []string{"group:team-a"}})
	w.bind(access.Binding{Name: "all", Namespace: "other", Role: "viewer", Subjects: []string{"user:ada"}})
	ada := w.user("ada", "team-a")
	who, _ := access.From(ada)
	_, v, err := w.dir.CreateToken(t.Context(), who, directory.NewToken{Name: "ci", Scopes: []access.Scope{{Role: "viewer"}}})
	if err != nil {
		t.Fatal(err)
	}
	token := w.by(v.Reveal())
	by := map[string]context.Context{"ada": ada, "token": token, "dev": w.dev()}
	cases := map[string]struct {
		by     string
		ask    *accessv1.CanIRequest
		want   bool
		reason string
	}{
		"by a label":         {"ada", &accessv1.CanIRequest{Permission: "apply", Kind: "agent", Name: "helper"}, true, "binding team of namespace default gives role editor to group:team-a"},
		"by its permission":  {"ada", &accessv1.CanIRequest{Permission: "spec.write", Namespace: "default", Kind: "agent", Name: "helper"}, true, "binding team"},
		"without the label":  {"ada", &accessv1.CanIRequest{Permission: "apply", Kind: "agent", Name: "other"}, false, "no binding gives user:ada spec.write on agent default/other"},
		"on some":            {"ada", &accessv1.CanIRequest{Permission: "apply"}, false, "on some objects, but not on namespace default"},
		"nowhere":            {"ada", &accessv1.CanIRequest{Permission: "rollback"}, false, "no binding"},
		"another namespace":  {"ada", &accessv1.CanIRequest{Permission: "get", Namespace: "other"}, true, "binding all"},
		"the installation":   {"ada", &accessv1.CanIRequest{Permission: "get", Namespace: "*"}, false, "not on the installation"},
		"a token's scopes":   {"token", &accessv1.CanIRequest{Permission: "apply", Kind: "agent", Name: "helper"}, false, "scopes"},
		"a token's own part": {"token", &accessv1.CanIRequest{Permission: "get", Kind: "agent", Name: "helper"}, true, "binding team"},
		"the token file":     {"dev", &accessv1.CanIRequest{Permission: "access.write", Namespace: "*"}, true, "dev holds every permission"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			resp, err := w.CanI(by[c.by], req(c.ask))
			if err != nil || resp.Msg.GetAllowed() != c.want || !strings.Contains(resp.Msg.GetReason(), c.reason) {
				t.Errorf("got %v, %v", resp, err)
			}
		})
	}
	for name, ask := range map[string]*accessv1.CanIRequest{
		"a verb that isn't":     {Permission: "fly"},
		"nothing":               {},
		"a kind that isn't":     {Permission: "get", Kind: "agents"},
		"a name without a kind": {Permission: "get", Name: "x"},
	} {
		if _, err := w.CanI(ada, req(ask)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerbsArePermissions(t *testing.T) {
	known := access.Permissions()
	for verb, permission := range verbs() {
		if !slices.ContainsFunc(known, func(p access.Permission) bool { return p.Name == permission }) {
			t.Errorf("verb %s needs %s, which isn't there", verb, permission)
		}
	}
	covered := verbs()
	for _, p := range known {
		found := p.Instance
		for _, permission := range covered {
			found = found || permission == p.Name
		}
		if !found {
			t.Errorf("no verb for %s", p.Name)
		}
	}
}

func TestListPermissions(t *testing.T) {
	w := newWorld(t, false)
	resp, err := w.ListPermissions(w.user("ada"), req(&accessv1.ListPermissionsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*accessv1.Permission{}
	for _, p := range resp.Msg.GetPermissions() {
		found[p.GetName()] = p
	}
	if p := found["credential.use"]; !slices.Equal(p.GetRoles(), []string{"credential-user", "secret-writer", "admin"}) {
		t.Errorf("credential.use: %v", p)
	}
	if p := found["spec.write"]; !slices.Contains(p.GetMethods(), "agentry.spec.v1.SpecService/Apply") || !slices.Equal(p.GetRoles(), []string{"editor", "admin"}) {
		t.Errorf("spec.write: %v", p)
	}
	if p := found["config.stream"]; p == nil || len(p.GetRoles()) > 0 {
		t.Errorf("config.stream: %v", p)
	}
}

func TestTokens(t *testing.T) {
	w := newWorld(t, false)
	ada, bob, dev := w.user("ada"), w.user("bob"), w.dev()
	made, err := w.CreateToken(ada, req(&accessv1.CreateTokenRequest{
		Name: "ci", Ttl: durationpb.New(time.Hour), Scopes: []*accessv1.Scope{{Namespace: "default", Role: "viewer"}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	m := made.Msg.GetToken()
	if m.GetOwner() != "user:ada" || m.GetKind() != "api" || m.GetLastUsed() != nil || len(m.GetScopes()) != 1 || !strings.HasPrefix(made.Msg.GetSecret(), "agt_") {
		t.Errorf("token %v", m)
	}
	for _, ttl := range []time.Duration{-time.Second, 91 * 24 * time.Hour} {
		_, err := w.CreateToken(ada, req(&accessv1.CreateTokenRequest{Name: "x", Ttl: durationpb.New(ttl)}))
		wantKind(t, err, errs.Invalid)
	}
	names := func(ctx context.Context, all bool) []string {
		resp, err := w.ListTokens(ctx, req(&accessv1.ListTokensRequest{All: all}))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, tk := range resp.Msg.GetTokens() {
			if tk.GetKind() == "api" {
				out = append(out, tk.GetOwner()+" "+tk.GetName())
			}
		}
		return out
	}
	if got := names(ada, false); !slices.Equal(got, []string{"user:ada ci"}) {
		t.Errorf("ada's: %v", got)
	}
	if got := names(bob, false); got != nil {
		t.Errorf("bob's: %v", got)
	}
	if got := names(dev, true); !slices.Equal(got, []string{"user:ada ci"}) {
		t.Errorf("everybody's: %v", got)
	}
	_, err = w.ListTokens(bob, req(&accessv1.ListTokensRequest{All: true}))
	wantKind(t, err, errs.Denied)
	for _, by := range []string{m.GetId(), "ci", "nothing", ""} {
		_, err = w.RevokeToken(bob, req(&accessv1.RevokeTokenRequest{Token: by}))
		wantKind(t, err, errs.NotFound)
	}
	_, err = w.RevokeToken(dev, req(&accessv1.RevokeTokenRequest{Token: "ci"}))
	wantKind(t, err, errs.NotFound) // by name one's own only
	token := w.by(made.Msg.GetSecret())
	if got := names(token, false); !slices.Equal(got, []string{"user:ada ci"}) {
		t.Errorf("the token's: %v", got)
	}
	adaWho, _ := access.From(ada)
	_, err = w.RevokeToken(token, req(&accessv1.RevokeTokenRequest{Token: adaWho.TokenID}))
	wantKind(t, err, errs.NotFound) // a token doesn't end its owner's session
	if _, err := w.RevokeToken(ada, req(&accessv1.RevokeTokenRequest{Token: "ci"})); err != nil {
		t.Errorf("by name: %v", err)
	}
	bobWho, _ := access.From(bob)
	if _, err := w.RevokeToken(dev, req(&accessv1.RevokeTokenRequest{Token: bobWho.TokenID})); err != nil {
		t.Errorf("another's session by an administrator: %v", err)
	}
}

func TestBindings(t *testing.T) {
	w := newWorld(t, false)
	w.bind(access.Binding{Name: "root", Namespace: "*", Role: "admin", Subjects: []string{"group:roots"}})
	set := func(ctx context.Context, namespace string, b *accessv1.Binding) error {
		if len(b.GetSubjects()) == 0 {
			b.Subjects = []string{"user:eve"}
		}
		_, err := w.SetBinding(ctx, req(&accessv1.SetBindingRequest{Namespace: namespace, Binding: b}))
		return err
	}
	role := func(ctx context.Context, r *accessv1.Role) error {
		_, err := w.SetRole(ctx, req(&accessv1.SetRoleRequest{Role: r}))
		return err
	}
	root := w.user("root", "roots")
	if err := role(root, &accessv1.Role{Name: "lead", Permissions: []string{"access.*", "spec.*", "release.read"}, Description: "leads a team"}); err != nil {
		t.Fatal(err)
	}
	if err := set(root, "team", &accessv1.Binding{Name: "lead", Role: "lead", Subjects: []string{"user:lead"}}); err != nil {
		t.Fatal(err)
	}
	lead := w.user("lead")
	cases := map[string]struct {
		namespace string
		binding   *accessv1.Binding
		want      errs.Kind // Internal: allowed
	}{
		"what one holds":            {"team", &accessv1.Binding{Name: "a", Role: "viewer"}, errs.Internal},
		"on an object":              {"team", &accessv1.Binding{Name: "b", Role: "viewer", Kind: "agent", Object: "x*"}, errs.Internal},
		"one's own role":            {"team", &accessv1.Binding{Name: "c", Role: "lead"}, errs.Internal},
		"more":                      {"team", &accessv1.Binding{Name: "d", Role: "editor"}, errs.Denied},
		"everything":                {"team", &accessv1.Binding{Name: "e", Role: "admin"}, errs.Denied},
		"elsewhere":                 {"other", &accessv1.Binding{Name: "f", Role: "viewer"}, errs.Denied},
		"everywhere":                {"*", &accessv1.Binding{Name: "g", Role: "viewer"}, errs.Denied},
		"by another name":           {"team", &accessv1.Binding{Name: "h", Namespace: "*", Role: "viewer"}, errs.Invalid},
		"a role that isn't":         {"team", &accessv1.Binding{Name: "i", Role: "gone"}, errs.Invalid},
		"a condition that is wrong": {"team", &accessv1.Binding{Name: "j", Role: "viewer", Condition: "x"}, errs.Invalid},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			err := set(lead, c.namespace, c.binding)
			if c.want == errs.Internal {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantKind(t, err, c.want)
		})
	}
	wantKind(t, role(lead, &accessv1.Role{Name: "lead", Permissions: []string{"*"}}), errs.Denied)
	wantKind(t, role(root, &accessv1.Role{Name: "viewer", Permissions: []string{"*"}}), errs.Precondition)
	// Who may write access everywhere but holds nothing else can't make a role of it.
	if err := role(root, &accessv1.Role{Name: "clerk", Permissions: []string{"access.*"}}); err != nil {
		t.Fatal(err)
	}
	if err := set(root, "*", &accessv1.Binding{Name: "clerk", Role: "clerk", Subjects: []string{"user:clerk"}}); err != nil {
		t.Fatal(err)
	}
	clerk := w.user("clerk")
	wantKind(t, role(clerk, &accessv1.Role{Name: "clerk", Permissions: []string{"*"}}), errs.Denied)
	wantKind(t, set(clerk, "*", &accessv1.Binding{Name: "x", Role: "admin", Subjects: []string{"user:clerk"}}), errs.Denied)

	list := func(ctx context.Context, r *accessv1.ListBindingsRequest) []string {
		resp, err := w.ListBindings(ctx, req(r))
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, b := range resp.Msg.GetBindings() {
			out = append(out, b.GetNamespace()+"/"+b.GetName())
		}
		return out
	}
	if got := list(root, &accessv1.ListBindingsRequest{AllNamespaces: true}); !slices.Equal(got, []string{"*/clerk", "*/root", "team/a", "team/b", "team/c", "team/lead"}) {
		t.Errorf("all: %v", got)
	}
	if got := list(lead, &accessv1.ListBindingsRequest{AllNamespaces: true}); !slices.Equal(got, []string{"team/a", "team/b", "team/c", "team/lead"}) {
		t.Errorf("the lead's: %v", got)
	}
	if got := list(w.user("nobody"), &accessv1.ListBindingsRequest{AllNamespaces: true}); got != nil {
		t.Errorf("nobody's: %v", got)
	}
	if got := list(root, &accessv1.ListBindingsRequest{Namespace: "*"}); !slices.Equal(got, []string{"*/clerk", "*/root"}) {
		t.Errorf("of the installation: %v", got)
	}
	remove := func(ctx context.Context, namespace, name string) error {
		_, err := w.DeleteBinding(ctx, req(&accessv1.DeleteBindingRequest{Namespace: namespace, Name: name}))
		return err
	}
	wantKind(t, remove(lead, "*", "root"), errs.Denied)
	wantKind(t, remove(lead, "team", "gone"), errs.NotFound)
	if err := remove(lead, "team", "a"); err != nil {
		t.Error(err)
	}
	_, err := w.DeleteRole(root, req(&accessv1.DeleteRoleRequest{Name: "lead"}))
	wantKind(t, err, errs.Precondition)
	roles, err := w.ListRoles(lead, req(&accessv1.ListRolesRequest{}))
	if err != nil || len(roles.Msg.GetRoles()) != len(access.BuiltIn())+2 {
		t.Errorf("roles %v, %v", roles, err)
	}
}
