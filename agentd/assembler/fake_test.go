package assembler

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is the outside as the factories see it: servers by endpoint, and what was made and closed.
type world struct {
	mu      sync.Mutex
	servers map[string]*fakeServer // by URL
	made    int
	closed  int
	models  int
	boom    bool
	renamed map[string]string // "URL tool" -> the name that the model sees
	storage phase.Code        // "": it answers
}

type fakeServer struct {
	code  phase.Code // "": up
	tools map[string]string
	hang  bool
	live  map[*fakeClient]bool
}

type fakeClient struct {
	w        *world
	url      string
	settings ServerSettings
	closed   bool
}

type fakeTool struct {
	client *fakeClient
	name   string
}

func (t fakeTool) Spec() tool.Spec {
	name := t.client.settings.Ref.MCPServerName + "__" + t.name
	if other := t.client.w.renamed[t.client.url+" "+t.name]; other != "" {
		name = other
	}
	return tool.Spec{Name: name, Server: t.client.settings.Ref.MCPServerName, Tool: t.name, Description: "as listed"}
}

func (t fakeTool) Call(context.Context, json.RawMessage) (tool.Result, error) {
	t.client.w.mu.Lock()
	defer t.client.w.mu.Unlock()
	if t.client.closed {
		return tool.Result{}, errors.New("called a closed client")
	}
	v, _ := t.client.settings.Credentials("key")
	return tool.Result{Text: t.client.url + " " + v.Reveal()}, nil
}

func (c *fakeClient) Connect(ctx context.Context) error {
	c.w.mu.Lock()
	s := c.w.servers[c.url]
	hang, code := s.hang, s.code
	s.live[c] = true
	c.w.mu.Unlock()
	if hang {
		<-ctx.Done()
		return &ServerError{Code: phase.Timeout, Err: ctx.Err()}
	}
	if code != "" {
		return &ServerError{Code: code, Err: errors.New("connect: refused")}
	}
	return nil
}

func (c *fakeClient) State() ServerState {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	s := c.w.servers[c.url]
	if s.code != "" || s.hang {
		return ServerState{Code: s.code, Message: "connect: refused"}
	}
	st := ServerState{Healthy: true}
	for _, name := range slices.Sorted(maps.Keys(s.tools)) {
		st.Tools = append(st.Tools, ServerTool{Tool: fakeTool{c, name}, Digest: s.tools[name]})
	}
	return st
}

func (c *fakeClient) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.closed = true
	c.w.closed++
	delete(c.w.servers[c.url].live, c)
	return nil
}

func (w *world) NewServer(s ServerSettings) (Server, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.boom {
		panic("boom")
	}
	w.made++
	return &fakeClient{w: w, url: s.Entry.Endpoints[0].URL, settings: s}, nil
}

// set changes a server and tells its clients.
func (w *world) set(url string, change func(*fakeServer)) {
	w.mu.Lock()
	s := w.servers[url]
	if s == nil {
		s = &fakeServer{tools: map[string]string{}, live: map[*fakeClient]bool{}}
		w.servers[url] = s
	}
	change(s)
	clients := slices.Collect(maps.Keys(s.live))
	w.mu.Unlock()
	for _, c := range clients {
		c.settings.Changed()
	}
}

func (w *world) counts() (made, closed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.made, w.closed
}

type fakeModel struct{ settings ModelSettings }

func (m fakeModel) Generate(context.Context, model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		v, _ := m.settings.Credentials("key")
		yield(model.Chunk{Text: m.settings.BaseURL + " " + v.Reveal()}, nil)
	}
}

func (w *world) NewModel(s ModelSettings) (model.Model, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.models++
	return fakeModel{s}, nil
}

// fakeStorage is away while its world says so.
type fakeStorage struct{ w *world }

func (w *world) NewStorage(StorageSettings) (Storage, error) { return fakeStorage{w}, nil }

func (fakeStorage) Stores() Stores { return Stores{Memory: struct{ memory.Memory }{}} }

func (f fakeStorage) Connect(context.Context) error {
	st := f.State()
	if st.Healthy {
		return nil
	}
	return &ServerError{Code: st.Code, Err: errors.New(st.Message)}
}

func (f fakeStorage) State() StorageState {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.storage != "" {
		return StorageState{Code: f.w.storage, Message: "away"}
	}
	return StorageState{Healthy: true}
}

const digestY = "00000000000000000000000000000000000000000000000000000000000000d2"

