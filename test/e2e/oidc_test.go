package e2e

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	"github.com/agentry/agentry/test/harness"
)

const oidcDir = "../oidc"

// startProvider starts npm's oidc-provider and gives its issuer.
func startProvider(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("this test logs in at a real OpenID provider, which needs Node.js in PATH")
	}
	if _, err := os.Stat(filepath.Join(oidcDir, "node_modules", "oidc-provider")); err != nil {
		t.Fatal("no OpenID provider: run `make oidc-provider`, which runs npm ci in test/oidc")
	}
	cmd := exec.Command(node, "server.mjs")
	cmd.Dir, cmd.Stderr, cmd.Env = oidcDir, t.Output(), append(os.Environ(), "NODE_ENV=production")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the OpenID provider: %v", err)
		}
	})
	var said struct{ Issuer string }
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil || said.Issuer == "" {
		t.Fatalf("the OpenID provider said %q, %v", line, err)
	}
	return said.Issuer
}

// newOIDCWorld is a control plane at which people log in by a real provider.
func newOIDCWorld(t *testing.T) (w *world, issuer string) {
	t.Helper()
	issuer = startProvider(t)
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	return worldIn(t, env, "default: {text: hello}", "--oidc-issuer", issuer, "--oidc-client-id", "agentctl", "--oidc-scopes", "openid,email,groups", "--address-rate", "1000"), issuer
}

// twoAgents is two agents without tools.
func twoAgents() harness.Files {
	return harness.Files{
		"prompts/plain.json":      `{"promptKey": "plain", "version": "1.0.0", "template": "be helpful"}`,
		"weather/agent-base.json": `{"promptKey": "plain"}`,
		"weather/model.json":      `{"model": "scripted"}`,
		"finance/agent-base.json": `{"promptKey": "plain"}`,
		"finance/model.json":      `{"model": "scripted"}`,
	}
}

// whoAmI is the frozen JSON of `agentctl whoami -o json`.
type whoAmI struct {
	Name     string     `json:"name"`
	Kind     string     `json:"kind"`
	Groups   []string   `json:"groups"`
	Admin    bool       `json:"admin"`
	Expires  *time.Time `json:"expires"`
	Bindings []struct{ Name, Role string }
}

func (p person) whoAmI(t *testing.T) whoAmI {
	t.Helper()
	var who whoAmI
	if err := json.Unmarshal([]byte(p.ok(t, "whoami", "-o", "json")), &who); err != nil {
		t.Fatal(err)
	}
	return who
}

// login logs in by the code flow: the test is the browser.
func (p person) login(t *testing.T, user string) {
	t.Helper()
	proc := p.start(t, "login")
	page := browse(t, printed(t, proc, `\n  (http://\S+)\n`), user)
	if !strings.Contains(page, "You are logged in") {
		t.Errorf("the browser ended at\n%s", page)
	}
	if err := proc.Wait(15 * time.Second); err != nil {
		t.Fatalf("login: %v\n%s", err, proc.Output())
	}
}

