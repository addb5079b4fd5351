package configclient

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/durationpb"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

const (
	received = pushv1.Phase_PHASE_RECEIVED
	applied  = pushv1.Phase_PHASE_APPLIED
	degraded = pushv1.Phase_PHASE_DEGRADED
	rejected = pushv1.Phase_PHASE_REJECTED
	fenced   = pushv1.Phase_PHASE_FENCED
)

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

func hashOf(t *pushv1.Token) manifest.Hash { h, _ := manifest.FromBytes(t.GetHash()); return h }

func refusal(code phase.Code) Verdict {
	return Verdict{Phase: phase.Rejected, Faults: []phase.Fault{{Resource: "agent/helper", Code: code, Message: "no", Severity: phase.Error}}}
}

func retryable() Verdict {
	return Verdict{Phase: phase.Received, Faults: []phase.Fault{{Resource: "mcp/a", Code: phase.Unreachable, Message: "refused", Severity: phase.Error, Retryable: true}}}
}

func TestFullThenDeltaThenCurrent(t *testing.T) {
	f, a, dir := newFakeServer(t), newFakeApplier(), t.TempDir()
	_, stop := start(t, dir, f, a)
	st := f.accept(t, "c1")
	if st.hello.GetRunning() != nil || st.hello.GetFence() != nil {
		t.Errorf("the first hello is %v", st.hello)
	}
	one, two := config(5, "0.1"), config(6, "0.2")
	st.snapshot(one.snapshot(t, 1))
	r := st.want(1, applied)
	if hashOf(r.GetRunning()) != one.token().Hash || hashOf(r.GetDesired()) != one.token().Hash {
		t.Errorf("report %v", r)
	}
	st.snapshot(two.snapshot(t, 2, "agent/helper")) // the prompt is held
	st.want(2, applied)
	renamed := two
	renamed.generation, renamed.revision = 9, 7
	st.current(3, renamed)
	r = st.want(3, applied)
	if r.GetRunning().GetGeneration() != 9 {
		t.Errorf("after Current the running token is %v", r.GetRunning())
	}
	other := one
	other.generation = 11
	st.current(4, other)
	if r = st.want(4, applied); hashOf(r.GetRunning()) != two.token().Hash || hashOf(r.GetDesired()) != two.token().Hash {
		t.Errorf("a Current of another hash was answered with %v", r)
	}
	if diff := cmp.Diff([]int64{7}, a.stamps); diff != "" {
		t.Errorf("stamps (-want +got):\n%s", diff)
	}
	stop()

	// A restart comes back with what ran, under the newer stamp, and needs no content.
	b := newFakeApplier()
	start(t, dir, f, b)
	st = f.accept(t, "c1")
	if got := st.hello.GetRunning(); hashOf(got) != two.token().Hash || got.GetGeneration() != 9 {
		t.Errorf("hello after the restart runs %v", got)
	}
	if st.hello.GetConfigState() != pushv1.ConfigState_CONFIG_STATE_LAST_GOOD || st.hello.GetFence().GetGeneration() != 9 {
		t.Errorf("hello after the restart: %v", st.hello)
	}
	if u := b.applied()[0]; !u.FromLastGood || u.Revision != 7 || !u.Proven["agent/helper"] {
		t.Errorf("applied from last good: %+v", u)
	}
}

