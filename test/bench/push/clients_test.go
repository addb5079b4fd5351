package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/rpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
)

// serveTest runs a server with the settings that the compared ones have, with mutual TLS where env has an authority.
func serveTest(t *testing.T, env func(string) string, register func(*grpc.Server)) string {
	t.Helper()
	door, err := serverTLS(env)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := rpc.NewServer(rpc.Config{Logger: slog.New(slog.DiscardHandler), Auth: rpc.Open, TLS: door})
	if err != nil {
		t.Fatal(err)
	}
	register(srv)
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String()
}

// testCrowd makes instances of one agent, with the two beside them.
func testCrowd(t *testing.T, env func(string) string, system, target string, n int) *crowd {
	t.Helper()
	creds, err := newClientCreds(env)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCrowd(system, target, creds, n, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// poll waits until something holds.
func poll(t *testing.T, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !holds() {
		if err := pause(ctx, time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func authorityEnv(t *testing.T) func(string) string {
	t.Helper()
	a, err := newAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{envCert: a.cert, envKey: a.key}
	return func(key string) string { return vars[key] }
}

// do has a crowd do something and fails where it can't.
func do(t *testing.T, c *crowd, op, scope string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	r, err := c.do(ctx, command{Op: op, Scope: scope})
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	return r
}

// The work of a run in small, against both servers to compare with, by TLS and in plaintext: everybody is told, everybody acknowledges a
// change, one refuses, and all come back.
func TestACrowdDoesItsWork(t *testing.T) {
	const n = 20
	content := &pushv1.Content{
		Manifest:  []*pushv1.ManifestLine{{Kind: "prompt", Name: "p", Version: "1"}},
		Resources: []*pushv1.Resource{{Kind: "prompt", Name: "p", Version: "1", Json: make([]byte, 3000)}},
	}
	for _, system := range []string{nameYardstick, nameXDS} {
		for name, env := range map[string]func(string) string{"TLS": authorityEnv(t), "plaintext": func(string) string { return "" }} {
			t.Run(system+" "+name, func(t *testing.T) {
				ctx := t.Context()
				y := &yardstick{agents: map[string]*group{}}
				var x *xds
				target := serveTest(t, env, func(srv *grpc.Server) {
					if system == nameXDS {
						x = newXDS(ctx, srv)
					} else {
						pushv1.RegisterConfigServiceServer(srv, y)
					}
				})
				version := int64(0)
				publish := func(agents ...string) {
					t.Helper()
					version++
					for _, a := range agents {
						if x != nil {
							if err := x.publish(ctx, a, withVersion(content, version), version); err != nil {
								t.Fatal(err)
							}
							continue
						}
						y.publish(a, marshal(t, withVersion(content, version)), version)
					}
				}
				publish(agentName(0), soloAgent, refuserAgent)
				c := testCrowd(t, env, system, target, n)
				opened := do(t, c, "open", "")
				// The refuser's content isn't counted; that of go-control-plane is wrapped.
				if each := opened.Bytes / (n + 1); each < 3000 || each > 3300 {
					t.Errorf("%d bytes for each", each)
				}
				if system == nameYardstick {
					first := &pushv1.Content{}
					if err := proto.Unmarshal(opened.Content, first); err != nil || len(first.GetResources()) != 1 {
						t.Errorf("the first content: %v, %v", first, err)
					}
				}
				for _, scope := range []string{scopeAll, soloAgent} {
					do(t, c, "arm", scope)
					began := now()
					publish(map[string]string{scopeAll: agentName(0), soloAgent: soloAgent}[scope])
					r := do(t, c, "wait", "")
					if r.P50 < int64(began) || r.P99 < r.P50 || r.Last < r.P99 {
						t.Errorf("a change to %s: %+v, begun at %d", scope, r, began)
					}
				}
				do(t, c, "refuse", "")
				publish(refuserAgent)
				poll(t, func() bool { return c.refused.Load() > 0 })
				if r := do(t, c, "refused", ""); r.Sent < 1 {
					t.Errorf("refused %d times", r.Sent)
				}
				for _, way := range []string{wayAnew, wayResumed} {
					do(t, c, "leave", way)
					if r := do(t, c, "return", ""); system == nameYardstick && r.Bytes != 0 {
						t.Errorf("%s: %d bytes to those who hold all", way, r.Bytes)
					}
				}
			})
		}
	}
}

// farewell is a server that says goodbye on an instance's first stream, and serves the next one.
type farewell struct {
	pushv1.UnimplementedConfigServiceServer

	mu     sync.Mutex // guards what follows
	from   []string
	hellos []*pushv1.Hello
	report *pushv1.Report
}

func (f *farewell) Stream(s grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]) error {
	in, err := s.Recv()
	if err != nil {
		return err
	}
	p, _ := peer.FromContext(s.Context())
	f.mu.Lock()
	f.from, f.hellos = append(f.from, p.Addr.String()), append(f.hellos, in.GetHello())
	first := len(f.from) == 1
	f.mu.Unlock()
	if first {
		return s.Send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{
			Reason: "too many", RetryAfter: durationpb.New(time.Millisecond),
		}}})
	}
	if err := s.Send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{
		Nonce: 5, Token: &pushv1.Token{Epoch: 1, Hash: []byte("h")},
	}}}); err != nil {
		return err
	}
	for {
		in, err := s.Recv()
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.report = in.GetReport()
		f.mu.Unlock()
	}
}

