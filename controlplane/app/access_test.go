package app

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	auditv1 "github.com/agentry/agentry/gen/agentry/audit/v1"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
)

func TestAccessFlags(t *testing.T) {
	yes, no := true, false
	with := func(f func(*Access)) Access {
		a := accessDefaults()
		f(&a)
		return a
	}
	cases := map[string]struct {
		args  []string
		want  Access
		fault string
		dev   bool
	}{
		"defaults":          {nil, accessDefaults(), "", true},
		"behind TLS":        {[]string{"--people-tls-cert", "c", "--people-tls-key", "k"}, accessDefaults(), "", false},
		"wanted behind TLS": {[]string{"--people-tls-cert", "c", "--people-tls-key", "k", "--dev-token"}, with(func(a *Access) { a.DevToken = &yes }), "", true},
		"not wanted":        {[]string{"--dev-token=false"}, with(func(a *Access) { a.DevToken = &no }), "", false},
		"a provider": {
			[]string{"--oidc-issuer", "https://id.example.org", "--oidc-client-id", "agentctl", "--oidc-scopes", "openid, groups", "--oidc-groups-claim", "roles"},
			Access{OIDCIssuer: "https://id.example.org", OIDCClientID: "agentctl", OIDCScopes: []string{"openid", "groups"}, OIDCGroupsClaim: "roles"},
			"", true,
		},
		"a provider of this machine": {
			[]string{"--oidc-issuer", "http://127.0.0.1:9/x", "--oidc-client-id", "c"},
			with(func(a *Access) { a.OIDCIssuer, a.OIDCClientID = "http://127.0.0.1:9/x", "c" }), "", true,
		},
		"a provider without TLS":     {[]string{"--oidc-issuer", "http://id.example.org", "--oidc-client-id", "c"}, Access{}, "https", false},
		"a provider that is no URL":  {[]string{"--oidc-issuer", "id.example.org", "--oidc-client-id", "c"}, Access{}, "--oidc-issuer", false},
		"a provider without client":  {[]string{"--oidc-issuer", "https://id.example.org"}, Access{}, "--oidc-client-id", false},
		"scopes without openid":      {[]string{"--oidc-issuer", "https://id.example.org", "--oidc-client-id", "c", "--oidc-scopes", "email"}, Access{}, "openid", false},
		"a claim of nothing":         {[]string{"--oidc-issuer", "https://id.example.org", "--oidc-client-id", "c", "--oidc-groups-claim", ""}, Access{}, "--oidc-groups-claim", false},
		"neither wanted nor refused": {[]string{"--dev-token=perhaps"}, Access{}, "dev-token", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := ParseConfig(append([]string{"--data-dir", "/d"}, c.args...), env(), &bytes.Buffer{})
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Access); diff != "" || got.devToken() != c.dev {
				t.Errorf("token file counts: %v\n%s", got.devToken(), diff)
			}
		})
	}
}

// fakeProvider is an OIDC provider that signs what it is told to.
func fakeProvider(t *testing.T) (url string, sign func(claims map[string]any) string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": srv.URL, "jwks_uri": srv.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: private.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	return srv.URL, func(claims map[string]any) string {
		claims["iss"], claims["aud"] = srv.URL, "agentctl"
		claims["iat"], claims["exp"] = time.Now().Unix(), time.Now().Add(time.Hour).Unix()
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
}

