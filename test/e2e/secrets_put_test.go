package e2e

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	accessv1 "github.com/agentry/agentry/gen/agentry/access/v1"
	"github.com/agentry/agentry/gen/agentry/access/v1/accessv1connect"
	registryv1 "github.com/agentry/agentry/gen/agentry/registry/v1"
	"github.com/agentry/agentry/gen/agentry/registry/v1/registryv1connect"
	"github.com/agentry/agentry/test/harness"
)

// putSpecs applies a set with secrets in every place that takes one.
func (w *secretsWorld) putSpecs() {
	s := w.s
	quote := func(v string) string { b, _ := json.Marshal(v); return string(b) }
	sum := sha256.Sum256([]byte(s["memory"]))
	redis := harness.StartRedis(w.t, harness.RedisOptions{ACL: []string{"u on #" + hex.EncodeToString(sum[:]) + " ~* &* +@all"}})
	set := harness.Files{
		"helper/agent-base.json": `{"promptKey": "helper"}`,
		"helper/model.json": `{"model": "scripted", "baseUrl": ` + quote(w.url) + `, "apiKey": ` + quote(s["model key"]) +
			`, "headers": {"X-Model": ` + quote(s["model header"]) + `}}`,
		"helper/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": ` + quote(s["header"]) +
			`, "X-Shared": "${credential:shared}", "X-Bound": {"credentialRef": "bound"}}, "queryParams": {"key": ` + quote(s["query"]) + `}}]}`,
		"helper/memory.json":  `{"storageType": "redis", "address": ` + quote(redis.Addr) + `, "credential": ` + quote(`{"username":"u","password":`+quote(s["memory"])+`}`) + `}`,
		"prompts/helper.json": `{"promptKey": "helper", "version": "1.0.0", "template": "be helpful"}`,
		"mcp/tools.json":      `{"name": "tools", "endpoint": ` + quote(w.stub.URL) + `}`,
		"credentials.yaml":    "kind: Credential\nmetadata: {name: shared}\nspec: {value: " + quote(s["credential"]) + "}\n",
		"bound.yaml": "kind: Credential\nmetadata: {name: bound}\nspec: {value: " + quote(s["bound"]) +
			", allowedOrigins: [" + quote(strings.TrimSuffix(w.stub.URL, "/mcp")) + "]}\n",
	}
	dir := filepath.Join(w.inputs, "set")
	if err := set.WriteTo(dir); err != nil {
		w.t.Fatal(err)
	}
	w.say(false, "validate", "-f", dir)
	w.say(false, "apply", "-f", dir, "--dry-run=server")
	w.say(false, "apply", "-f", dir)
	// What is refused is told about: broken JSON, and a bound credential that would go elsewhere.
	broken := strings.Replace(set["helper/model.json"], `, "apiKey"`, ` "apiKey"`, 1)
	if err := (harness.Files{"helper/model.json": broken}).WriteTo(filepath.Join(w.inputs, "broken")); err != nil {
		w.t.Fatal(err)
	}
	w.say(true, "apply", "-f", filepath.Join(w.inputs, "broken"))
	w.say(true, "validate", "-f", filepath.Join(w.inputs, "broken"))
	set["mcp/tools.json"] = `{"name": "tools", "endpoint": "https://elsewhere.example.org/mcp"}`
	set["credentials.yaml"] = "kind: Credential\nmetadata: {name: shared}\nspec: {value: " + quote(s["refused"]) + "}\n"
	if err := set.WriteTo(filepath.Join(w.inputs, "elsewhere")); err != nil {
		w.t.Fatal(err)
	}
	w.say(true, "apply", "-f", filepath.Join(w.inputs, "elsewhere"))
}

// putCredentials writes credentials without a spec: by agentctl from a file and from standard input, and by the API.
func (w *secretsWorld) putCredentials() {
	w.say(false, "credential", "create", "filed", "--from-file", w.input("filed", w.s["from a file"]))
	w.say(false, "credential", "rotate", "filed", "--from-file", w.input("rotated", w.s["rotated"]), "--message", "why not")
	w.say(true, "credential", "create", "filed", "--from-file", w.input("refused", w.s["refused"]))
	piper := w.person(w.t, "piper", "", "AGENTRY_TOKEN_FILE="+w.cp.TokenFile())
	for _, word := range []string{"create", "rotate"} {
		out := piper.run(w.t, w.s["piped"]+"\n", "credential", word, "piped", "-o", "json")
		if out.Code != 0 {
			w.t.Errorf("credential %s: %+v", word, out)
		}
		w.printed.WriteString(out.Stdout + out.Stderr)
	}
	client := registryv1connect.NewCredentialServiceClient(http.DefaultClient, "http://"+w.cp.People)
	req := connect.NewRequest(&registryv1.CreateRequest{Name: "called", Value: []byte(w.s["by the API"]), AllowedOrigins: []string{"https://api.example.org"}})
	dev, err := w.cp.Token()
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header().Set("Authorization", "Bearer "+dev)
	if _, err := client.Create(w.t.Context(), req); err != nil {
		w.t.Error(err)
	}
	w.say(false, "credential", "reseal")
}

// startAgents starts one that joins by a token, one by Kubernetes and one by a certificate, and sees that what they are handed arrives.
func (w *secretsWorld) startAgents(projected string) {
	t := w.t
	spent, err := w.cp.JoinToken(t.Context(), "default", "helper")
	if err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "spent join token", "", joinSecret(spent))
	roots := "AGENTD_ROOTS_FILE=" + w.roots()
	leaf, err := w.company.Agent("default", "helper", "")
	if err != nil {
		t.Fatal(err)
	}
	certs, err := x509.ParseCertificates(slices.Concat(leaf.Chain...))
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	w.h.key(t, "key of a company certificate", "", der)
	proofs := map[string][]string{
		"joined":        {"AGENTD_JOIN_TOKEN=" + spent},
		"in-kubernetes": {"AGENTD_KUBERNETES_TOKEN_FILE=" + w.input("projected", projected), roots},
		"certified": {
			"AGENTD_X509POP_CERT=" + pemFile(t, w.inputs, "cert.pem", certs...), roots,
			"AGENTD_X509POP_KEY=" + w.input("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
		},
	}
	for id, vars := range proofs {
		a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Instance: id, Vars: vars})
		if err != nil {
			t.Fatal(err)
		}
		if err := a.WaitReady(t.Context(), 30*time.Second); err != nil {
			t.Fatalf("%v\n%s", err, a.Output())
		}
		w.agents = append(w.agents, a)
	}
	if _, err := w.agents[0].Chat(t.Context(), "s1", "call alpha"); err != nil {
		t.Fatal(err)
	}
	s := w.s
	seen := w.model.Requests()
	if len(seen) == 0 || seen[0].Key != s["model key"] || seen[0].Header.Get("X-Model") != s["model header"] {
		t.Errorf("the model key or header did not arrive: %d requests", len(seen))
	}
	calls := w.stub.Calls()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	if h := calls[0].Headers; h.Get("X-Key") != s["header"] || h.Get("X-Shared") != s["credential"] || h.Get("X-Bound") != s["bound"] {
		t.Error("the MCP headers did not arrive")
	}
	if q, err := url.ParseQuery(calls[0].Query); err != nil || q.Get("key") != s["query"] {
		t.Error("the MCP query parameter did not arrive")
	}
	if _, err := w.cp.Enroll(t.Context(), spent, "default", "helper", "late"); err == nil {
		t.Error("a join token counts twice")
	}
}

// roots writes the root that the runtime door's certificate leads to.
func (w *secretsWorld) roots() string {
	w.t.Helper()
	var shown []*x509.Certificate
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // it is how the root is read
		NextProtos:         []string{"h2"},
		VerifyConnection:   func(cs tls.ConnectionState) error { shown = cs.PeerCertificates; return nil },
	}}
	conn, err := dialer.DialContext(w.t.Context(), "tcp", w.cp.Runtime)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = conn.Close()
	return pemFile(w.t, w.inputs, "roots.pem", shown[len(shown)-1])
}

// joinSecret is a join token without the pin of the root, which is no secret.
func joinSecret(token string) string {
	text, _, _ := strings.Cut(token, ".")
	return text
}

// putTokens has tokens made and used, by people who log in and out.
func (w *secretsWorld) putTokens() {
	t := w.t
	_, api := w.token(t, "ci")
	w.h.text(t, "API token", "", api)
	ada := w.person(t, "ada", "")
	for _, c := range []struct {
		stdin string
		args  []string
	}{{api + "\n", []string{"login", "--with-token"}}, {"", []string{"whoami", "-o", "json"}}, {"", []string{"token", "list", "-o", "json"}}, {"", []string{"logout"}}} {
		out := ada.run(t, c.stdin, c.args...)
		if out.Code != 0 {
			t.Errorf("agentctl %v: %+v", c.args, out)
		}
		w.printed.WriteString(out.Stdout + out.Stderr)
	}
	var join struct{ Secret string }
	if err := json.Unmarshal([]byte(w.ctl(t, "identity", "join-token", "create", "helper", "-o", "json")), &join); err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "join token", "", joinSecret(join.Secret))

	id := idToken(t, w.issuer, "agentctl", "ada")
	w.h.text(t, "ID token", "", id[strings.LastIndexByte(id, '.')+1:])
	client := accessv1connect.NewAccessServiceClient(http.DefaultClient, "http://"+w.cp.People)
	login := func(nonce string) (string, error) {
		resp, err := client.Login(t.Context(), connect.NewRequest(&accessv1.LoginRequest{IdToken: id, Nonce: nonce}))
		if err != nil {
			w.printed.WriteString(err.Error())
			return "", err
		}
		return resp.Msg.GetToken(), nil
	}
	if _, err := login("another"); err == nil {
		t.Error("an ID token counts with another nonce")
	}
	session, err := login(theNonce)
	if err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "session", "", session)
	out := w.person(t, "ada", "", "AGENTCTL_TOKEN="+session).wants(t, 0, "whoami", "-o", "json")
	w.printed.WriteString(out.Stdout + out.Stderr)
}

// firstAdministrator has another control plane's bootstrap token spent.
func (w *secretsWorld) firstAdministrator() *harness.ControlPlane {
	t := w.t
	env, err := harness.New(binDir, w.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.LogLevel = "debug"
	if err := env.UseCA(); err != nil {
		t.Fatal(err)
	}
	w.keyPEM("key of the authority in files", env.CAKey)
	cp, err := env.StartControlPlane(t.Context(), "--dev-token=false")
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(bootstrapFile(t, cp.DataDir))
	w.h.text(t, "bootstrap token", "", token)
	eve := w.person(t, "eve", "http://"+cp.People)
	if out := eve.run(t, token, "login", "--bootstrap"); out.Code != 0 {
		t.Fatalf("login --bootstrap: %+v\n%s", out, cp.Output())
	}
	file := filepath.Join("home-eve", "agentctl", "sessions", "default.session")
	if found, _ := filepath.Glob(filepath.Join(eve.home, "*", "sessions", "*")); len(found) == 1 {
		file, _ = filepath.Rel(w.Dir, found[0])
	}
	b, err := os.ReadFile(filepath.Join(w.Dir, file))
	if err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "administrator's session", file, strings.TrimSpace(string(b)))
	out := eve.wants(t, 0, "token", "list", "--all", "-o", "json")
	w.printed.WriteString(out.Stdout + out.Stderr)
	eventually(t, 10*time.Second, func(context.Context) error {
		if _, err := os.Stat(filepath.Join(cp.DataDir, "bootstrap-token")); !os.IsNotExist(err) {
			return fmt.Errorf("the file of the spent token is still there: %w", err)
		}
		return nil
	})
	return cp
}
