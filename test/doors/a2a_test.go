package doors

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// longStream lasts long enough for readers to come while it goes on.
const longStream = `rules:
  - when: {metadata: {message_id: "/^long-stream/"}}
    reply: {text: "Stream hello from TCK, in several pieces", pace: {chunk: 2, delay: 100ms}}
`

// conformance gives the files of examples/a2a-conformance, and a world with its script.
func conformance(t *testing.T) (*world, harness.Files) {
	t.Helper()
	const example = "../../examples/a2a-conformance"
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(example, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	script := strings.Replace(read("model-script.yaml"), "rules:\n", longStream, 1)
	if !strings.Contains(script, longStream) {
		t.Fatal("the example's script has no rules where the test adds one")
	}
	w := newWorld(t, script)
	files := harness.Files{}
	for _, path := range []string{"a2a-conformance/agent-base.json", "a2a-conformance/model.json", "prompts/a2a-conformance.json"} {
		files[path] = read(path)
	}
	return w, files
}

// serve starts the agent of the files.
func (w *world) serve(t *testing.T, files harness.Files, args ...string) *harness.Agent {
	t.Helper()
	if _, err := w.api.Apply(t.Context(), files); err != nil {
		t.Fatalf("apply: %v", err)
	}
	a, err := w.StartAgent(w.cp, "a2a-conformance", harness.AgentOptions{ModelBaseURL: w.url + "/v1", Args: args})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.WaitReady(t.Context(), 20*time.Second); err != nil {
		t.Fatalf("%v\nagentd:\n%s", err, a.Output())
	}
	return a
}

// TestA2A puts @a2a-js/sdk to the agent of examples/a2a-conformance.
func TestA2A(t *testing.T) {
	t.Parallel()
	w, files := conformance(t)
	node(t, "a2a.mjs", "BASE_URL="+w.serve(t, files, "--allow-internal-push").URL())
}

// TestA2ACard puts it to the same agent behind keys, with a signed card.
func TestA2ACard(t *testing.T) {
	t.Parallel()
	w, example := conformance(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	if err != nil {
		t.Fatal(err)
	}
	const mine, theirs = "k-91b4c07de2", "k-5a06f3382c"
	files := maps.Clone(example)
	files["card-key.json"] = `{"kind": "Credential", "metadata": {"name": "card-key"}, "spec": {"value": ` + string(signing) + `}}`
	files["a2a-conformance/agent-base.json"] = `{
  "promptKey": "a2a-conformance", "description": "Signs its card and asks for a key.", "version": "1.0.0",
  "skills": [{"id": "conformance", "name": "Conformance", "description": "Reaches every state of a task on demand.", "tags": ["a2a"]}],
  "expose": {
    "auth": {"keys": [{"name": "mine", "key": "` + mine + `"}, {"name": "theirs", "key": "` + theirs + `"}]},
    "a2a": {"tools": ["ask_user"], "signingKey": {"credentialRef": "card-key"}}
  }
}`
	stub := harness.NewMCPStub("desk", "refund")
	t.Cleanup(stub.Close)
	files["a2a-conformance/mcp-servers.json"] = `{"mcpServers": [{"mcpServerName": "desk"}]}`
	files["mcp/desk.json"] = `{"name": "desk", "endpoint": "` + stub.URL + `"}`
	node(t, "a2a-card.mjs", "SIGNED_URL="+w.serve(t, files).URL(), "KEY="+mine, "OTHER_KEY="+theirs)
}
