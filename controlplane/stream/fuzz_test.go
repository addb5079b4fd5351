package stream_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/publish"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/memstore"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// Bounds of one input of FuzzStream.
const (
	fuzzBytes    = 64 << 10
	fuzzMessages = 16
)

func request(m any) *pushv1.StreamRequest {
	switch m := m.(type) {
	case *pushv1.Hello:
		return &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: m}}
	case *pushv1.Report:
		return &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: m}}
	case *pushv1.Beat:
		return &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Beat{Beat: m}}
	default:
		return &pushv1.StreamRequest{}
	}
}

// FuzzStream: nothing that an instance says makes a control plane panic, hang, or send what can't be sent. Input is a sequence of messages,
// each after its length. With apt, tokens and nonces that are given are those of what was sent last, so that more answers count.
func FuzzStream(f *testing.F) {
	one := &pushv1.Token{Epoch: 1, Generation: 2, Hash: slices.Repeat([]byte{1}, 32)}
	hello := func(change func(*pushv1.Hello)) *pushv1.Hello {
		h := &pushv1.Hello{Namespace: "default", Agent: "bot", Instance: "i1", AgentdVersion: "v1"}
		if change != nil {
			change(h)
		}
		return h
	}
	faults := []*pushv1.Fault{{Resource: "mcp/tools", Code: "unreachable", Severity: pushv1.Severity_SEVERITY_ERROR, Retryable: true}}
	seeds := [][]any{
		{hello(nil), &pushv1.Report{Nonce: 1, Phase: pushv1.Phase_PHASE_APPLIED, Desired: one, Running: one}, &pushv1.Beat{Running: one}},
		{hello(nil), &pushv1.Report{Nonce: 1, Phase: pushv1.Phase_PHASE_RECEIVED, Desired: one, Faults: faults}, &pushv1.Report{Nonce: 1, Phase: pushv1.Phase_PHASE_REJECTED, Desired: one, Faults: faults}},
		{hello(func(h *pushv1.Hello) {
			h.Running, h.Phase, h.Fence = one, pushv1.Phase_PHASE_DEGRADED, &pushv1.Fence{ClusterId: "x", Epoch: 9, Generation: 9}
			h.Held = []*pushv1.ManifestLine{{Kind: "agent", Name: "bot", Version: "-", Sha256: one.GetHash()}, {Kind: "credential", Name: "c", Version: "1"}}
			h.Refusals = []*pushv1.Refusal{{Hash: one.GetHash(), Epoch: 1, Generation: 1, AgentdVersion: "v1", Faults: faults}}
		}), &pushv1.Report{Phase: pushv1.Phase_PHASE_FENCED, Desired: one}},
		{hello(func(h *pushv1.Hello) { h.Agent = "nobody" }), &pushv1.Report{Nonce: 1, Phase: pushv1.Phase_PHASE_APPLIED}, nil},
		{hello(nil), &pushv1.Beat{Running: &pushv1.Token{Hash: []byte{1}}}},
		{hello(nil), &pushv1.Report{Phase: 77}, &pushv1.Report{}, hello(nil)},
		{&pushv1.Beat{}},
		{hello(nil), &pushv1.Beat{
			InFlight: 7, Usage: []*pushv1.Usage{{Config: "1-abcdef01", Requests: 1 << 63, LatencyBuckets: slices.Repeat([]uint64{9}, 40), CostUsd: -1}},
			Dependencies: []*pushv1.Dependency{{Resource: "mcp/tools", Tools: []*pushv1.Tool{{Name: "t", DefinitionSha256: []byte{1}}}}, {Resource: "mcp/"}},
		}},
	}
	for _, s := range seeds {
		var input []byte
		for _, m := range s {
			b, err := proto.Marshal(request(m))
			if err != nil {
				f.Fatal(err)
			}
			input = protowire.AppendBytes(input, b)
		}
		f.Add(input, true)
		f.Add(input, false)
	}
	p := newPlane(f)
	f.Fuzz(func(t *testing.T, input []byte, apt bool) {
		if len(input) > fuzzBytes {
			return
		}
		in := &instance{apt: apt, sent: make(chan struct{}, 1)}
		for len(input) > 0 && len(in.left) < fuzzMessages {
			raw, size := protowire.ConsumeBytes(input)
			if size < 0 {
				break
			}
			input = input[size:]
			m := &pushv1.StreamRequest{}
			if proto.Unmarshal(raw, m) == nil { // else gRPC would have ended the stream
				in.left = append(in.left, m)
			}
		}
		p.serve(t, in)
	})
}