// Without the token file: the bootstrap token makes the first administrator, who binds a group of the OIDC provider's to a role; its
// members log in and may what the role says, at once. A restart keeps all of it.
func TestTheRoadFromTheBootstrapTokenToALogin(t *testing.T) {
	issuer, sign := fakeProvider(t)
	dir := t.TempDir()
	flags := []string{"--dev-token=false", "--oidc-issuer", issuer, "--oidc-client-id", "agentctl"}
	p := start(t, dir, flags...)
	path := filepath.Join(dir, "data", "bootstrap-token")
	wait(t, func() bool { _, err := os.Stat(path); return err == nil })
	if _, err := os.Stat(filepath.Join(dir, "data", "token")); !os.IsNotExist(err) {
		t.Errorf("there is a token file all the same: %v", err)
	}
	as := func(token string) (accessv1connect.AccessServiceClient, specv1connect.SpecServiceClient) {
		return accessv1connect.NewAccessServiceClient(http.DefaultClient, p.info.People, bearer(token)),
			specv1connect.NewSpecServiceClient(http.DefaultClient, p.info.People, bearer(token))
	}
	nobody, _ := as("")
	_, err := nobody.WhoAmI(t.Context(), connect.NewRequest(&accessv1.WhoAmIRequest{}))
	wantCode(t, err, connect.CodeUnauthenticated)
	_, err = nobody.Bootstrap(t.Context(), connect.NewRequest(&accessv1.BootstrapRequest{BootstrapToken: "agb_wrong"}))
	wantCode(t, err, connect.CodeUnauthenticated)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(file))
	spent, err := nobody.Bootstrap(t.Context(), connect.NewRequest(&accessv1.BootstrapRequest{BootstrapToken: secret}))
	if err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { _, err := os.Stat(path); return os.IsNotExist(err) })
	admin, _ := as(spent.Msg.GetToken())

	login := func() (*accessv1.LoginResponse, error) {
		id := sign(map[string]any{"sub": "1", "email": "ada@example.org", "email_verified": true, "groups": []string{"ops"}, "nonce": "n"})
		resp, err := nobody.Login(t.Context(), connect.NewRequest(&accessv1.LoginRequest{IdToken: id, Nonce: "n"}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	session, err := login()
	if err != nil || session.GetCaller().GetName() != "user:ada@example.org" {
		t.Fatalf("login: %v, %v", session, err)
	}
	ada, adasSpecs := as(session.GetToken())
	list := func() error {
		_, err := adasSpecs.List(t.Context(), connect.NewRequest(&specv1.ListRequest{Namespace: "default", Kind: "agent"}))
		return err
	}
	wantCode(t, list(), connect.CodePermissionDenied)
	binding := &accessv1.Binding{Name: "ops", Role: "operator", Subjects: []string{"group:ops"}}
	if _, err := admin.SetBinding(t.Context(), connect.NewRequest(&accessv1.SetBindingRequest{Namespace: "default", Binding: binding})); err != nil {
		t.Fatal(err)
	}
	if err := list(); err != nil {
		t.Errorf("with the binding: %v", err)
	}
	_, err = ada.SetBinding(t.Context(), connect.NewRequest(&accessv1.SetBindingRequest{Namespace: "default", Binding: binding}))
	wantCode(t, err, connect.CodePermissionDenied)

	p.stop()
	p = start(t, dir, flags...)
	nobody, _ = as("")
	ada, adasSpecs = as(session.GetToken())
	if err := list(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a bootstrap token again: %v", err)
	}
	told := auditv1connect.NewAuditServiceClient(http.DefaultClient, p.info.People, bearer(spent.Msg.GetToken()))
	heard := map[string]bool{}
	wait(t, func() bool {
		resp, err := told.List(t.Context(), connect.NewRequest(&auditv1.ListRequest{AllNamespaces: true}))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range resp.Msg.GetEntries() {
			_, method, _ := strings.Cut(e.GetMethod(), "AccessService/")
			heard[e.GetType()+" "+method] = true
			if text := e.String(); strings.Contains(text, secret) || strings.Contains(text, session.GetToken()) || strings.Contains(text, spent.Msg.GetToken()) {
				t.Errorf("the audit log holds a token: %s", text)
			}
		}
		return heard["change Bootstrap"] && heard["unauthenticated Bootstrap"] && heard["change Login"] && heard["change SetBinding"] && heard["denied SetBinding"]
	})
	if _, err := ada.Logout(t.Context(), connect.NewRequest(&accessv1.LogoutRequest{})); err != nil {
		t.Fatal(err)
	}
	wantCode(t, list(), connect.CodeUnauthenticated)
}

func wantCode(t *testing.T, err error, code connect.Code) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != code {
		t.Errorf("error %v, want %v", err, code)
	}
}

// stop ends it as a signal does.
func (p *controlPlane) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	if err := p.wait(); err != nil {
		p.t.Fatalf("%v\n%s", err, p.out)
	}
}
