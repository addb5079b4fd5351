package configclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// Bounds of one input of FuzzMessages.
const (
	fuzzBytes    = 64 << 10
	fuzzMessages = 24
)

// script makes an input of FuzzMessages: every message after its length.
func script(tb testing.TB, all ...*pushv1.StreamResponse) []byte {
	tb.Helper()
	var out []byte
	for _, m := range all {
		b, err := proto.Marshal(m)
		if err != nil {
			tb.Fatal(err)
		}
		out = protowire.AppendBytes(out, b)
	}
	return out
}

// FuzzMessages: nothing that a control plane says makes an instance panic, run what doesn't match its hashes, or lower its
// fence. With whole, snapshots are given the hashes of what they carry, so that more of them get past the checks.
func FuzzMessages(f *testing.F) {
	snapshot := func(m *pushv1.Snapshot) *pushv1.StreamResponse {
		return &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Snapshot{Snapshot: m}}
	}
	a, b := config(5, "0.1"), config(6, "0.2")
	b.creds = map[string]string{"key": "canary"}
	current := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Current{Current: &pushv1.Current{Nonce: 3, Token: tokenToWire(a.token()), Revision: 9}}}
	deleted := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Absent{Absent: &pushv1.Absent{Nonce: 4, Reason: pushv1.AbsentReason_ABSENT_REASON_DELETED, Token: &pushv1.Token{Epoch: 1, Generation: 9}}}}
	unknown := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Absent{Absent: &pushv1.Absent{Nonce: 5}}}
	overlay := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Overlay{Overlay: &pushv1.Overlay{Epoch: 1, ModRevision: 7, Denied: []string{"a/b"}}}}
	ends := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Endpoints{Endpoints: &pushv1.Endpoints{Endpoints: []*pushv1.Endpoint{{Agent: "x", Instance: "y"}}}}}
	away := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{Reason: "why"}}}
	welcome := &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{ClusterId: "c2", Epoch: 2}}}
	var commands []*pushv1.StreamResponse
	for kind := range pushv1.CommandKind(6) {
		commands = append(commands, &pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{Nonce: 6, Kind: kind}}})
	}
	f.Add(script(f, snapshot(a.snapshot(f, 1)), snapshot(b.snapshot(f, 2)), current), false)
	f.Add(script(f, snapshot(a.snapshot(f, 1)), deleted, snapshot(a.snapshot(f, 2)), unknown), true)
	f.Add(script(f, append(commands, snapshot(a.snapshot(f, 1)), overlay, ends, away, snapshot(b.snapshot(f, 2, "prompt/p")), welcome)...), true)
	f.Add(script(f, append([]*pushv1.StreamResponse{snapshot(a.snapshot(f, 1))}, commands...)...), false)
	f.Add(script(f, &pushv1.StreamResponse{}, snapshot(&pushv1.Snapshot{}), snapshot(&pushv1.Snapshot{Token: tokenToWire(a.token()), Content: []byte("x")})), false)
	f.Fuzz(func(t *testing.T, input []byte, whole bool) {
		if len(input) > fuzzBytes {
			return
		}
		d := newFuzzDriver(t)
		for n := 0; len(input) > 0 && n < fuzzMessages; n++ {
			raw, size := protowire.ConsumeBytes(input)
			if size < 0 {
				break
			}
			input = input[size:]
			m := &pushv1.StreamResponse{}
			if proto.Unmarshal(raw, m) != nil {
				continue // gRPC would have ended the stream
			}
			if s := m.GetSnapshot(); s != nil && whole {
				complete(s)
			}
			d.take(m)
		}
		d.end()
	})
}

// complete gives a snapshot the hashes of what it carries.
func complete(s *pushv1.Snapshot) {
	var content pushv1.Content
	if proto.Unmarshal(s.GetContent(), &content) != nil {
		return
	}
	sums := map[string]manifest.Hash{}
	for _, r := range content.GetResources() {
		sums[r.GetKind()+"/"+r.GetName()] = manifest.Sum(r.GetJson())
	}
	for _, l := range content.GetManifest() {
		if h, ok := sums[l.GetKind()+"/"+l.GetName()]; ok && l.GetKind() != manifest.KindCredential {
			l.Sha256 = h[:]
		}
	}
	lines, ok := linesFromWire(content.GetManifest())
	if !ok || s.GetToken() == nil {
		return
	}
	h := manifest.Of(lines)
	s.Token.Hash = h[:]
	s.Content, _ = proto.Marshal(&content)
}

// fuzzDriver drives a driver by hand: no stream, no timers, a state that can't be written.
type fuzzDriver struct {
	*driver
	t     *testing.T
	fence manifest.Fence
}