// plane is a control plane over a store in memory, without doors.
type plane struct {
	store   *memstore.Store
	view    *view.View
	specs   *specapi.Service
	targets *publish.Publisher
}

// nobody is the fleet that the spec API asks.
type nobody struct{}

func (nobody) Live(string, string) bool                 { return false }
func (nobody) Capabilities(string, string) [][]string   { return nil }
func (nobody) Condition(string, string) phase.Condition { return phase.CondSynced }

func newPlane(f *testing.F) *plane {
	f.Helper()
	p := &plane{store: memstore.New()}
	if _, err := view.Init(f.Context(), p.store); err != nil {
		f.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.view, err = view.Open(f.Context(), view.Config{Store: p.store, Logger: log}); err != nil {
		f.Fatal(err)
	}
	kek, err := secret.CreateFileKEK(filepath.Join(f.TempDir(), "kek"))
	if err != nil {
		f.Fatal(err)
	}
	vault, err := specapi.OpenVault(f.Context(), specapi.VaultConfig{Store: p.store, KEK: kek})
	if err != nil {
		f.Fatal(err)
	}
	p.specs, err = specapi.New(specapi.Config{Store: p.store, View: p.view, Vault: vault, Fleet: nobody{}, Now: time.Now, Logger: log})
	if err != nil {
		f.Fatal(err)
	}
	changes := p.view.Subscribe()
	p.targets, err = publish.New(publish.Config{
		Logger: log, Source: p.view, Choose: snapshot.Choose, Build: snapshot.BuildFor, Changed: changes.C, Changes: changes,
	})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = p.view.Run(ctx) })
	f.Cleanup(func() {
		cancel()
		running.Wait()
		changes.Close()
		_ = p.store.Close()
	})
	set := []*specv1.File{
		{Path: "bot/agent-base.json", Content: []byte(`{"promptKey": "bot"}`)},
		{Path: "bot/model.json", Content: []byte(`{"model": "m", "baseUrl": "http://127.0.0.1:1/v1", "apiKey": "sk-canary-0123456789"}`)},
		{Path: "bot/mcp-servers.json", Content: []byte(`{"mcpServers": [{"mcpServerName": "tools"}]}`)},
		{Path: "prompts/bot.json", Content: []byte(`{"promptKey": "bot", "version": "1.0.0", "template": "You are a bot."}`)},
		{Path: "mcp/tools.json", Content: []byte(`{"name": "tools", "endpoint": "http://127.0.0.1:2/mcp"}`)},
	}
	admin := access.With(ctx, access.Principal{Name: "fuzz", Admin: true})
	if _, err := p.specs.Apply(admin, connect.NewRequest(&specv1.ApplyRequest{Files: set})); err != nil {
		f.Fatal(err)
	}
	r, err := p.targets.Target(snapshot.InstanceID{Namespace: "default", Agent: "bot", Instance: "i"}, 0, func(manifest.Hash) bool { return false })
	if err != nil || len(r.Lines) != 4 {
		f.Fatalf("the agent isn't there: %+v, %v", r, err)
	}
	return p
}