// People log in by a real OpenID provider, in a browser and by a code, get what is bound to them and to their groups, and end their
// session at the control plane.
func TestPeopleLogInByOpenIDConnect(t *testing.T) {
	w, _ := newOIDCWorld(t)
	w.apply(t, twoAgents())
	ada := w.person(t, "ada", "")
	if out := ada.wants(t, 5, "whoami"); !strings.Contains(out.Stderr, "agentctl login") {
		t.Errorf("a stranger is told %q", out.Stderr)
	}

	ada.login(t, "ada")
	who := ada.whoAmI(t)
	if who.Name != "user:ada@example.org" || who.Kind != "user" || !slices.Equal(who.Groups, []string{"everyone", "weather-team"}) || who.Admin || len(who.Bindings) > 0 {
		t.Errorf("whoami: %+v", who)
	}
	if who.Expires == nil || time.Until(*who.Expires) > 12*time.Hour || time.Until(*who.Expires) < 11*time.Hour {
		t.Errorf("the session ends at %v", who.Expires)
	}
	ada.wants(t, 5, "get", "agent")
	ada.wants(t, 1, "can-i", "apply", "agent/weather")
	ada.login(t, "ada") // in the place of the first one, which nobody holds any more
	if out := ada.ok(t, "token", "list"); strings.Count(out, " session ") != 1 {
		t.Errorf("ada's sessions:\n%s", out)
	}

	// A binding on a group, at once and without another login.
	w.ctl(t, "binding", "set", "weather", "--role", "editor", "--subject", "group:weather-team", "--on", "agent/weather")
	if out := ada.wants(t, 0, "can-i", "apply", "agent/weather"); !strings.Contains(out.Stderr, "binding weather") || !strings.Contains(out.Stderr, "group:weather-team") {
		t.Errorf("can-i says %q", out.Stderr)
	}
	ada.wants(t, 1, "can-i", "apply", "agent/finance")
	if got := ada.ok(t, "get", "agent", "-q"); got != "agent/weather\n" {
		t.Errorf("ada sees %q", got)
	}
	ada.wants(t, 3, "get", "agent", "finance")

	// By a code, on a machine without a browser; the group that another login brings counts for nothing here.
	bob := w.person(t, "bob", "")
	proc := bob.start(t, "login", "--device")
	browse(t, printed(t, proc, `or open (http://\S+)`), "bob")
	if err := proc.Wait(20 * time.Second); err != nil {
		t.Fatalf("login --device: %v\n%s", err, proc.Output())
	}
	if who := bob.whoAmI(t); who.Name != "user:bob@example.org" || !slices.Equal(who.Groups, []string{"everyone"}) {
		t.Errorf("bob is %+v", who)
	}
	bob.wants(t, 1, "can-i", "get", "agent/weather")

	// An address that nobody verified makes nobody somebody.
	mallory := w.person(t, "mallory", "")
	mallory.login(t, "mallory")
	if who := mallory.whoAmI(t); who.Name != "user:mallory" {
		t.Errorf("mallory is %+v", who)
	}

	// Sessions lie in files for their owner alone, and in no output.
	session := filepath.Join(ada.home, "agentctl", "sessions", "default.session")
	info, err := os.Stat(session)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the session's file: %v, %v", info, err)
	}
	kept, err := os.ReadFile(session)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(kept))
	for name, text := range map[string]string{"the control plane's log": w.cp.Output(), "token list": w.ctl(t, "token", "list", "--all", "-o", "json"), "audit": w.ctl(t, "audit", "-A", "-o", "json")} {
		if strings.Contains(text, token) {
			t.Errorf("%s holds a session's token", name)
		}
	}
	if out := w.ctl(t, "token", "list", "--all"); strings.Count(out, "session") < 3 {
		t.Errorf("sessions:\n%s", out)
	}

	// Logging out ends it at the control plane: a copy that somebody took opens nothing.
	ada.ok(t, "logout")
	thief := w.person(t, "thief", "", "AGENTCTL_TOKEN="+token)
	thief.wants(t, 5, "whoami")
	ada.wants(t, 5, "whoami")
	if _, err := os.Stat(session); !os.IsNotExist(err) {
		t.Errorf("the session's file is still there: %v", err)
	}
}

// theNonce is what idToken begins its logins with.
const theNonce = "n-1"

