package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/pki"
)

// planted are secrets with every character that an escape could change. The first 12 characters are unique as well.
func planted() map[string]string {
	return map[string]string{
		"model key":     `pl4ntedMod+1/"key&<é>\=one`,
		"header":        `pl4ntedHdr+2/ head&<er>=two`,
		"query":         `pl4ntedQry+3/"que&<ry>\=three`,
		"memory":        `pl4ntedMem+4/mem&<ory>=four`,
		"credential":    `pl4ntedCrd+5/"cred&<é>\=five`,
		"model header":  `pl4ntedMhd+6/mhd&<er>=six`,
		"bound":         `pl4ntedBnd+7/bnd&<d>=seven`,
		"from a file":   `pl4ntedFil+8/"fil&<é>\=eight`,
		"rotated":       `pl4ntedRot+9/"rot&<é>\=nine`,
		"piped":         `pl4ntedPip+0/"pip&<é>\=ten`,
		"by the API":    `pl4ntedApi+a/"api&<é>\=eleven`,
		"refused":       `pl4ntedRef+b/"ref&<é>\=twelve`,
		"inbound":       `pl4ntedInb+c/inb&<d>=thirteen`,
		"cookie":        `pl4ntedCoo+d/coo&<k>=fourteen`,
		"unknown token": `agt_Pl4ntedUnknownTokenThatNobodyHasMade00000000`,
		"password":      `pl4ntedPwd+e/pwd&<d>=fifteen`,
		"in the URL":    `pl4ntedUrl+f/url&<l>=sixteen`,
		"on the stream": `pl4ntedStr+g/str&<m>=seventeen`,
		"collector key": `pl4ntedOtl+h/otl&<p>=eighteen`,
		"projected":     `pl4ntedKub+i/kub&<e>=nineteen`,
		"reviewer":      `pl4ntedRvw+j/rvw&<r>=twenty`,
	}
}

// secretsWorld is where every secret goes in, and everything that comes out is kept.
type secretsWorld struct {
	*world
	t       *testing.T
	s       map[string]string
	h       *hunt
	printed bytes.Buffer // what agentctl and the doors say
	sink    sinkBuffer
	issuer  string
	company *pki.CA // whose certificates enroll
	stub    *harness.MCPStub
	inputs  string // a folder that isn't searched
	agents  []*harness.Agent
}

// say runs agentctl, keeps what it prints and wants exit code 0, or any where fails.
func (w *secretsWorld) say(fails bool, args ...string) {
	w.t.Helper()
	out, err := w.Ctl(w.t.Context(), w.cp, args...)
	if err != nil || (out.Code != 0) != fails {
		w.t.Errorf("agentctl %v: exit %d, %v\n%s%s", args, out.Code, err, out.Stdout, out.Stderr)
	}
	w.printed.WriteString(out.Stdout + out.Stderr)
}

// input writes a value into a file that isn't searched.
func (w *secretsWorld) input(name, value string) string {
	w.t.Helper()
	path := filepath.Join(w.inputs, name)
	write(w.t, path, []byte(value))
	return path
}

