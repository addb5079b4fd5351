package configclient

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

const testVersion = "1.0.0-test"

// fakeServer is a control plane whose every word the test says.
type fakeServer struct {
	pushv1.UnimplementedConfigServiceServer
	streams  chan *fakeStream
	listener *bufconn.Listener
	dials    int
	mu       sync.Mutex
	fail     bool
}

type fakeStream struct {
	t     *testing.T
	hello *pushv1.Hello
	s     grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]
	in    chan *pushv1.StreamRequest
	end   chan error
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	f := &fakeServer{streams: make(chan *fakeStream, 8), listener: bufconn.Listen(1 << 20)}
	s := grpc.NewServer()
	pushv1.RegisterConfigServiceServer(s, f)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(f.listener)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return f
}

func (f *fakeServer) Stream(s grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]) error {
	first, err := s.Recv()
	if err != nil {
		return err
	}
	st := &fakeStream{hello: first.GetHello(), s: s, in: make(chan *pushv1.StreamRequest, 64), end: make(chan error, 1)}
	f.streams <- st
	left := make(chan struct{})
	go func() { // ends with the stream, so after the handler
		defer close(left)
		for {
			m, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case st.in <- m:
			case <-s.Context().Done():
				return
			}
		}
	}()
	select {
	case err := <-st.end:
		return err
	case <-left:
		return nil
	}
}

func (f *fakeServer) setFail(v bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = v
}

func (f *fakeServer) dial(context.Context, string) (Conn, error) {
	f.mu.Lock()
	f.dials++
	fail := f.fail
	f.mu.Unlock()
	if fail {
		return nil, errors.New("connection refused")
	}
	return grpc.NewClient("passthrough:///fake", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return f.listener.DialContext(ctx) }))
}

// accept waits for the next stream and welcomes it.
func (f *fakeServer) accept(t *testing.T, cluster string) *fakeStream {
	t.Helper()
	select {
	case st := <-f.streams:
		st.t = t
		st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{ClusterId: cluster, ReplicaId: "r1", Epoch: 1, FleetComplete: true}}})
		return st
	case <-time.After(20 * time.Second):
		t.Fatal("no stream was opened")
		return nil
	}
}

func (st *fakeStream) send(m *pushv1.StreamResponse) {
	st.t.Helper()
	if err := st.s.Send(m); err != nil {
		st.t.Fatalf("send: %v", err)
	}
}

func (st *fakeStream) snapshot(m *pushv1.Snapshot) {
	st.t.Helper()
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Snapshot{Snapshot: m}})
}

func (st *fakeStream) current(nonce uint64, c testConfig) {
	st.t.Helper()
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{Nonce: nonce, Token: tokenToWire(c.token()), Revision: c.revision}}})
}

// report waits for the next report that is not a plain RECEIVED.
func (st *fakeStream) report() *pushv1.Report {
	st.t.Helper()
	for {
		select {
		case m := <-st.in:
			r := m.GetReport()
			if r == nil || (r.GetPhase() == pushv1.Phase_PHASE_RECEIVED && len(r.GetFaults()) == 0) {
				continue
			}
			return r
		case <-time.After(20 * time.Second):
			st.t.Fatal("no report came")
			return nil
		}
	}
}

// want waits for a report of this phase under this nonce, passing over others.
func (st *fakeStream) want(nonce uint64, p pushv1.Phase) *pushv1.Report {
	st.t.Helper()
	r := st.report()
	if r.GetNonce() != nonce || r.GetPhase() != p {
		st.t.Fatalf("report %v, want nonce %d phase %v", r, nonce, p)
	}
	return r
}

// testConfig is a config in the making.
type testConfig struct {
	revision   int64
	generation int64
	epoch      uint64
	resources  map[string]string // kind/name -> JSON
	creds      map[string]string
}

func config(generation int64, temperature string) testConfig {
	return testConfig{revision: generation, generation: generation, epoch: 1, resources: map[string]string{
		"agent/helper": `{"t":` + temperature + `}`, "prompt/p": `{"x":1}`,
	}}
}

func (c testConfig) lines() []manifest.Line {
	var out []manifest.Line
	for r, b := range c.resources {
		kind, name, _ := strings.Cut(r, "/")
		out = append(out, manifest.Line{Kind: kind, Name: name, Version: "-", SHA256: manifest.Sum([]byte(b))})
	}
	for name := range c.creds {
		out = append(out, manifest.Line{Kind: manifest.KindCredential, Name: name, Version: "1"})
	}
	manifest.Sort(out)
	return out
}