func TestFence(t *testing.T) {
	f, a, dir := newFakeServer(t), newFakeApplier(), t.TempDir()
	_, stop := start(t, dir, f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	st.want(1, applied)
	st.snapshot(config(4, "0.3").snapshot(t, 2))
	r := st.want(2, fenced)
	if hashOf(r.GetRunning()) != config(5, "0.1").token().Hash {
		t.Errorf("fenced report %v", r)
	}
	st.snapshot(config(5, "0.4").snapshot(t, 3)) // equal generation, another hash: accepted
	st.want(3, applied)
	st.end <- nil
	st = f.accept(t, "c1")
	if len(st.hello.GetRefusals()) != 0 {
		t.Error("fenced content was remembered as refused")
	}
	stop()
}

func TestAnotherClusterIsRefused(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	_, stop := start(t, dir, f, newFakeApplier())
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	st.want(1, applied)
	stop()
	c, stop := start(t, dir, f, newFakeApplier())
	f.accept(t, "c2")
	eventually(t, "the reason does not name the way out", func() bool {
		return cmp.Equal(c.Status().Running, config(5, "0.1").token()) && contains(c.Status().Reason, "--forget-cluster")
	})
	stop()
	s, err := OpenState(StateConfig{Dir: dir, Namespace: "default", Agent: "helper", Persist: PersistSealed, Forget: true})
	if err != nil {
		t.Fatal(err)
	}
	if m := s.recall(); m.Fence.ClusterID != "" || len(s.generations()) != 0 {
		t.Errorf("not forgotten: %+v", m)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestRefusalIsRemembered(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier(Verdict{Phase: phase.Applied}, refusal(phase.ToolMissing))
	_, stop := start(t, dir, f, a)
	st := f.accept(t, "c1")
	good, bad := config(5, "0.1"), config(6, "0.2")
	st.snapshot(good.snapshot(t, 1))
	st.want(1, applied)
	st.snapshot(bad.snapshot(t, 2))
	r := st.want(2, rejected)
	if hashOf(r.GetRunning()) != good.token().Hash || r.GetFaults()[0].GetCode() != "tool_missing" {
		t.Errorf("report %v", r)
	}
	st.snapshot(bad.snapshot(t, 3)) // not applied again
	st.want(3, rejected)
	stop()
	b := newFakeApplier()
	start(t, dir, f, b)
	st = f.accept(t, "c1")
	if got := st.hello.GetRefusals(); len(got) != 1 || got[0].GetGeneration() != 6 || got[0].GetAgentdVersion() != testVersion {
		t.Fatalf("refusals of hello: %v", got)
	}
	st.snapshot(bad.snapshot(t, 1))
	st.want(1, rejected)
	if n := len(b.applied()); n != 1 {
		t.Errorf("applied %d configs, want last good only", n)
	}
	again := bad
	again.generation = 8 // an operator's retry wrote to the head
	st.snapshot(again.snapshot(t, 2))
	st.want(2, applied)
}

func TestRetryUntilItWorks(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier(retryable(), retryable(), retryable(), Verdict{Phase: phase.Applied})
	start(t, dir, f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	r := st.want(1, received)
	if !r.GetFaults()[0].GetRetryable() {
		t.Errorf("report %v", r)
	}
	st.want(1, applied)
	if n := len(a.applied()); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
}

func TestNewerEndsARetryAndDropRefuses(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier(Verdict{Phase: phase.Applied})
	start(t, dir, f, a)
	st := f.accept(t, "c1")
	good, dead, repaired := config(5, "0.1"), config(6, "0.2"), config(7, "0.3")
	st.snapshot(good.snapshot(t, 1))
	st.want(1, applied)
	forever := func(n int) (out []Verdict) {
		for range n {
			out = append(out, retryable())
		}
		return out
	}
	a.mu.Lock()
	a.plan = forever(100000)
	a.mu.Unlock()
	st.snapshot(dead.snapshot(t, 2))
	st.want(2, received)
	a.mu.Lock()
	a.plan = nil
	a.mu.Unlock()
	// The attempt may have come up by now; the newer config is what counts either way.
	st.snapshot(repaired.snapshot(t, 3))
	for {
		r := st.report()
		if r.GetNonce() == 3 && r.GetPhase() == applied && hashOf(r.GetRunning()) == repaired.token().Hash {
			break
		}
	}
	a.mu.Lock()
	a.plan = forever(100000)
	a.mu.Unlock()
	dead.generation, dead.resources = 8, map[string]string{"agent/helper": `{"t":9}`}
	st.snapshot(dead.snapshot(t, 4))
	st.want(4, received)
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{Nonce: 5, Kind: pushv1.CommandKind_COMMAND_KIND_DROP}}})
	r := st.want(5, rejected)
	if hashOf(r.GetDesired()) != dead.token().Hash || hashOf(r.GetRunning()) != repaired.token().Hash || len(r.GetFaults()) != 1 {
		t.Errorf("after drop: %v", r)
	}
	st.end <- nil
	st = f.accept(t, "c1")
	if got := st.hello.GetRefusals(); len(got) != 1 || st.hello.GetPhase() != rejected {
		t.Errorf("hello after drop: %v", st.hello)
	}
}

func TestSupersededAttemptIsCancelled(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier()
	a.block = make(chan struct{})
	start(t, dir, f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	<-a.called
	a.mu.Lock()
	a.block = nil
	a.mu.Unlock()
	st.snapshot(config(6, "0.2").snapshot(t, 2))
	r := st.want(2, applied)
	if hashOf(r.GetRunning()) != config(6, "0.2").token().Hash {
		t.Errorf("report %v", r)
	}
}

func TestSlowApplyIsReported(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier()
	a.block = make(chan struct{})
	start(t, dir, f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	r := (<-st.in).GetReport()
	if r.GetPhase() != received || len(r.GetFaults()) != 0 || r.GetNonce() != 1 {
		t.Errorf("the first report is %v", r)
	}
	close(a.block)
	st.want(1, applied)
}

func TestHashMismatch(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier()
	start(t, dir, f, a)
	st := f.accept(t, "c1")
	broken := config(5, "0.1").snapshot(t, 1)
	var content pushv1.Content
	unmarshal(t, broken.GetContent(), &content)
	content.Resources[0].Json = []byte(`{"t":7}`)
	broken.Content = marshal(t, &content)
	st.snapshot(broken)
	if r := st.want(1, rejected); r.GetFaults()[0].GetCode() != "hash_mismatch" {
		t.Errorf("report %v", r)
	}
	foreign := config(6, "0.2")
	wrong := foreign.snapshot(t, 2)
	wrong.Token.Hash[0] ^= 1
	st.snapshot(wrong)
	st.want(2, rejected)
	// A resource that is neither sent nor held: the ends say anew what is held, once, then it is refused.
	lost := config(7, "0.3")
	st.snapshot(lost.snapshot(t, 3, "prompt/p"))
	st = f.accept(t, "c1")
	st.snapshot(lost.snapshot(t, 1, "prompt/p"))
	st.want(1, rejected)
	if n := len(a.applied()); n != 0 {
		t.Errorf("%d configs were applied", n)
	}
}

func TestAbsent(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier()
	c, stop := start(t, dir, f, a)
	absent := func(st *fakeStream, nonce uint64, reason pushv1.AbsentReason, generation int64) {
		st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Absent{Absent: &pushv1.Absent{
			Nonce: nonce, Reason: reason, Token: &pushv1.Token{Epoch: 1, Generation: generation},
		}}})
	}
	st := f.accept(t, "c1")
	absent(st, 1, pushv1.AbsentReason_ABSENT_REASON_UNKNOWN, 0)
	if r := st.report(); r.GetNonce() != 1 || r.GetRunning() != nil {
		t.Errorf("unknown was answered %v", r)
	}
	eventually(t, "the reason does not say unknown", func() bool { return contains(c.Status().Reason, "unknown") })
	one := config(5, "0.1")
	one.creds = map[string]string{"key": "sk-planted"}
	st.snapshot(one.snapshot(t, 2))
	st.want(2, applied)
	absent(st, 3, pushv1.AbsentReason_ABSENT_REASON_UNKNOWN, 0) // never wipes
	if r := st.want(3, applied); hashOf(r.GetRunning()) != one.token().Hash {
		t.Errorf("unknown was answered %v", r)
	}
	absent(st, 4, pushv1.AbsentReason_ABSENT_REASON_DELETED, 4) // below the fence
	st.want(4, fenced)
	absent(st, 5, pushv1.AbsentReason_ABSENT_REASON_DELETED, 9)
	if r := st.want(5, applied); r.GetRunning() != nil {
		t.Errorf("deleted was answered %v", r)
	}
	if a.gone != "agent deleted" || len(c.cfg.State.generations()) != 0 {
		t.Errorf("after deletion: withdrawn %q, %d generations", a.gone, len(c.cfg.State.generations()))
	}
	st.snapshot(one.snapshot(t, 6)) // a replica behind
	st.want(6, fenced)
	reborn := config(10, "0.5")
	st.snapshot(reborn.snapshot(t, 7))
	st.want(7, applied)
	stop()
}

func TestOverlayAndEndpoints(t *testing.T) {
	f, dir := newFakeServer(t), t.TempDir()
	a := newFakeApplier()
	c, stop := start(t, dir, f, a)
	st := f.accept(t, "c1")
	overlay := func(epoch uint64, mod int64, names ...string) {
		st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Overlay{Overlay: &pushv1.Overlay{Epoch: epoch, ModRevision: mod, Denied: names}}})
	}
	overlay(1, 5, "a/x")
	overlay(1, 4, "a/old")
	overlay(1, 6, "a/x", "b")
	overlay(0, 9, "a/older")
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Endpoints{Endpoints: &pushv1.Endpoints{Complete: true, Endpoints: []*pushv1.Endpoint{{Agent: "p", Instance: "1"}, {Agent: "p", Instance: "2"}}}}})
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Endpoints{Endpoints: &pushv1.Endpoints{Endpoints: []*pushv1.Endpoint{{Agent: "p", Instance: "3"}}}}})
	eventually(t, "old endpoints were not kept", func() bool { return len(c.Status().Endpoints) == 3 })
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Endpoints{Endpoints: &pushv1.Endpoints{Complete: true, Endpoints: []*pushv1.Endpoint{{Agent: "p", Instance: "3"}}}}})
	eventually(t, "gone endpoints were kept", func() bool { return len(c.Status().Endpoints) == 1 })
	want := []string{"a/x", "b"}
	if diff := cmp.Diff(want, c.Status().Overlay.Denied); diff != "" {
		t.Errorf("overlay (-want +got):\n%s", diff)
	}
	stop()
	b := newFakeApplier()
	start(t, dir, f, b)
	f.accept(t, "c1")
	if diff := cmp.Diff(want, b.denied); diff != "" {
		t.Errorf("overlay after a restart (-want +got):\n%s", diff)
	}
}