// Secrets arrive where they are for and are found nowhere else: those of specs, credentials, people's and instances' tokens, headers of
// callers, and the private keys. Everything that the processes leave behind is searched, in every encoding, after calls that went well
// and calls that failed, at debug level, with the stacks of both halves.
func TestSecretsAreFoundNowhere(t *testing.T) {
	t.Parallel()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	w := &secretsWorld{t: t, s: planted(), h: newHunt(), inputs: t.TempDir(), issuer: startProvider(t)}
	for name, value := range w.s {
		w.h.text(t, name, "", value)
	}
	otlp := httptest.NewServer(&w.sink)
	t.Cleanup(otlp.Close)
	w.stub = harness.NewMCPStub("tools", "alpha")
	t.Cleanup(w.stub.Close)
	telemetry := []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + otlp.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=100",
		"OTEL_EXPORTER_OTLP_HEADERS=x-otlp-key=" + url.PathEscape(w.s["collector key"]),
	}
	env.LogLevel = "debug"
	env.Vars = map[string][]string{"controlplane": telemetry, "agentd": telemetry}
	claims := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"iat": %d}`, time.Now().Unix()))
	projected := "e30." + claims + "." + base64.RawURLEncoding.EncodeToString([]byte(w.s["projected"]))
	kube := fakeKubernetesAPI(t, projected, "system:serviceaccount:default:helper", w.s["reviewer"])
	if w.company, err = pki.New(); err != nil {
		t.Fatal(err)
	}
	w.world = worldIn(t, env, echoScript, "--audit-file", filepath.Join(env.Dir, "audit.jsonl"), "--oidc-issuer", w.issuer, "--oidc-client-id", "agentctl",
		"--kube-api-url", kube.URL, "--kube-ca", pemFile(t, w.inputs, "kube.pem", kube.Certificate()), "--kube-token-file", w.input("reviewer", w.s["reviewer"]),
		"--x509pop-ca", pemFile(t, w.inputs, "company.pem", w.company.Root))
	dev, err := w.cp.Token()
	if err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "dev token", "controlplane/token", dev)

	w.putSpecs()
	w.putCredentials()
	w.startAgents(projected)
	w.putTokens()
	first := w.firstAdministrator()
	w.fail()
	w.ask()

	// Every goroutine's stack is printed by SIGABRT.
	for _, a := range w.agents {
		if err := a.Signal(syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
		_ = a.Wait(5 * time.Second)
	}
	for _, cp := range []*harness.ControlPlane{w.cp, first} {
		if err := cp.Signal(syscall.SIGABRT); err != nil {
			t.Fatal(err)
		}
		_ = cp.Wait(5 * time.Second)
		if !strings.Contains(cp.Output(), "SIGABRT: abort") {
			t.Errorf("no stacks in\n%s", cp.Output())
		}
		w.sealed(cp.DataDir)
	}
	for _, path := range []string{"/v1/traces", "/v1/logs"} {
		if posts, key := w.sink.got(path, "X-Otlp-Key"); posts == 0 || key != w.s["collector key"] {
			t.Errorf("%s was posted to %d times: nothing was searched there, or the collector's key didn't arrive", path, posts)
		}
	}
	w.h.search(t, "what agentctl and the doors printed", w.printed.Bytes())
	w.h.search(t, "traces and audit records", w.sink.Bytes())
	if files := w.h.files(t, w.Dir); files < 20 {
		t.Errorf("searched %d files", files)
	}
	if away := w.h.away(); len(away) > 0 {
		t.Errorf("not where they must be: %v", away)
	}
}

// fail calls in every way that is turned away or goes wrong, with secrets in hand.
func (w *secretsWorld) fail() {
	t, s := w.t, w.s
	for name, value := range map[string]string{
		"Authorization":       "Bearer " + s["inbound"],
		"Proxy-Authorization": "Bearer " + s["inbound"],
		"Cookie":              "session=" + url.QueryEscape(s["cookie"]),
	} {
		w.send(http.MethodPost, w.agents[0].URL()+"/v1/chat/completions", `{"model": "helper", "messages": [{"role": "user", "content": "hello"}]}`, name, value)
		w.send(http.MethodPost, "http://"+w.cp.People+"/agentry.spec.v1.SpecService/List", `{}`, name, value)
		w.send(http.MethodGet, "http://"+w.cp.People+"/metrics", "", name, value)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+s["password"]))
	for _, value := range []string{basic, "Bearer " + s["unknown token"]} {
		w.send(http.MethodPost, "http://"+w.cp.People+"/agentry.spec.v1.SpecService/List", `{}`, "Authorization", value)
		w.send(http.MethodGet, "http://"+w.cp.People+"/debug?access_token="+url.QueryEscape(s["in the URL"]), "", "Authorization", value)
	}
	thief := w.person(t, "thief", "", "AGENTCTL_TOKEN="+s["unknown token"])
	out := thief.wants(t, 5, "whoami")
	w.printed.WriteString(out.Stdout + out.Stderr)
	join, err := w.cp.JoinToken(t.Context(), "default", "helper")
	if err != nil {
		t.Fatal(err)
	}
	w.h.text(t, "join token in vain", "", joinSecret(join))
	if err := streamFault(t, w.cp.Runtime, credentials.NewTLS(harness.Pinned(join)), s["on the stream"]); err == nil {
		t.Error("a token opens a stream")
	}
	if _, err := w.cp.Enroll(t.Context(), join, "default", "another", "one"); err == nil {
		t.Error("a join token of another agent counts")
	}
	w.say(false, "mcp", "probe", "tools")
	w.stub.Close()
	_, _ = w.agents[0].Chat(t.Context(), "s1", "call alpha")
	w.say(true, "mcp", "probe", "tools")
}

// send makes one call with a header and keeps what is answered.
func (w *secretsWorld) send(method, address, body, header, value string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(header, value)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.printed.Write(b)
	_ = resp.Header.Write(&w.printed)
}

// ask reads everything that can be read.
func (w *secretsWorld) ask() {
	t := w.t
	for _, args := range [][]string{
		{"get", "agent", "helper", "-o", "yaml"},
		{"get", "agent", "-o", "json"},
		{"get", "credential", "-o", "json"},
		{"get", "credential", "filed", "-o", "yaml"},
		{"get", "mcp", "-o", "yaml"},
		{"describe", "agent", "helper"},
		{"status", "helper", "-o", "json"},
		{"status", "helper"},
		{"history", "helper", "-o", "json"},
		{"export", "agent/helper"},
		{"credential", "list"},
		{"credential", "used-by", "bound"},
		{"mcp", "show", "tools"},
		{"prompt", "show", "helper"},
		{"config", "dump", "helper"},
		{"config", "diff", "helper"},
		{"events"},
		{"token", "list", "--all", "-o", "json"},
		{"role", "list", "-o", "json"},
		{"binding", "list", "-A", "-o", "json"},
		{"identity", "list", "-A", "-o", "json"},
		{"identity", "join-token", "list", "-A", "-o", "json"},
		{"identity", "authority", "show", "-o", "json"},
		{"audit", "-A", "--limit", "1000", "-o", "json"},
		{"audit", "-A", "--limit", "1000"},
		{"audit", "verify"},
		{"audit", "verify", "--file", filepath.Join(w.Dir, "audit.jsonl")},
	} {
		w.say(false, args...)
	}
	var pages []string
	for _, a := range w.agents {
		pages = append(pages, a.URL()+"/admin/config", a.URL()+"/metrics", a.URL()+"/readyz", a.URL()+"/healthz")
	}
	for _, path := range []string{"/metrics", "/debug", "/debug/events", "/readyz", "/healthz"} {
		pages = append(pages, "http://"+w.cp.People+path)
	}
	for _, page := range pages {
		code, body, err := harness.Get(t.Context(), page)
		if err != nil || (code != http.StatusOK && !strings.HasSuffix(page, "/readyz")) {
			t.Errorf("%s: %d, %v", page, code, err)
		}
		w.printed.WriteString(body)
	}
	// The audit log has reached its file and its collector.
	eventually(t, 15*time.Second, func(ctx context.Context) error {
		waits := errors.New("the audit log's file or collector waits")
		if posts, _ := w.sink.got("/v1/logs", ""); posts == 0 {
			return waits
		}
		for _, sink := range []string{"audit file", "audit collector"} {
			if n, err := w.cp.Metric(ctx, `agentry_audit_sink_seq{sink="`+sink+`"}`); err != nil || n < 20 {
				return errors.Join(err, waits)
			}
		}
		return nil
	})
}
