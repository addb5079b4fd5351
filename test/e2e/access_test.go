package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// token makes an API token by the dev token and gives its id and secret.
func (w *world) token(t *testing.T, name string, args ...string) (id, secret string) {
	t.Helper()
	var made struct{ ID, Secret string }
	if err := json.Unmarshal([]byte(w.ctl(t, append([]string{"token", "create", name, "-o", "json"}, args...)...)), &made); err != nil {
		t.Fatal(err)
	}
	return made.ID, made.Secret
}

// folder writes a set of files for agentctl and gives its folder.
func (w *world) folder(t *testing.T, name string, files harness.Files) string {
	t.Helper()
	dir := filepath.Join(w.Dir, name)
	if err := files.WriteTo(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// exitOf gives a process's exit code once it ended.
func exitOf(t *testing.T, p *harness.Proc, d time.Duration) int {
	t.Helper()
	var exit *exec.ExitError
	switch err := p.Wait(d); {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	default:
		t.Fatalf("%v\n%s", err, p.Output())
		return 0
	}
}

// Tokens open what their scopes and bindings say; what isn't theirs looks as if it weren't there; a revoked one is out at once.
func TestTokensOpenWhatTheyAreBoundTo(t *testing.T) {
	w := newWorld(t, "default: {text: hello}")
	w.apply(t, twoAgents())
	_, secret := w.token(t, "reader", "--scope", "viewer@default")
	viewer := w.person(t, "viewer", "", "AGENTCTL_TOKEN="+secret)
	if got := viewer.ok(t, "get", "agent", "-q"); got != "agent/finance\nagent/weather\n" {
		t.Errorf("the viewer sees %q", got)
	}
	changed := func(agent string) string {
		return w.folder(t, "change-"+agent, harness.Files{
			agent + "/agent-base.json": `{"promptKey": "plain", "description": "changed"}`, agent + "/model.json": `{"model": "scripted"}`,
		})
	}
	viewer.wants(t, 5, "apply", "-f", changed("weather"))
	viewer.wants(t, 5, "delete", "agent", "weather", "--yes")
	viewer.wants(t, 5, "token", "list", "--all")
	viewer.wants(t, 5, "binding", "set", "mine", "--role", "admin", "--subject", "token:reader")
	if st := w.status(t, "weather"); st.Revision.Desired != 1 {
		t.Errorf("a viewer changed it: %+v", st)
	}

	// An editor of one agent, by a binding of the token itself.
	id, secret := w.token(t, "editor", "--scope", "viewer@elsewhere")
	editor := w.person(t, "editor", "", "AGENTCTL_TOKEN="+secret)
	editor.wants(t, 5, "apply", "-f", changed("weather"))
	w.ctl(t, "binding", "set", "weather-bot", "--role", "editor", "--subject", "token:"+id, "--on", "agent/weather")
	editor.ok(t, "apply", "-f", changed("weather"), "--message", "by the editor")
	if st := w.status(t, "weather"); st.Revision.Desired != 2 {
		t.Errorf("the editor's change: %+v", st)
	}
	if got := editor.ok(t, "get", "agent", "-q"); got != "agent/weather\n" {
		t.Errorf("the editor sees %q", got)
	}
	// finance is there and isn't the editor's, nothing isn't there: it can't tell which is which.
	for _, args := range [][]string{
		{"get", "agent", "AGENT"},
		{"status", "AGENT"},
		{"history", "AGENT"},
		{"describe", "agent", "AGENT"},
		{"rollback", "AGENT"},
		{"delete", "agent", "AGENT", "--yes"},
		{"rollout", "status", "AGENT"},
		{"can-i", "get", "agent/AGENT"},
		{"can-i", "apply", "agent/AGENT"},
		{"apply", "-f", "DIR"},
		{"identity", "join-token", "create", "AGENT"},
	} {
		var said [2]harness.Out
		for i, agent := range []string{"finance", "nothing"} {
			own := slices.Clone(args)
			for k := range own {
				own[k] = strings.ReplaceAll(own[k], "AGENT", agent)
				if own[k] == "DIR" {
					own[k] = changed(agent)
				}
			}
			out := editor.run(t, "", own...)
			said[i] = harness.Out{Code: out.Code, Stdout: strings.ReplaceAll(out.Stdout, agent, "AGENT"), Stderr: strings.ReplaceAll(out.Stderr, agent, "AGENT")}
		}
		if said[0] != said[1] || said[0].Code == 0 {
			t.Errorf("agentctl %v: not the editor's: %+v\nnot there: %+v", args, said[0], said[1])
		}
	}
	if st := w.status(t, "finance"); st.Revision.Desired != 1 {
		t.Errorf("finance was changed: %+v", st)
	}

	// A watch that runs ends with its token.
	watch := editor.start(t, "status", "weather", "-w")
	printed(t, watch, `weather`)
	began := time.Now()
	w.ctl(t, "token", "revoke", id)
	if code := exitOf(t, watch, 10*time.Second); code != 5 {
		t.Errorf("the watch ended with %d:\n%s", code, watch.Output())
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it went on for %s", took)
	}
	editor.wants(t, 5, "get", "agent")
	// And with what it is bound to.
	id, secret = w.token(t, "looker", "--scope", "viewer@elsewhere")
	w.ctl(t, "binding", "set", "look", "--role", "viewer", "--subject", "token:"+id, "--on", "agent/weather")
	looker := w.person(t, "looker", "", "AGENTCTL_TOKEN="+secret)
	watch = looker.start(t, "status", "weather", "-w")
	printed(t, watch, `weather`)
	w.ctl(t, "binding", "delete", "look", "--yes")
	if code := exitOf(t, watch, 10*time.Second); code == 0 || code == 7 {
		t.Errorf("the watch ended with %d:\n%s", code, watch.Output())
	}

	w.toldByAudit(t)
}

// toldByAudit holds what the log tells of TestTokensOpenWhatTheyAreBoundTo, and that it is whole.
func (w *world) toldByAudit(t *testing.T) {
	t.Helper()
	entries := w.audited(t)
	by := func(e auditEntry, typ, actor, method string) bool {
		return e.Type == typ && e.Actor == actor && strings.HasSuffix(e.Method, "/"+method)
	}
	find(t, entries, "the editor's change", func(e auditEntry) bool {
		return by(e, "change", "token:editor", "Apply") && slices.Contains(e.Objects, "agent/weather") && e.Message == "by the editor" && e.Outcome == "ok"
	})
	find(t, entries, "the viewer's apply", func(e auditEntry) bool { return by(e, "denied", "token:reader", "Apply") })
	find(t, entries, "the editor's reach for finance", func(e auditEntry) bool { return by(e, "denied", "token:editor", "Apply") })
	find(t, entries, "the binding", func(e auditEntry) bool { return by(e, "change", "dev", "SetBinding") })
	find(t, entries, "the revocation", func(e auditEntry) bool { return by(e, "change", "dev", "RevokeToken") })
	if out := w.ctl(t, "audit", "--object", "agent/weather", "--type", "change"); !strings.Contains(out, "token:editor") || !strings.Contains(out, "by the editor") {
		t.Errorf("audit:\n%s", out)
	}
	if out := w.ctl(t, "audit", "verify"); !strings.HasPrefix(out, "whole: entries 1 to ") {
		t.Errorf("audit verify: %s", out)
	}
}

// certificate makes one for the loopback, its own authority, and gives the files.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "people door"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "people.pem"), filepath.Join(dir, "people.key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// bootstrapFile waits for the file of the bootstrap token and gives the token.
func bootstrapFile(t *testing.T, dataDir string) string {
	t.Helper()
	path := filepath.Join(dataDir, "bootstrap-token")
	var b []byte
	eventually(t, 20*time.Second, func(context.Context) (err error) {
		b, err = os.ReadFile(path)
		return err
	})
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bootstrap token's file: %v, %v", info, err)
	}
	return string(b)
}

// Without the token file, the first administrator spends a token that counts once; the door then is closed to all but those who log in.
func TestTheFirstAdministrator(t *testing.T) {
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	w := &world{Env: env}
	if w.cp, err = env.StartControlPlane(t.Context(), "--dev-token=false"); err != nil {
		t.Fatal(err)
	}
	token := bootstrapFile(t, w.cp.DataDir)
	ada, eve := w.person(t, "ada", ""), w.person(t, "eve", "")
	if out := ada.wants(t, 5, "login"); !strings.Contains(out.Stderr, "waits for its first administrator") {
		t.Errorf("login says %q", out.Stderr)
	}
	if out := eve.run(t, "agb_guessed\n", "login", "--bootstrap"); out.Code != 5 {
		t.Errorf("a guessed token: %+v", out)
	}
	// The bootstrap token is no token to call with.
	opensNothing := func(file string) {
		t.Helper()
		finder := w.person(t, "finder", "", "AGENTRY_TOKEN_FILE="+filepath.Join(w.cp.DataDir, file))
		if out := finder.wants(t, 5, "whoami"); strings.Contains(out.Stderr, "read the token") {
			t.Errorf("%s: %s", file, out.Stderr)
		}
	}
	opensNothing("bootstrap-token")
	out := ada.run(t, token, "login", "--bootstrap")
	if out.Code != 0 || strings.Contains(out.Stdout+out.Stderr, "agt_") {
		t.Fatalf("login --bootstrap: %+v\n%s", out, w.cp.Output())
	}
	if out := eve.run(t, token, "login", "--bootstrap"); out.Code != 5 {
		t.Errorf("the spent token: %+v", out)
	}
	if who := ada.whoAmI(t); !who.Admin || who.Kind != "token" {
		t.Errorf("the administrator is %+v", who)
	}
	eventually(t, 10*time.Second, func(context.Context) error {
		if _, err := os.Stat(filepath.Join(w.cp.DataDir, "bootstrap-token")); !os.IsNotExist(err) {
			return fmt.Errorf("the file of the spent token is still there: %w", err)
		}
		return nil
	})
	ada.ok(t, "apply", "-f", w.folder(t, "two", twoAgents()))
	eve.wants(t, 5, "get", "agent")
	if out := ada.ok(t, "audit", "-A", "--type", "change"); !strings.Contains(out, "Bootstrap") {
		t.Errorf("audit:\n%s", out)
	}
	// It stays spent when the control plane starts again, and its administrator stays.
	if err := w.cp.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	// A token file that is left of a time when it counted doesn't count.
	if err := os.WriteFile(w.cp.TokenFile(), []byte("agt_"+strings.Repeat("0a", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.cp.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	opensNothing("token")
	ada.ok(t, "get", "agent")
	if out := eve.run(t, token, "login", "--bootstrap"); out.Code != 5 {
		t.Errorf("the spent token after a restart: %+v", out)
	}
	if _, err := os.Stat(filepath.Join(w.cp.DataDir, "bootstrap-token")); !os.IsNotExist(err) {
		t.Errorf("a second bootstrap token: %v", err)
	}
	// Ending the last administrator's session makes a new one possible: nobody is locked out for good.
	ada.ok(t, "logout")
	if again := bootstrapFile(t, w.cp.DataDir); again == token {
		t.Error("the spent token is offered again")
	}
}

// The people door over TLS: agentctl trusts it by its authority's file, and nothing goes in the open.
func TestPeopleDoorOverTLS(t *testing.T) {
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	// Another machine could reach it: a start error.
	for name, args := range map[string][]string{"every address": {"--people-addr", "0.0.0.0:0"}, "a name": {"--people-addr", "agentry.example.org:7700"}} {
		p, err := env.Start("open", "controlplane", nil, append([]string{"--data-dir", filepath.Join(env.Dir, "open"), "--runtime-addr", "127.0.0.1:0"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		if code := exitOf(t, p, 10*time.Second); code == 0 || !strings.Contains(p.Output(), "without TLS only the loopback may be bound") {
			t.Errorf("%s: exit %d\n%s", name, code, p.Output())
		}
	}
	cert, key := certificate(t, env.Dir)
	addr, err := harness.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Env: env, cp: &harness.ControlPlane{People: addr, DataDir: filepath.Join(env.Dir, "secure")}}
	w.cp.Proc, err = env.Start("secure", "controlplane", nil, "--data-dir", w.cp.DataDir, "--people-addr", "0.0.0.0:"+port, "--runtime-addr", "127.0.0.1:0",
		"--people-tls-cert", cert, "--people-tls-key", key)
	if err != nil {
		t.Fatal(err)
	}
	token := bootstrapFile(t, w.cp.DataDir)
	ada := w.person(t, "ada", "https://"+addr)
	eventually(t, 20*time.Second, func(context.Context) error {
		if out := ada.run(t, "", "whoami", "--ca-file", cert); out.Code != 5 {
			return errors.New(out.Stderr)
		}
		return nil
	})
	if out := ada.run(t, token, "login", "--bootstrap"); out.Code != 6 || !strings.Contains(out.Stderr, "--ca-file") {
		t.Errorf("an authority that isn't trusted: %+v", out)
	}
	if out := ada.run(t, token, "login", "--bootstrap", "--ca-file", cert); out.Code != 0 {
		t.Fatalf("login: %+v\n%s", out, w.cp.Output())
	}
	ada.ok(t, "apply", "-f", w.folder(t, "two", twoAgents()))
	if got := ada.ok(t, "get", "agent", "-q"); got != "agent/finance\nagent/weather\n" {
		t.Errorf("agents: %q", got)
	}
	// Streams too.
	watch := ada.start(t, "audit", "-f", "-A")
	var changed time.Time
	eventually(t, 20*time.Second, func(context.Context) error {
		if time.Since(changed) > 4*time.Second { // again only then: entries are chained when no more come
			ada.ok(t, "role", "set", "looker", "--permission", "spec.read", "--description", time.Now().String())
			changed = time.Now()
		}
		if !strings.Contains(watch.Output(), "SetRole") {
			return fmt.Errorf("no entry was sent: %s", watch.Output())
		}
		return nil
	})
	watch.Kill()
	ada.ok(t, "audit", "verify")
	// In the open, nothing; nor is there a token file by default.
	if out := ada.wants(t, 6, "whoami", "--server", "http://"+addr); !strings.Contains(out.Stderr, "https://") {
		t.Errorf("plain HTTP: %s", out.Stderr)
	}
	if _, err := os.Stat(w.cp.TokenFile()); !os.IsNotExist(err) {
		t.Errorf("a token file: %v", err)
	}
}