// serve runs one stream against a Hub and a fleet of its own.
func (p *plane) serve(t *testing.T, in *instance) {
	t.Helper()
	table, err := fleet.New(fleet.Config{Started: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := stream.New(stream.Config{
		Logger: slog.New(slog.DiscardHandler), ReplicaID: "r", View: p.view, Ready: func() bool { return true }, Targets: p.targets, Fleet: table,
		Newest: func(ctx context.Context) (int64, error) { return p.store.Commit(ctx, store.Txn{}) },
		Reveal: p.specs.Reveal, Greet: func(context.Context) error { return nil }, Identify: in.identify, BehindWait: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	in.ctx, in.t = ctx, t
	_ = hub.Stream(in) // how it ends is the instance's doing
	if ctx.Err() != nil {
		t.Fatal("the stream hangs")
	}
	_ = table.All()
	_ = table.Usage()
	cancel() // as gRPC does when the handler has returned
	down, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if err := hub.Shutdown(down); err != nil {
		t.Fatal(err)
	}
	table.Tick(time.Now().Add(time.Hour))
	if n := len(table.All()); n != 0 {
		t.Fatalf("%d instances stay for good", n)
	}
}

// instance is a stream as gRPC gives it to a handler.
type instance struct {
	grpc.ServerStream

	t    *testing.T
	ctx  context.Context //nolint:containedctx // a stream's context is part of it
	apt  bool
	sent chan struct{}
	left []*pushv1.StreamRequest // the reader's own
	said int

	mu    sync.Mutex // guards what follows
	nonce uint64
	token *pushv1.Token
}

func (i *instance) Context() context.Context { return i.ctx }

// identify takes whom the hello says: what callers may ask for isn't what is fuzzed.
func (i *instance) identify(context.Context) (stream.Caller, error) {
	c := stream.Caller{Until: time.Now().Add(time.Hour), Check: func() error { return nil }}
	if len(i.left) > 0 {
		c.ID.Namespace, c.ID.Agent = i.left[0].GetHello().GetNamespace(), i.left[0].GetHello().GetAgent()
	}
	return c, nil
}

// Recv gives the next message once something was sent since the last, or a moment has passed.
func (i *instance) Recv() (*pushv1.StreamRequest, error) {
	if i.said > 0 {
		pause := time.NewTimer(200 * time.Microsecond)
		defer pause.Stop()
		select {
		case <-i.sent:
		case <-pause.C:
		case <-i.ctx.Done():
			return nil, i.ctx.Err()
		}
	}
	if i.said == len(i.left) {
		return nil, io.EOF
	}
	m := i.left[i.said]
	i.said++
	if i.apt {
		i.fit(m)
	}
	return m, nil
}

// fit makes a report an answer to what was sent last.
func (i *instance) fit(m *pushv1.StreamRequest) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.token == nil {
		return
	}
	if b := m.GetBeat(); b.GetRunning() != nil && len(b.GetRunning().GetHash()) != 0 {
		b.Running = i.token
	}
	r := m.GetReport()
	if r == nil {
		return
	}
	if r.GetNonce() != 0 {
		r.Nonce = i.nonce
	}
	if len(r.GetDesired().GetHash()) != 0 {
		r.Desired = i.token
	}
	if len(r.GetRunning().GetHash()) != 0 {
		r.Running = i.token
	}
}

func (i *instance) Send(m *pushv1.StreamResponse) error { return i.SendMsg(m) }

func (i *instance) SendMsg(sent any) error {
	if i.ctx.Err() != nil {
		return errors.New("the stream has ended")
	}
	m := &pushv1.StreamResponse{}
	if b, err := stream.Codec().Marshal(sent); err != nil {
		i.t.Errorf("can't be sent: %v", err)
	} else if err := proto.Unmarshal(b.Materialize(), m); err != nil {
		i.t.Errorf("can't be read: %v", err)
	}
	i.mu.Lock()
	switch m := m.GetMessage().(type) {
	case *pushv1.StreamResponse_Snapshot:
		i.nonce, i.token = m.Snapshot.GetNonce(), m.Snapshot.GetToken()
	case *pushv1.StreamResponse_Current:
		i.nonce, i.token = m.Current.GetNonce(), m.Current.GetToken()
	case *pushv1.StreamResponse_Absent:
		i.nonce = m.Absent.GetNonce()
	case *pushv1.StreamResponse_Command:
		i.nonce = m.Command.GetNonce()
	default:
	}
	i.mu.Unlock()
	select {
	case i.sent <- struct{}{}:
	default:
	}
	return nil
}