// An instance that is told to go away comes back on the connection that it has, as one of agentd does.
func TestAGoodbyeKeepsTheConnection(t *testing.T) {
	f := &farewell{}
	env := authorityEnv(t)
	target := serveTest(t, env, func(srv *grpc.Server) { pushv1.RegisterConfigServiceServer(srv, f) })
	c := testCrowd(t, env, nameYardstick, target, 1)
	m := c.members[0]
	if err := m.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	poll(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.report != nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.from) != 2 || f.from[0] != f.from[1] {
		t.Errorf("streams of %v", f.from)
	}
	if r := f.report; r.GetNonce() != 5 || r.GetPhase() != pushv1.Phase_PHASE_APPLIED || string(r.GetRunning().GetHash()) != "h" {
		t.Errorf("reported %v", r)
	}
	if h := f.hellos[0]; h.GetAgent() != agentName(0) || h.GetInstance() != fmt.Sprintf("instance-%05d", 0) || h.GetRunning() != nil {
		t.Errorf("introduced as %v", h)
	}
}

// A connection that breaks while an instance is away is made anew.
func TestABrokenConnectionIsMadeAnew(t *testing.T) {
	env := authorityEnv(t)
	var old *grpc.Server
	serve := func() string {
		return serveTest(t, env, func(srv *grpc.Server) {
			old = srv
			pushv1.RegisterConfigServiceServer(srv, &yardstick{agents: map[string]*group{}})
		})
	}
	c := testCrowd(t, env, nameYardstick, serve(), 1)
	m := c.members[0]
	defer m.hangUp()
	call := func() {
		t.Helper()
		hello, err := m.hello()
		if err != nil {
			t.Fatal(err)
		}
		if err := m.call(t.Context(), hello); err != nil {
			t.Fatal(err)
		}
	}
	call()
	before := m.conn
	if err := m.away(t.Context(), time.Millisecond); err != nil || m.conn != before {
		t.Fatalf("a connection that is well wasn't kept: %v", err)
	}
	old.Stop() // it has closed its connections when it returns
	if err := m.away(t.Context(), 100*time.Millisecond); err != nil || m.conn != nil {
		t.Fatalf("a broken connection was kept: %v", err)
	}
	c.target = serve()
	call()
}

// Whoever holds a content says what it holds and runs when it comes back.
func TestAHelloTellsWhatIsHeld(t *testing.T) {
	token := &pushv1.Token{Epoch: 2, Generation: 4, Hash: []byte("h")}
	lines := []*pushv1.ManifestLine{{Kind: "prompt", Name: "p", Version: "1", Sha256: []byte("s")}}
	m := &member{
		crowd: &crowd{}, agent: "a", index: 3,
		running: marshal(t, token), last: marshal(t, &pushv1.Content{Manifest: lines, Resources: []*pushv1.Resource{{Kind: "prompt"}}}),
	}
	b, err := m.hello()
	if err != nil {
		t.Fatal(err)
	}
	got := &pushv1.StreamRequest{}
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	want := &pushv1.Hello{Namespace: "default", Agent: "a", Instance: "instance-00003", AgentdVersion: "bench", Running: token, Held: lines}
	if !proto.Equal(got.GetHello(), want) {
		t.Errorf("introduced as %v, not %v", got.GetHello(), want)
	}
}