// idToken logs in as user at the provider, as a client, and gives the ID token of it.
func idToken(t *testing.T, issuer, client, user string) string {
	t.Helper()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.URL.Query().Get("code")) }))
	defer back.Close()
	provider, err := oidc.NewProvider(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	cfg := oauth2.Config{ClientID: client, Endpoint: provider.Endpoint(), RedirectURL: back.URL + "/callback", Scopes: []string{"openid", "email", "groups"}}
	verifier := oauth2.GenerateVerifier()
	code := browse(t, cfg.AuthCodeURL("state", oidc.Nonce(theNonce), oauth2.S256ChallengeOption(verifier)), user)
	token, err := cfg.Exchange(t.Context(), code, oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	id, ok := token.Extra("id_token").(string)
	if !ok {
		t.Fatal("no ID token")
	}
	return id
}

// forged changes an ID token: its header and claims by edit, its signature by sign (nil: it stays).
func forged(t *testing.T, token string, edit func(header, claims map[string]any), sign func(signed string) string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	header, claims := map[string]any{}, map[string]any{}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	edit(header, claims)
	for i, from := range []map[string]any{header, claims} {
		raw, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		parts[i] = base64.RawURLEncoding.EncodeToString(raw)
	}
	if sign != nil {
		parts[2] = sign(parts[0] + "." + parts[1])
	}
	return strings.Join(parts, ".")
}

// ID tokens that don't hold log in nobody: every way in which one can be wrong, made from tokens of a real provider.
func TestIDTokensThatDoNotHold(t *testing.T) {
	w, issuer := newOIDCWorld(t)
	client := accessv1connect.NewAccessServiceClient(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+w.cp.People)
	login := func(token, nonce string) (*accessv1.LoginResponse, error) {
		resp, err := client.Login(t.Context(), connect.NewRequest(&accessv1.LoginRequest{IdToken: token, Nonce: nonce}))
		if err != nil {
			return nil, err
		}
		return resp.Msg, nil
	}
	good := idToken(t, issuer, "agentctl", "ada")
	if resp, err := login(good, theNonce); err != nil || resp.GetCaller().GetName() != "user:ada@example.org" {
		t.Fatalf("a token that holds: %v, %v", resp, err)
	}
	if _, err := login(good, theNonce); connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("the same token again: %v", err)
	}
	brief := idToken(t, issuer, "agentctl", "brief")
	if _, err := login(brief, theNonce); err != nil {
		t.Logf("the brief one was late already: %v", err)
	}
	pass(t, 2*time.Second)

	none := func(string) string { return "" }
	same := func(_, _ map[string]any) {}
	public := func(signed string) string { // the client's id, which everybody knows, taken for a shared key
		mac := hmac.New(sha256.New, []byte("agentctl"))
		_, _ = mac.Write([]byte(signed))
		return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	flipped := strings.Split(good, ".")[2]
	flipped = flipped[:20] + string(rune('A'+(flipped[20]-'A'+1)%26)) + flipped[21:]
	cases := map[string]struct{ token, nonce, why string }{
		"another audience":  {idToken(t, issuer, "another", "ada"), theNonce, "audience"},
		"expired":           {brief, theNonce, "expired"},
		"another nonce":     {good, "n-2", "nonce"},
		"no nonce":          {good, "", "nonce"},
		"another signature": {forged(t, good, same, func(string) string { return flipped }), theNonce, "signature"},
		"another user":      {forged(t, good, func(_, c map[string]any) { c["email"] = "root@example.org" }, nil), theNonce, "signature"},
		"no signature":      {forged(t, good, same, none), theNonce, "signature"},
		"alg none":          {forged(t, good, func(h, _ map[string]any) { h["alg"] = "none" }, none), theNonce, "algorithm"},
		"a shared key":      {forged(t, good, func(h, _ map[string]any) { h["alg"] = "HS256" }, public), theNonce, "algorithm"},
		"another issuer":    {forged(t, good, func(_, c map[string]any) { c["iss"] = "https://id.example.org" }, nil), theNonce, "signature"},
		"nothing":           {"", theNonce, ""},
		"not a token":       {"agt_0123456789", theNonce, ""},
	}
	for name, c := range cases {
		_, err := login(c.token, c.nonce)
		if connect.CodeOf(err) != connect.CodeUnauthenticated || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// That somebody tried is in the audit log, which counts repeats as one; no token of theirs is anywhere.
	var refused []auditEntry
	for _, e := range w.audited(t) {
		if e.Type == "unauthenticated" && strings.HasSuffix(e.Method, "/Login") {
			refused = append(refused, e)
		}
	}
	if len(refused) == 0 {
		t.Error("no refused login is in the audit log")
	}
	if text := fmt.Sprint(refused) + w.cp.Output(); strings.Contains(text, good) || strings.Contains(text, strings.Split(good, ".")[2]) {
		t.Error("an ID token is in the log")
	}
	// The provider's page that a browser is led to answers only to the login that it belongs to.
	eve := w.person(t, "eve", "")
	proc := eve.start(t, "login")
	address := printed(t, proc, `\n  (http://\S+)\n`)
	at := strings.ReplaceAll(strings.ReplaceAll(address[strings.Index(address, "redirect_uri=")+len("redirect_uri="):], "%3A", ":"), "%2F", "/")
	at, _, _ = strings.Cut(at, "&")
	if code, page, err := harness.Get(t.Context(), at+"?code=stolen&state=guessed"); err != nil || code != http.StatusBadRequest {
		t.Errorf("a guessed answer: %d %s, %v", code, page, err)
	}
	if !proc.Running() {
		t.Errorf("a guessed answer ended the login:\n%s", proc.Output())
	}
	proc.Kill()
}
