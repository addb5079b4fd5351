package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
)

const (
	ns        = "default"
	helper    = "nacos-helper"
	clusterID = "c1"
	wait      = 20 * time.Second
)

// world is a fake view and a fake publisher around a real Hub, a real fleet table and a real gRPC server.
type world struct {
	tb    testing.TB
	hub   *Hub
	table *fleet.Table
	lis   *bufconn.Listener
	srv   *grpc.Server

	mu       sync.Mutex
	cluster  view.Cluster
	revision int64
	newest   int64
	ready    bool
	moved    chan struct{}
	targets  map[string]*snapshot.Rendered // by agent, and by agent@runs where that matters
	err      error
	secrets  map[string]string
	greets   int
	revoked  map[snapshot.InstanceID]error
	life     time.Duration // of certificates
}

func newWorld(tb testing.TB, tune func(*Config)) *world {
	tb.Helper()
	w := &world{
		tb: tb, cluster: view.Cluster{ID: clusterID, Epoch: 1}, revision: 100, newest: 100, ready: true,
		moved: make(chan struct{}), targets: map[string]*snapshot.Rendered{}, secrets: map[string]string{},
		revoked: map[snapshot.InstanceID]error{}, life: time.Hour,
	}
	var err error
	w.table, err = fleet.New(fleet.Config{Started: time.Now()})
	if err != nil {
		tb.Fatal(err)
	}
	cfg := Config{
		Logger: slog.New(slog.DiscardHandler), ReplicaID: "r1", View: w, Targets: w, Fleet: w.table,
		Ready: func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.ready },
		Newest: func(context.Context) (int64, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.newest, nil
		},
		Reveal: func(_, name string, version int64) (secret.Value, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			v, ok := w.secrets[fmt.Sprintf("%s/%d", name, version)]
			if !ok {
				return secret.Value{}, errs.New(errs.NotFound, "no such version")
			}
			return secret.NewValue(v), nil
		},
		Greet:    func(context.Context) error { w.mu.Lock(); defer w.mu.Unlock(); w.greets++; return nil },
		Identify: w.identify,
	}
	if tune != nil {
		tune(&cfg)
	}
	w.hub, err = New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	w.srv, err = rpc.NewServer(rpc.Config{Logger: cfg.Logger, Auth: rpc.Open, Options: []grpc.ServerOption{grpc.ForceServerCodecV2(Codec())}})
	if err != nil {
		tb.Fatal(err)
	}
	pushv1.RegisterConfigServiceServer(w.srv, w.hub)
	w.lis = bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- w.srv.Serve(w.lis) }()
	tb.Cleanup(func() {
		w.srv.Stop()
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		if err := w.hub.Shutdown(ctx); err != nil {
			tb.Errorf("shutdown: %v", err)
		}
	})
	return w
}

func (w *world) Cluster() view.Cluster { w.mu.Lock(); defer w.mu.Unlock(); return w.cluster }

func (w *world) Revision() int64 { w.mu.Lock(); defer w.mu.Unlock(); return w.revision }

func (w *world) AppliedConfigs(string, string) []view.AppliedConfig { return nil }

func (w *world) WaitFor(ctx context.Context, rev int64) error {
	for {
		w.mu.Lock()
		at, moved := w.revision, w.moved
		w.mu.Unlock()
		if at >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return errs.New(errs.Timeout, "view: %w", ctx.Err())
		}
	}
}

func (w *world) move(rev int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.revision = rev
	close(w.moved)
	w.moved = make(chan struct{})
}

// Target is a Build that knows two classes of instances: any, and those that run a certain revision.
func (w *world) Target(id snapshot.InstanceID, runs int64, _ func(manifest.Hash) bool) (*snapshot.Rendered, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	if r, ok := w.targets[fmt.Sprintf("%s@%d", id.Agent, runs)]; ok {
		return r, nil
	}
	if r, ok := w.targets[id.Agent]; ok {
		return r, nil
	}
	return &snapshot.Rendered{Snapshot: snapshot.Snapshot{Absent: snapshot.Unknown, Token: manifest.Token{Epoch: 1}}}, nil
}

// set publishes a target of the one agent.
func (w *world) set(r *snapshot.Rendered) {
	w.mu.Lock()
	w.targets[helper] = r
	w.mu.Unlock()
	w.hub.Changed(ns, helper)
}

func (w *world) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
}