// newWorld makes a world with one server "http://a" that has the tools x and y, and an Assembler in it.
func newWorld(t *testing.T, change ...func(*Config)) (*world, *Assembler) {
	t.Helper()
	w := &world{servers: map[string]*fakeServer{}}
	w.set("http://a", func(s *fakeServer) { s.tools = map[string]string{"x": "d1", "y": digestY} })
	cfg := Config{Namespace: "default", Models: w, Servers: w, Storages: w, Log: slog.New(slog.DiscardHandler)}
	for _, c := range change {
		c(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		a.Close()
		if made, closed := w.counts(); made != closed {
			t.Errorf("%d server clients were made, %d closed", made, closed)
		}
	})
	return w, a
}

// draft is a config in the making.
type draft struct {
	revision int64
	agent    spec.Agent
	prompt   spec.Prompt
	entries  []spec.MCPServer
	policies []spec.Policy
	key      string // the credential's value
	keyAt    int64
	proven   []string
	lastGood bool
	commit   func(context.Context) error
}

func newDraft() draft {
	return draft{
		revision: 1, key: "k1", keyAt: 1,
		agent: spec.Agent{
			AgentName: "helper", PromptKey: "p", MaxIterations: 10,
			Release: spec.Release{Strategy: "immediate", OnReject: "rollback", ProgressDeadline: spec.Duration(time.Minute)},
			Model:   spec.Model{Model: "m", API: "chat-completions", BaseURL: "http://model", APIKey: spec.Value{Ref: "key"}},
			Memory:  spec.Memory{StorageType: "in-process", CompressionStrategy: "token-budget", SearchStrategy: "recency"},
			MCPServers: []spec.MCPServerRef{{
				MCPServerName: "a", Required: true, Headers: map[string]spec.Value{"k": {Ref: "key"}},
			}},
		},
		prompt:  spec.Prompt{PromptKey: "p", Version: "1.0.0", Template: "be {{mood|kind}}", Variables: map[string]spec.PromptVariable{"mood": {}}},
		entries: []spec.MCPServer{entry("a", "http://a")},
	}
}

func entry(name, url string) spec.MCPServer {
	return spec.MCPServer{Name: name, Version: "1", Transport: "streamable-http", Endpoints: []spec.Endpoint{{URL: url, Weight: 1}}}
}

func (d draft) update(t *testing.T) configclient.Update {
	t.Helper()
	u := configclient.Update{
		Revision: d.revision, Resources: map[string][]byte{}, Proven: map[string]bool{}, FromLastGood: d.lastGood,
		Credentials: map[string]configclient.Credential{"key": {Version: d.keyAt, Value: secret.NewValue(d.key)}},
		Lines:       []manifest.Line{{Kind: manifest.KindCredential, Name: "key", Version: string(rune('0' + d.keyAt))}},
	}
	add := func(kind, name, version string, v any) {
		b, err := spec.Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		u.Lines = append(u.Lines, manifest.Line{Kind: kind, Name: name, Version: version, SHA256: manifest.Sum(b)})
		u.Resources[kind+"/"+name] = b
	}
	add(manifest.KindAgent, d.agent.AgentName, "-", d.agent)
	add(manifest.KindPrompt, d.prompt.PromptKey, d.prompt.Version, d.prompt)
	for _, e := range d.entries {
		add(manifest.KindMCP, e.Name, e.Version, e)
	}
	for _, p := range d.policies {
		add(manifest.KindPolicy, p.Server, "-", p)
	}
	for _, p := range d.proven {
		u.Proven[p] = true
	}
	manifest.Sort(u.Lines)
	u.Token = manifest.Token{Epoch: 1, Generation: d.revision, Hash: manifest.Of(u.Lines)}
	u.Commit = d.commit
	if u.Commit == nil {
		u.Commit = func(context.Context) error { return nil }
	}
	return u
}

func apply(t *testing.T, a *Assembler, d draft, want phase.Phase) configclient.Verdict {
	t.Helper()
	v := a.Apply(t.Context(), d.update(t))
	if v.Phase != want {
		t.Fatalf("phase %s, want %s: %+v", v.Phase, want, v.Faults)
	}
	return v
}

// offered gives the names that the running config's model is offered now.
func offered(t *testing.T, a *Assembler) string {
	t.Helper()
	rt, release, err := a.Acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var names []string
	for _, tl := range rt.Tools.Tools() {
		names = append(names, tl.Spec().Name)
	}
	return strings.Join(names, " ")
}

func wantHealth(t *testing.T, a *Assembler, want phase.Phase) {
	t.Helper()
	select {
	case v := <-a.Health():
		if v.Phase != want {
			t.Fatalf("health %s, want %s: %+v", v.Phase, want, v.Faults)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no health came")
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal(what)
		}
	}
}
