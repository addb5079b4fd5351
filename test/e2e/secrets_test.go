package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// planted are secrets with every character that an escape could change. The first 12 characters are unique as well.
func planted() map[string]string {
	return map[string]string{
		"model key":    `pl4ntedMod+1/"key&<é>\=one`,
		"header":       `pl4ntedHdr+2/ head&<er>=two`,
		"query":        `pl4ntedQry+3/"que&<ry>\=three`,
		"memory":       `pl4ntedMem+4/mem&<ory>=four`,
		"credential":   `pl4ntedCrd+5/"cred&<é>\=five`,
		"model header": `pl4ntedMhd+6/mhd&<er>=six`,
	}
}

// encodings are the forms in which a secret could lie somewhere.
func encodings(secret string) map[string][]byte {
	quoted, _ := json.Marshal(secret)
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(secret)
	forms := map[string][]byte{
		"raw":                 []byte(secret),
		"first 12 characters": []byte(secret[:12]),
		"JSON":                bytes.Trim(quoted, `"`),
		"JSON without HTML":   bytes.Trim(bytes.TrimSpace(plain.Bytes()), `"`),
		"URL query":           []byte(url.QueryEscape(secret)),
		"URL path":            []byte(url.PathEscape(secret)),
		"hex":                 []byte(hex.EncodeToString([]byte(secret))),
		"HEX":                 []byte(strings.ToUpper(hex.EncodeToString([]byte(secret)))),
	}
	for name, e := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
		// Within a longer text base64 depends on the offset: drop what neighbours would change.
		for offset := range 3 {
			text := e.EncodeToString(append(make([]byte, offset), secret...))
			forms[name+string(rune('0'+offset))] = []byte(text[4 : len(text)-4])
		}
	}
	return forms
}