// config makes a rendered config. Each part is kind/name=text; a credential's text is its version.
func config(generation, revision int64, parts ...string) *snapshot.Rendered {
	var res []snapshot.Resource
	var names []string
	for _, p := range parts {
		head, text, _ := strings.Cut(p, "=")
		kind, name, _ := strings.Cut(head, "/")
		if kind == manifest.KindCredential {
			res = append(res, snapshot.Resource{Line: manifest.Line{Kind: kind, Name: name, Version: text}})
			names = append(names, name)
			continue
		}
		json := []byte(`{"text":"` + text + `"}`)
		res = append(res, snapshot.Resource{Line: manifest.Line{Kind: kind, Name: name, Version: "-", SHA256: manifest.Sum(json)}, JSON: json})
	}
	slices.SortFunc(res, func(a, b snapshot.Resource) int { return strings.Compare(a.Line.Text(), b.Line.Text()) })
	lines := make([]manifest.Line, len(res))
	for i, r := range res {
		lines[i] = r.Line
	}
	s := snapshot.Snapshot{
		Token: manifest.Token{Epoch: 1, Generation: generation, Hash: manifest.Of(lines)}, Revision: revision,
		Resources: res, Credentials: names,
	}
	return &snapshot.Rendered{Snapshot: s, Lines: lines, DeniedAt: generation, Content: func(missing []bool) ([]byte, error) {
		c := &pushv1.Content{}
		for i, l := range lines {
			m := &pushv1.ManifestLine{Kind: l.Kind, Name: l.Name, Version: l.Version}
			if l.Kind != manifest.KindCredential {
				m.Sha256 = l.SHA256[:]
			}
			c.Manifest = append(c.Manifest, m)
			if missing[i] {
				c.Resources = append(c.Resources, &pushv1.Resource{Kind: l.Kind, Name: l.Name, Version: l.Version, Json: res[i].JSON})
			}
		}
		return proto.Marshal(c)
	}}
}

func absence(generation int64, why snapshot.Absence) *snapshot.Rendered {
	return &snapshot.Rendered{Snapshot: snapshot.Snapshot{Absent: why, Token: manifest.Token{Epoch: 1, Generation: generation}}}
}

// with copies a rendered config and changes the copy.
func with(r *snapshot.Rendered, change func(*snapshot.Rendered)) *snapshot.Rendered {
	c := *r
	change(&c)
	return &c
}

// peer is a raw push client.
type peer struct {
	tb     testing.TB
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[pushv1.StreamRequest, pushv1.StreamResponse]
	in     chan *pushv1.StreamResponse
	err    chan error
	cancel context.CancelFunc
	done   sync.WaitGroup
}

func hello(instance string) *pushv1.Hello {
	return &pushv1.Hello{Namespace: ns, Agent: helper, Instance: instance, AgentdVersion: "v1"}
}

// identify takes whom connect says: what the certificate is elsewhere.
func (w *world) identify(ctx context.Context) (Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	p := strings.Split(strings.Join(md.Get("caller"), ""), "|")
	if len(p) != 3 {
		return Caller{}, errs.New(errs.Unauthenticated, "no caller")
	}
	id := snapshot.InstanceID{Namespace: p[0], Agent: p[1], Instance: p[2]}
	return Caller{ID: id, Until: time.Now().Add(w.life), Check: func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.revoked[id]
	}}, nil
}

// dial opens a stream and sends its Hello; the messages are read by next.
func (w *world) dial(h *pushv1.Hello) *peer {
	w.tb.Helper()
	return w.dialAs(h.GetNamespace()+"|"+h.GetAgent()+"|", h)
}

// dialAs is dial of a caller whose certificate may be of somebody else.
func (w *world) dialAs(caller string, h *pushv1.Hello) *peer {
	w.tb.Helper()
	p := w.connectAs(caller)
	p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: h}})
	p.done.Go(func() {
		for {
			m, err := p.stream.Recv()
			if err != nil {
				p.err <- err
				close(p.in)
				return
			}
			p.in <- m
		}
	})
	return p
}

// connect opens a stream of any instance without reading from it.
func (w *world) connect() *peer {
	w.tb.Helper()
	return w.connectAs(ns + "|" + helper + "|")
}

func (w *world) connectAs(caller string) *peer {
	w.tb.Helper()
	conn, err := rpc.Dial("passthrough:///bufnet", rpc.DialConfig{Options: []grpc.DialOption{
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.lis.DialContext(ctx) }),
	}})
	if err != nil {
		w.tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "caller", caller))
	p := &peer{tb: w.tb, conn: conn, in: make(chan *pushv1.StreamResponse, 1024), err: make(chan error, 1), cancel: cancel}
	p.stream, err = pushv1.NewConfigServiceClient(conn).Stream(ctx)
	if err != nil {
		w.tb.Fatal(err)
	}
	w.tb.Cleanup(p.close)
	return p
}

// close breaks the stream.
func (p *peer) close() {
	p.cancel()
	_ = p.conn.Close()
	p.done.Wait()
}

// leave ends the stream cleanly.
func (p *peer) leave() {
	_ = p.stream.CloseSend()
	_ = p.gone() // EOF: the server saw a clean end
	p.close()
}

func (p *peer) send(m *pushv1.StreamRequest) {
	p.tb.Helper()
	if err := p.stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
		p.tb.Fatal(err)
	}
}

// report answers; running is the config that runs, nil for none.
func (p *peer) report(nonce uint64, ph pushv1.Phase, desired, running *pushv1.Token, faults ...*pushv1.Fault) {
	p.tb.Helper()
	p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: &pushv1.Report{
		Nonce: nonce, Phase: ph, Desired: desired, Running: running, Faults: faults,
	}}})
}

func (p *peer) beat(running *pushv1.Token) {
	p.tb.Helper()
	p.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Beat{Beat: &pushv1.Beat{Running: running}}})
}