func (c testConfig) token() manifest.Token {
	return manifest.Token{Epoch: c.epoch, Generation: c.generation, Hash: manifest.Of(c.lines())}
}

// snapshot makes a Snapshot with the bytes of these resources only; none named: all.
func (c testConfig) snapshot(tb testing.TB, nonce uint64, only ...string) *pushv1.Snapshot {
	tb.Helper()
	content := &pushv1.Content{Manifest: linesToWire(c.lines())}
	for _, l := range c.lines() {
		send := len(only) == 0
		for _, o := range only {
			send = send || o == l.Resource()
		}
		if send && l.Kind != manifest.KindCredential {
			content.Resources = append(content.Resources, &pushv1.Resource{Kind: l.Kind, Name: l.Name, Version: l.Version, Json: []byte(c.resources[l.Resource()])})
		}
	}
	b, err := proto.Marshal(content)
	if err != nil {
		tb.Fatal(err)
	}
	s := &pushv1.Snapshot{Nonce: nonce, Token: tokenToWire(c.token()), Revision: c.revision, Content: b}
	for name, v := range c.creds {
		s.Credentials = append(s.Credentials, &pushv1.CredentialValue{Name: name, Version: 1, Value: []byte(v)})
	}
	return s
}

func (c testConfig) update() Update {
	u := Update{Token: c.token(), Revision: c.revision, Lines: c.lines(), Resources: map[string][]byte{}, Proven: map[string]bool{}, Credentials: map[string]Credential{}}
	for r, b := range c.resources {
		u.Resources[r] = []byte(b)
	}
	for name, v := range c.creds {
		u.Credentials[name] = Credential{Version: 1, Value: secret.NewValue(v)}
	}
	return u
}

// fakeApplier answers what the test says, after committing what serves.
type fakeApplier struct {
	health chan Verdict
	mu     sync.Mutex
	plan   []Verdict // answers in turn; empty: APPLIED
	seen   []Update
	denied []string
	stamps []int64
	gone   string
	block  chan struct{} // while not nil, Apply waits for it or ctx
	called chan struct{}

	committed func() // when not nil, called after each Commit, before the swap
}

func newFakeApplier(plan ...Verdict) *fakeApplier {
	return &fakeApplier{health: make(chan Verdict, 1), plan: plan, called: make(chan struct{}, 256)}
}

func (a *fakeApplier) Apply(ctx context.Context, u Update) Verdict {
	a.mu.Lock()
	a.seen = append(a.seen, u)
	v := Verdict{Phase: phase.Applied}
	if len(a.plan) > 0 {
		v, a.plan = a.plan[0], a.plan[1:]
	}
	block := a.block
	a.mu.Unlock()
	a.called <- struct{}{}
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return Verdict{Phase: phase.Received}
		}
	}
	if v.Phase.Serving() {
		switch err := u.Commit(ctx); {
		case errors.Is(err, ErrFenced):
			return Verdict{Phase: phase.Fenced}
		case err != nil:
			return Verdict{Phase: phase.Degraded, Faults: []phase.Fault{{Code: phase.NotPersisted, Message: err.Error()}}}
		}
		if a.committed != nil {
			a.committed()
		}
	}
	return v
}

func (a *fakeApplier) Restamp(_ manifest.Token, revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stamps = append(a.stamps, revision)
}

func (a *fakeApplier) Withdraw(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gone = reason
}

func (a *fakeApplier) SetDenied(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied = names
}

func (a *fakeApplier) Health() <-chan Verdict { return a.health }

func (a *fakeApplier) applied() []Update {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]Update(nil), a.seen...)
}

// start runs a client on a state directory until the test or stop ends it.
func start(t *testing.T, dir string, f *fakeServer, a *fakeApplier) (c *Client, stop func()) {
	t.Helper()
	st, err := OpenState(StateConfig{Dir: dir, Namespace: "default", Agent: "helper", Persist: PersistSealed})
	if err != nil {
		t.Fatal(err)
	}
	c, err = New(Config{
		Namespace: "default", Agent: "helper", Version: testVersion, Addresses: []string{"fake"}, Dial: f.dial,
		State: st, Applier: a, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	c.pace.retryMin, c.pace.retryMax = time.Millisecond, 5*time.Millisecond
	c.pace.connectMin, c.pace.connectMax = time.Millisecond, 20*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}