// Planted secrets arrive at the stubs and are found nowhere else.
func TestSecretsAreFoundNowhere(t *testing.T) {
	t.Parallel()
	var traces sinkBuffer
	otlp := httptest.NewServer(&traces)
	t.Cleanup(otlp.Close)
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	env.LogLevel = "debug"
	w := worldIn(t, env, echoScript)
	stub := harness.NewMCPStub("tools", "alpha")
	t.Cleanup(stub.Close)

	s := planted()
	quote := func(v string) string { b, _ := json.Marshal(v); return string(b) }
	set := harness.Files{
		"helper/agent-base.json": `{"promptKey": "helper"}`,
		"helper/model.json": `{"model": "scripted", "baseUrl": ` + quote(w.url) + `, "apiKey": ` + quote(s["model key"]) +
			`, "headers": {"X-Model": ` + quote(s["model header"]) + `}}`,
		"helper/mcp-servers.json": `{"mcpServers": [{"mcpServerName": "tools", "headers": {"X-Key": ` + quote(s["header"]) +
			`, "X-Shared": "${credential:shared}"}, "queryParams": {"key": ` + quote(s["query"]) + `}}]}`,
		"helper/memory.json":  `{"storageType": "redis", "address": "127.0.0.1:6379", "credential": ` + quote(`{"username":"u","password":`+quote(s["memory"])+`}`) + `}`,
		"prompts/helper.json": `{"promptKey": "helper", "version": "1.0.0", "template": "be helpful"}`,
		"mcp/tools.json":      `{"name": "tools", "endpoint": ` + quote(stub.URL) + `}`,
		"credentials.yaml":    "kind: Credential\nmetadata: {name: shared}\nspec: {value: " + quote(s["credential"]) + "}\n",
	}
	specDir := t.TempDir() // outside of what is searched
	if err := set.WriteTo(specDir); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	ctl := func(args ...string) {
		t.Helper()
		out, err := w.Ctl(t.Context(), w.cp, args...)
		if err != nil {
			t.Fatal(err)
		}
		printed.WriteString(out.Stdout + out.Stderr)
	}
	ctl("validate", "-f", specDir)
	ctl("apply", "-f", specDir, "--dry-run=server")
	ctl("apply", "-f", specDir)
	a, err := w.StartAgent(w.cp, "helper", harness.AgentOptions{Vars: []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + otlp.URL, "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_BSP_SCHEDULE_DELAY=100",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 15*time.Second); err != nil {
		t.Fatalf("%v\n%s", err, a.Output())
	}
	if _, err := a.Chat(t.Context(), "s1", "call alpha"); err != nil {
		t.Fatal(err)
	}
	// They arrive.
	seen := w.model.Requests()
	if len(seen) == 0 || seen[0].Key != s["model key"] || seen[0].Header.Get("X-Model") != s["model header"] {
		t.Errorf("the model key or header did not arrive: %d requests", len(seen))
	}
	calls := stub.Calls()
	if len(calls) != 1 || calls[0].Headers.Get("X-Key") != s["header"] || calls[0].Headers.Get("X-Shared") != s["credential"] {
		t.Errorf("the MCP headers did not arrive in %d calls", len(calls))
	} else if q, err := url.ParseQuery(calls[0].Query); err != nil || q.Get("key") != s["query"] {
		t.Errorf("the MCP query parameter did not arrive")
	}

	// Every output, with faults on the way.
	stub.Close()
	_, _ = a.Chat(t.Context(), "s1", "call alpha")
	broken := strings.Replace(set["helper/model.json"], `, "apiKey"`, ` "apiKey"`, 1)
	if err := (harness.Files{"helper/model.json": broken}).WriteTo(specDir); err != nil {
		t.Fatal(err)
	}
	ctl("apply", "-f", specDir)
	ctl("validate", "-f", specDir)
	for _, args := range [][]string{
		{"get", "agent", "helper", "-o", "yaml"},
		{"get", "agent", "-o", "json"},
		{"get", "credential", "-o", "json"},
		{"get", "mcp", "-o", "yaml"},
		{"describe", "agent", "helper"},
		{"status", "helper", "-o", "json"},
		{"status", "helper"},
		{"history", "helper", "-o", "json"},
		{"export", "agent/helper"},
		{"credential", "list"},
		{"mcp", "show", "tools"},
		{"prompt", "show", "helper"},
		{"config", "dump", "helper"},
		{"config", "diff", "helper"},
		{"events"},
	} {
		ctl(args...)
	}
	for _, path := range []string{"/admin/config", "/metrics", "/readyz"} {
		_, body, err := harness.Get(t.Context(), a.URL()+path)
		if err != nil {
			t.Error(err)
		}
		printed.WriteString(body)
	}
	if err := a.Signal(6); err != nil { // SIGABRT: every goroutine's stack is printed
		t.Fatal(err)
	}
	_ = a.Wait(5 * time.Second)
	if err := w.cp.Stop(15 * time.Second); err != nil {
		t.Error(err)
	}

	if traces.Len() == 0 {
		t.Error("no traces arrived: nothing was searched there")
	}
	search(t, "what agentctl and the doors printed", printed.Bytes(), s)
	search(t, "traces", traces.Bytes(), s)
	files := 0
	err = filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		rel, _ := filepath.Rel(w.Dir, path)
		search(t, rel, b, s)
		return nil
	})
	if err != nil || files < 5 {
		t.Errorf("searched %d files: %v", files, err)
	}
}

func search(t *testing.T, where string, b []byte, secrets map[string]string) {
	t.Helper()
	for name, secret := range secrets {
		for form, text := range encodings(secret) {
			if i := bytes.Index(b, text); i >= 0 {
				t.Errorf("the secret %q lies in %s as %s, near %q", name, where, form, b[max(0, i-80):i])
			}
		}
	}
}

// sinkBuffer keeps every body that is posted to it.
type sinkBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (s *sinkBuffer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.b.Write(body)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (s *sinkBuffer) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Len()
}

func (s *sinkBuffer) Bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}