// next gives the next message in short form with the message; Welcome and empty overlays are passed over.
func (p *peer) next() (string, *pushv1.StreamResponse) {
	p.tb.Helper()
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case m, ok := <-p.in:
			if !ok {
				return "end", nil
			}
			s := short(p.tb, m)
			if s == "welcome" || s == "overlay" {
				continue
			}
			return s, m
		case <-t.C:
			p.tb.Fatal("no message came")
		}
	}
}

// expect reads one message and compares its short form.
func (p *peer) expect(want string) *pushv1.StreamResponse {
	p.tb.Helper()
	got, m := p.next()
	if got != want {
		p.tb.Fatalf("got %q, want %q", got, want)
	}
	return m
}

// quiet makes sure that nothing was sent up to now: a barrier message is made to arrive after it. The barrier is an
// overlay, which the slot never holds back.
func (p *peer) quiet(w *world) {
	p.tb.Helper()
	w.mu.Lock()
	r := *w.targets[helper]
	barrier := fmt.Sprintf("barrier-%d", time.Now().UnixNano())
	before := r.Denied
	r.Denied = []string{barrier}
	w.targets[helper] = &r
	w.mu.Unlock()
	w.hub.Changed(ns, helper)
	p.expect("overlay " + barrier)
	w.mu.Lock()
	r2 := r
	r2.Denied = before
	w.targets[helper] = &r2
	w.mu.Unlock()
	w.hub.Changed(ns, helper)
	if len(before) > 0 {
		p.expect("overlay " + strings.Join(before, ","))
	}
}

// gone waits for the end of the stream and gives its error.
func (p *peer) gone() error {
	p.tb.Helper()
	for {
		if s, _ := p.next(); s == "end" {
			return <-p.err
		}
	}
}

// short is a message in one line: what a transcript shows.
func short(tb testing.TB, m *pushv1.StreamResponse) string {
	tb.Helper()
	switch m := m.GetMessage().(type) {
	case *pushv1.StreamResponse_Welcome:
		return "welcome"
	case *pushv1.StreamResponse_Snapshot:
		var c pushv1.Content
		if err := proto.Unmarshal(m.Snapshot.GetContent(), &c); err != nil {
			tb.Fatal(err)
		}
		names := make([]string, 0, len(c.GetResources()))
		for _, r := range c.GetResources() {
			names = append(names, r.GetKind()+"/"+r.GetName())
		}
		return fmt.Sprintf("snapshot %d g%d %d[%s]", m.Snapshot.GetRevision(), m.Snapshot.GetToken().GetGeneration(),
			len(c.GetManifest()), strings.Join(names, " "))
	case *pushv1.StreamResponse_Current:
		return fmt.Sprintf("current %d g%d", m.Current.GetRevision(), m.Current.GetToken().GetGeneration())
	case *pushv1.StreamResponse_Absent:
		return strings.ToLower(strings.TrimPrefix(m.Absent.GetReason().String(), "ABSENT_REASON_")) +
			fmt.Sprintf(" g%d", m.Absent.GetToken().GetGeneration())
	case *pushv1.StreamResponse_Overlay:
		return strings.TrimSpace("overlay " + strings.Join(m.Overlay.GetDenied(), ","))
	case *pushv1.StreamResponse_Goaway:
		return "goaway " + m.Goaway.GetReason()
	case *pushv1.StreamResponse_Command:
		return strings.ToLower(strings.TrimPrefix(m.Command.GetKind().String(), "COMMAND_KIND_"))
	default:
		return "?"
	}
}

func nonce(m *pushv1.StreamResponse) uint64 {
	switch m := m.GetMessage().(type) {
	case *pushv1.StreamResponse_Snapshot:
		return m.Snapshot.GetNonce()
	case *pushv1.StreamResponse_Current:
		return m.Current.GetNonce()
	case *pushv1.StreamResponse_Absent:
		return m.Absent.GetNonce()
	case *pushv1.StreamResponse_Command:
		return m.Command.GetNonce()
	default:
		return 0
	}
}

func token(r *snapshot.Rendered) *pushv1.Token { return tokenToWire(r.Snapshot.Token) }

func heldOf(r *snapshot.Rendered) []*pushv1.ManifestLine {
	var out []*pushv1.ManifestLine
	for _, l := range r.Lines {
		w := &pushv1.ManifestLine{Kind: l.Kind, Name: l.Name, Version: l.Version}
		if l.Kind != manifest.KindCredential {
			w.Sha256 = l.SHA256[:]
		}
		out = append(out, w)
	}
	return out
}

// until waits for a condition that the fleet table must reach.
func (w *world) until(what string, holds func([]fleet.Instance) bool) {
	w.tb.Helper()
	s := w.table.Subscribe()
	defer s.Close()
	t := time.NewTimer(wait)
	defer t.Stop()
	for !holds(w.table.Agent(ns, helper)) {
		select {
		case <-s.C:
			s.Take()
		case <-t.C:
			w.tb.Fatalf("never: %s; fleet: %+v", what, w.table.Agent(ns, helper))
		}
	}
}
