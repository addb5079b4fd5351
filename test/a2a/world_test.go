package a2a

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/test/harness"
)

const (
	binDir  = "../../bin" // where `make build` puts the binaries
	example = "../../examples/a2a-conformance"
)

// world is what the tests talk to. Every agent obeys the script of examples/a2a-conformance (scriptText).
type world struct {
	*harness.Env
	cp    *harness.ControlPlane
	api   harness.API
	model string // the model server, with /v1
	asked *scriptmodel.Server
	hung  atomic.Bool // a call got no answer

	main  *agent // keys, a signed card, streams and notifications; it never answers by a lone message
	open  *agent // no keys; it may answer by a lone message
	plain *agent // no keys, no streams, no notifications
	// limited takes one request a minute.
	limited *agent
	// The callers that main knows, by key.
	alice, bob string
}

// agent is one agentd, and where its card says that it answers.
type agent struct {
	*harness.Agent
	world   *world
	card    *pb.AgentCard
	address map[binding]string
	client  *http.Client
	conn    *grpc.ClientConn
}

// scriptText is the example's script with rules of ours before it.
func scriptText(t *testing.T) string {
	t.Helper()
	return strings.Replace(read(t, "model-script.yaml"), "rules:\n", "rules:\n"+ourRules, 1)
}