func TestHealthIsReported(t *testing.T) {
	f, a := newFakeServer(t), newFakeApplier()
	start(t, t.TempDir(), f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 1))
	st.want(1, applied)
	a.health <- Verdict{Phase: phase.Degraded, Faults: []phase.Fault{{Resource: "mcp/a", Code: phase.Unreachable, Severity: phase.Error}}}
	st.want(0, degraded)
	a.health <- Verdict{Phase: phase.Applied}
	st.want(0, applied)
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{Nonce: 2, Kind: pushv1.CommandKind_COMMAND_KIND_RESEND_REPORT}}})
	st.want(2, applied)
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Command{Command: &pushv1.Command{Nonce: 3, Kind: pushv1.CommandKind_COMMAND_KIND_RELOAD}}})
	st.want(3, applied)
	if n := len(a.applied()); n != 2 {
		t.Errorf("%d applies, want 2", n)
	}
}

func TestGoawayAndBackoff(t *testing.T) {
	f := newFakeServer(t)
	f.setFail(true)
	c, _ := start(t, t.TempDir(), f, newFakeApplier())
	eventually(t, "the reason does not name the failure", func() bool { return contains(c.Status().Reason, "connection refused") })
	f.setFail(false)
	st := f.accept(t, "c1")
	st.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: &pushv1.Goaway{Reason: "restart", RetryAfter: durationpb.New(time.Millisecond)}}})
	f.accept(t, "c1")
}

func TestVerdictOfAnEarlierStreamCarriesNoNonce(t *testing.T) {
	f, a := newFakeServer(t), newFakeApplier()
	a.block = make(chan struct{})
	start(t, t.TempDir(), f, a)
	st := f.accept(t, "c1")
	st.snapshot(config(5, "0.1").snapshot(t, 77))
	<-a.called
	st.end <- nil
	st = f.accept(t, "c1")
	if got := len(st.hello.GetHeld()); got != 2 {
		t.Errorf("hello holds %d lines, want those of what is being applied", got)
	}
	eventually(t, "the second stream was not welcomed", func() bool { return true })
	close(a.block)
	for {
		r := st.report()
		if r.GetPhase() == applied {
			if r.GetNonce() != 0 {
				t.Errorf("nonce %d of a dead stream", r.GetNonce())
			}
			break
		}
	}
}