func newFuzzDriver(t *testing.T) *fuzzDriver {
	t.Helper()
	c, err := New(Config{
		Namespace: "default", Agent: "helper", Version: testVersion, Addresses: []string{"fuzz"},
		Dial:  func(context.Context, string) (Conn, error) { return nil, errors.New("nowhere") },
		State: &State{dir: filepath.Join(t.Name(), "nowhere"), namespace: "default", agent: "helper", instance: "i", persist: PersistNone},
		// What it runs must be whole, so the verdicts come from the token.
		Applier: &tokenApplier{t: t}, Log: slog.New(slog.DiscardHandler), Redactor: &secret.Redactor{}, Drain: func() {},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &fuzzDriver{driver: newDriver(c), t: t}
	d.opened()
	return d
}

// opened begins a stream and welcomes it.
func (d *fuzzDriver) opened() {
	d.links++
	d.link = &link{id: d.links, address: "fuzz", out: make(chan *pushv1.StreamRequest, outBound), cancel: func() {}, opened: true}
	d.hello(d.t.Context())
	d.take(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{ClusterId: "c1", Epoch: 1}}})
}

func (d *fuzzDriver) take(m *pushv1.StreamResponse) {
	d.t.Helper()
	d.onMessage(d.t.Context(), m)
	d.onSlow(d.t.Context())
	d.settled()
	d.attempt(d.t.Context()) // the retry timer
	d.settled()
	d.sendBeat(d.t.Context())
	d.publish()
	d.check()
	for len(d.link.out) > 0 {
		if _, err := proto.Marshal(<-d.link.out); err != nil {
			d.t.Fatalf("can't be sent: %v", err)
		}
	}
	if d.link.ended != "" {
		d.onClosed(d.t.Context(), io.EOF)
		d.reconnect.Stop()
		d.links++
		d.link = &link{id: d.links, address: "fuzz", out: make(chan *pushv1.StreamRequest, outBound), cancel: func() {}, opened: true, welcomed: true, cluster: "c1"}
		d.hello(d.t.Context())
	}
}

func (d *fuzzDriver) settled() {
	for d.inFlight != nil {
		d.onResult(d.t.Context(), <-d.results)
	}
}

// check holds what must hold after every message.
func (d *fuzzDriver) check() {
	d.t.Helper()
	fence := d.cfg.State.recall().Fence
	if fence.ClusterID == d.fence.ClusterID && fence.Epoch == d.fence.Epoch && fence.Generation < d.fence.Generation {
		d.t.Fatalf("the fence fell from %+v to %+v", d.fence, fence)
	}
	d.fence = fence
	if u := d.running; u != nil {
		wholeUpdate(d.t, *u)
	}
	if n := len(d.cfg.State.recall().Refusals); n > maxRefusals {
		d.t.Fatalf("%d refusals", n)
	}
}

func (d *fuzzDriver) end() {
	d.wg.Wait()
	for _, t := range []*time.Timer{d.reconnect, d.welcome, d.beat, d.hold, d.received, d.retry} {
		t.Stop()
	}
}

func wholeUpdate(t *testing.T, u Update) {
	t.Helper()
	if manifest.Of(u.Lines) != u.Token.Hash {
		t.Fatal("a manifest that does not match its hash runs")
	}
	for _, l := range u.Lines {
		if _, held := u.Credentials[l.Name]; l.Kind == manifest.KindCredential && !held {
			t.Fatalf("%s runs without a value", l.Resource())
		}
		if l.Kind != manifest.KindCredential && manifest.Sum(u.Resources[l.Resource()]) != l.SHA256 {
			t.Fatalf("%s does not match its hash", l.Resource())
		}
	}
}

// tokenApplier takes its verdicts from the config's hash, so that the same input always goes the same way.
type tokenApplier struct{ t *testing.T }

func (a *tokenApplier) Apply(ctx context.Context, u Update) Verdict {
	fault := phase.Fault{Resource: "mcp/x", Code: phase.Unreachable, Severity: phase.Error, Retryable: true}
	if manifest.Of(u.Lines) != u.Token.Hash {
		a.t.Error("asked to apply what does not match its hash")
	}
	switch u.Token.Hash[0] % 4 {
	case 0:
		return Verdict{Phase: phase.Rejected, Faults: []phase.Fault{{Resource: "mcp/x", Code: phase.ToolMissing, Severity: phase.Error}}}
	case 1:
		return Verdict{Phase: phase.Received, Faults: []phase.Fault{fault}}
	}
	if err := u.Commit(ctx); errors.Is(err, ErrFenced) {
		return Verdict{Phase: phase.Fenced}
	}
	return Verdict{Phase: phase.Applied}
}

func (a *tokenApplier) Restamp(manifest.Token, int64) {}
func (a *tokenApplier) Withdraw(string)               {}
func (a *tokenApplier) SetDenied([]string)            {}
func (a *tokenApplier) Health() <-chan Verdict        { return nil }