// ourRules steer what the example's script has no prefix for.
const ourRules = `
  - name: a minute, which is always canceled
    when: {metadata: {message_id: "/^hang/"}}
    reply: {text: "late", delay: 60s}
  - name: a model that fails
    when: {metadata: {message_id: "/^broken-model/"}}
    fault: {status: 400, message: "broken on purpose"}
  - name: what was said
    when: {metadata: {message_id: "/^echo/"}}
    reply: {text: "You said: {{user}}"}
  - name: a named artifact
    when: {metadata: {message_id: "/^named/"}}
    reply: {toolCalls: [{name: attach, arguments: {name: report, description: "What was found.", text: "all is well"}}]}
  - name: two artifacts
    when: {metadata: {message_id: "/^two-artifacts/"}}
    reply: {toolCalls: [{name: attach, arguments: {name: one, text: "1"}}, {name: attach, arguments: {name: two, text: "2"}}]}
`

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(example, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	env, err := harness.New(binDir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(env.Close)
	w := &world{Env: env, alice: "key-of-alice-0123456789", bob: "key-of-bob-0123456789"}
	if w.cp, err = env.StartControlPlane(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.api, err = w.cp.API(); err != nil {
		t.Fatal(err)
	}
	script, err := scriptmodel.ParseScript([]byte(scriptText(t)))
	if err != nil {
		t.Fatal(err)
	}
	model := scriptmodel.New(script)
	srv := httptest.NewServer(model)
	t.Cleanup(func() { model.Close(); srv.Close() })
	w.model, w.asked = srv.URL+"/v1", model

	w.credential(t, "alice", w.alice)
	w.credential(t, "bob", w.bob)
	w.credential(t, "card-key", signingKey(t))
	const tools = `"tools": ["ask_user", "request_auth", "reject", "give_up", "attach"`
	main := w.start(t, "a2a-main", `{"auth": {"keys": [{"name": "alice", "key": {"credentialRef": "alice"}}, {"name": "bob", "key": {"credentialRef": "bob"}}]},
	  "a2a": {`+tools+`], "signingKey": {"credentialRef": "card-key"}}}`)
	open := w.start(t, "a2a-open", `{"a2a": {`+tools+`, "reply"]}}`)
	plain := w.start(t, "a2a-plain", `{"a2a": {`+tools+`], "streaming": false, "push": false}}`)
	limited := w.start(t, "a2a-limited", `{"rateLimit": {"requestsPerMinute": 1, "burst": 1}}`)
	w.main, w.open, w.plain, w.limited = w.reach(t, main), w.reach(t, open), w.reach(t, plain), w.reach(t, limited)
	return w
}

// signingKey makes a PEM key for cards.
func signingKey(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// credential stores a secret for specs to name.
func (w *world) credential(t *testing.T, name, value string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CtlOK(t.Context(), w.cp, "credential", "create", name, "--from-file", file); err != nil {
		t.Fatal(err)
	}
}

// start applies an agent with this "expose" and starts it, without waiting for it.
func (w *world) start(t *testing.T, name, expose string) *harness.Agent {
	t.Helper()
	base := `{"promptKey": "a2a-conformance", "description": "An agent for the requirements of A2A.", "version": "1.0.0",
	  "skills": [{"id": "conformance", "name": "Conformance", "description": "Reaches every state.", "tags": ["a2a"]}], "expose": ` + expose + `}`
	files := harness.Files{
		name + "/agent-base.json":      base,
		name + "/model.json":           `{"model": "conformance-model", "sendMetadata": true}`,
		"prompts/a2a-conformance.json": read(t, "prompts/a2a-conformance.json"),
	}
	if _, err := w.api.Apply(t.Context(), files); err != nil {
		t.Fatalf("apply: %v", err)
	}
	a, err := w.StartAgent(w.cp, name, harness.AgentOptions{ModelBaseURL: w.model, Args: []string{"--allow-internal-push"}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// reach waits for an agent and reads where it answers from its card.
func (w *world) reach(t *testing.T, p *harness.Agent) *agent {
	t.Helper()
	if err := p.WaitReady(t.Context(), 30*time.Second); err != nil {
		t.Fatalf("%v\nagentd:\n%s\ncontrolplane:\n%s", err, p.Output(), w.cp.Output())
	}
	a := &agent{Agent: p, world: w, card: &pb.AgentCard{}, address: map[binding]string{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
	t.Cleanup(a.client.CloseIdleConnections)
	status, body, err := harness.Get(t.Context(), p.URL()+"/.well-known/agent-card.json")
	if err != nil || status != http.StatusOK {
		t.Fatalf("card: %d, %v: %s", status, err, body)
	}
	if err := protojson.Unmarshal([]byte(body), a.card); err != nil {
		t.Fatalf("the card: %v", err)
	}
	names := map[string]binding{"JSONRPC": jsonrpc, "HTTP+JSON": rest, "GRPC": gRPC}
	for _, at := range a.card.GetSupportedInterfaces() {
		if b, ok := names[at.GetProtocolBinding()]; ok && at.GetProtocolVersion() == "1.0" {
			a.address[b] = at.GetUrl()
		}
	}
	if len(a.address) != len(names) {
		t.Fatalf("the card names %v", a.address)
	}
	if a.conn, err = grpc.NewClient(a.address[gRPC], grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.conn.Close() })
	return a
}

// caller is somebody who calls an agent by one binding. It is a value: with, as and in give another one.
type caller struct {
	*agent

	binding binding
	tenant  string
	header  map[string]string // HTTP headers and gRPC metadata of every request
}

// by gives a caller with this key ("": none).
func (a *agent) by(b binding, key string) caller {
	c := caller{agent: a, binding: b, header: map[string]string{"A2A-Version": "1.0"}}
	return c.as(key)
}

// as gives the same caller with another key.
func (c caller) as(key string) caller {
	if key == "" {
		return c.with("Authorization", "")
	}
	return c.with("Authorization", "Bearer "+key)
}

// with gives the same caller with a header; "" leaves it out.
func (c caller) with(name, value string) caller {
	c.header = maps.Clone(c.header)
	if value == "" {
		delete(c.header, name)
	} else {
		c.header[name] = value
	}
	return c
}

// in gives the same caller for another tenant.
func (c caller) in(tenant string) caller {
	c.tenant = tenant
	return c
}

// at gives the same caller at another agent, without a key.
func (c caller) at(a *agent) caller {
	c.agent = a
	return c.as("")
}

// seen gives the model's last request for a message. The message's id is its name among all.
func (a *agent) seen(t *testing.T, messageID string) scriptmodel.Seen {
	t.Helper()
	for _, seen := range slices.Backward(a.world.asked.Requests()) {
		if seen.Metadata["message_id"] == messageID {
			return seen
		}
	}
	t.Fatalf("the model was not asked about %s", messageID)
	return scriptmodel.Seen{}
}

// eventually polls until f answers nil.
func eventually(t *testing.T, f func(context.Context) error) {
	t.Helper()
	if err := harness.Poll(t.Context(), 10*time.Second, f); err != nil {
		t.Fatal(err)
	}
}

// object is JSON that a test builds.
type object = map[string]any

// text gives v's JSON.
func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// contextAfter is for what a test cleans up when its own context is over.
func contextAfter() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
