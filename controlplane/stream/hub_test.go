package stream

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

const (
	received = pushv1.Phase_PHASE_RECEIVED
	applied  = pushv1.Phase_PHASE_APPLIED
	degraded = pushv1.Phase_PHASE_DEGRADED
	rejected = pushv1.Phase_PHASE_REJECTED
	fenced   = pushv1.Phase_PHASE_FENCED
)

func missingTool() *pushv1.Fault {
	return &pushv1.Fault{Resource: "agent/x", Field: "$.tools", Code: "tool_missing", Severity: pushv1.Severity_SEVERITY_ERROR}
}

func unreachable() *pushv1.Fault {
	return &pushv1.Fault{Resource: "mcp/a", Code: "unreachable", Severity: pushv1.Severity_SEVERITY_ERROR, Retryable: true}
}

func phases(p phase.Phase) func([]fleet.Instance) bool {
	return func(all []fleet.Instance) bool { return len(all) == 1 && all[0].Phase == p }
}

// eight is a config of 8 resources whose MCP entry "m3" has a text of its own.
func eight(generation, revision int64, m3 string) *snapshot.Rendered {
	parts := []string{"agent/x=a", "prompt/p=p"}
	for i := range 6 {
		text := "same"
		if i == 3 {
			text = m3
		}
		parts = append(parts, fmt.Sprintf("mcp/m%d=%s", i, text))
	}
	return config(generation, revision, parts...)
}

func TestWelcomeFirstThenOverlayThenSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(with(config(10, 1, "agent/x=a"), func(r *snapshot.Rendered) { r.Denied = []string{"srv/tool"} }))
	p := w.dial(hello("i1"))
	var got []string
	for range 3 {
		got = append(got, short(t, <-p.in))
	}
	if d := cmp.Diff([]string{"welcome", "overlay srv/tool", "snapshot 1 g10 1[agent/x]"}, got); d != "" {
		t.Error(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.greets != 1 {
		t.Errorf("greeted %d times, want once", w.greets)
	}
}

func TestOneInFlightLatestWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b, c := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b"), config(12, 3, "agent/x=c")
	w.set(a)
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 1[agent/x]")
	p.report(nonce(m), received, token(a), nil)
	w.until("received", phases(phase.Received))
	w.set(b)
	w.set(c)
	p.quiet(w) // a plain RECEIVED frees nothing
	p.report(nonce(m), applied, token(a), token(a))
	p.expect("snapshot 3 g12 1[agent/x]")
}

func TestRetryableFreesTheSlot(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		next *snapshot.Rendered
		want string
	}{
		"newer snapshot":    {config(12, 3, "agent/x=c"), "snapshot 3 g12 1[agent/x]"},
		"back to what runs": {config(12, 1, "agent/x=a"), "current 1 g12"},
		"deleted":           {absence(12, snapshot.Deleted), "deleted g12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			a, b := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b")
			w.set(a)
			p := w.dial(hello("i1"))
			p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
			w.set(b)
			m := p.expect("snapshot 2 g11 1[agent/x]")
			p.report(nonce(m), received, token(b), token(a), unreachable())
			w.until("received", phases(phase.Received))
			p.quiet(w) // the same config isn't sent again
			w.set(tc.next)
			p.expect(tc.want)
		})
	}
}

func TestProvenChangeIsSentAgainWhileRetrying(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a", "mcp/a=a")
	w.set(a)
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 2[agent/x mcp/a]")
	p.report(nonce(m), received, token(a), nil, unreachable())
	w.until("received", phases(phase.Received))
	newer := with(a, func(r *snapshot.Rendered) { r.Snapshot.Token.Generation = 11 })
	w.set(newer)
	p.quiet(w) // a newer generation alone would only end the retry
	w.set(with(newer, func(r *snapshot.Rendered) { r.ProvenKey, r.Snapshot.Proven = "mcp/a", []string{"mcp/a"} }))
	if m := p.expect("snapshot 1 g11 2[agent/x mcp/a]"); len(m.GetSnapshot().GetProven()) != 1 {
		t.Errorf("proven %v", m.GetSnapshot().GetProven())
	}
}

func TestNonces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b, c := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b"), config(12, 3, "agent/x=c")
	w.set(a)
	p := w.dial(hello("i1"))
	m1 := p.expect("snapshot 1 g10 1[agent/x]")
	p.report(nonce(m1), applied, token(a), token(a))
	w.set(b)
	m2 := p.expect("snapshot 2 g11 1[agent/x]")
	if nonce(m2) == nonce(m1) {
		t.Fatal("a nonce was used twice")
	}
	w.set(c)
	p.report(nonce(m1), rejected, token(b), token(a), missingTool()) // old nonce: ignored whole
	p.report(0, rejected, token(b), token(a), missingTool())         // from an earlier stream: only running counts
	p.report(0, applied, token(b), token(b))
	w.until("running b", func(all []fleet.Instance) bool { return all[0].Running.Token == b.Snapshot.Token })
	if all := w.table.Agent(ns, helper); len(all[0].Refused) != 0 {
		t.Errorf("a refusal was taken from a nonce that counts not: %+v", all[0].Refused)
	}
	p.quiet(w) // and none of the three freed the slot
	p.report(nonce(m2), applied, token(b), token(b))
	p.expect("snapshot 3 g12 1[agent/x]")
}

func TestResume(t *testing.T) {
	t.Parallel()
	before := eight(10, 1, "old")
	for name, tc := range map[string]struct {
		now  *snapshot.Rendered
		want string
	}{
		"nothing changed":      {before, "current 1 g10"},
		"only the generation":  {with(before, func(r *snapshot.Rendered) { r.Snapshot.Token.Generation = 12 }), "current 1 g12"},
		"one of 8 changed":     {eight(11, 2, "new"), "snapshot 2 g11 8[mcp/m3]"},
		"one gone":             {config(11, 2, "agent/x=a", "prompt/p=p"), "snapshot 2 g11 2[]"},
		"agent not known here": {absence(0, snapshot.Unknown), "unknown g0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.set(tc.now)
			h := hello("i1")
			h.Running, h.Phase, h.Held = token(before), applied, heldOf(before)
			p := w.dial(h)
			m := p.expect(tc.want)
			if c := m.GetCurrent(); c != nil && w.hub.Stats().Bytes != 0 {
				t.Errorf("%d bytes of content were sent", w.hub.Stats().Bytes)
			}
		})
	}
}

func TestDeltaAfterAcknowledgement(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, b, c := eight(10, 1, "old"), eight(11, 2, "new"), eight(12, 3, "newer")
	w.set(a)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 8[agent/x mcp/m0 mcp/m1 mcp/m2 mcp/m3 mcp/m4 mcp/m5 prompt/p]")), applied, token(a), token(a))
	w.set(b)
	p.report(nonce(p.expect("snapshot 2 g11 8[mcp/m3]")), rejected, token(b), token(a), missingTool())
	w.set(c) // what it refused isn't held for sure
	p.expect("snapshot 3 g12 8[mcp/m3]")
}

func TestRefusedOnceAcrossReconnects(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		remembers bool // the instance says so in its Hello
		end       func(*peer)
		forget    bool // the control plane restarted in between
	}{
		"instance remembers":         {remembers: true, end: (*peer).close},
		"instance forgets":           {end: (*peer).close},
		"instance stops and forgets": {end: (*peer).leave},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			a := config(10, 1, "agent/x=a")
			w.set(a)
			p := w.dial(hello("i1"))
			p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), rejected, token(a), nil, missingTool())
			w.until("rejected", phases(phase.Rejected))
			p.quiet(w)
			for range 2 {
				tc.end(p)
				h := hello("i1")
				if tc.remembers {
					h.Refusals = []*pushv1.Refusal{{
						Hash: a.Snapshot.Token.Hash[:], Epoch: 1, Generation: 10, AgentdVersion: "v1", Faults: []*pushv1.Fault{missingTool()},
					}}
				}
				p = w.dial(h)
				p.quiet(w)
				w.until("rejected", func(all []fleet.Instance) bool {
					return phases(phase.Rejected)(all) && len(all[0].Faults) == 1 && all[0].Faults[0].Code == phase.ToolMissing
				})
			}
			if got := w.hub.Stats().Snapshots; got != 1 {
				t.Errorf("%d snapshots of the refused hash, want 1", got)
			}
		})
	}
}

func TestWhatVoidsARefusal(t *testing.T) {
	t.Parallel()
	a := config(10, 1, "agent/x=a")
	for name, tc := range map[string]struct {
		version string
		now     *snapshot.Rendered
		want    string // "" is silence
	}{
		"nothing":                  {"v1", a, ""},
		"another agentd":           {"v0", a, "snapshot 1 g10 1[agent/x]"},
		"operator's retry":         {"v1", with(a, func(r *snapshot.Rendered) { r.ResetEpoch, r.ResetGeneration = 1, 11 }), "snapshot 1 g10 1[agent/x]"},
		"an older retry":           {"v1", with(a, func(r *snapshot.Rendered) { r.ResetEpoch, r.ResetGeneration = 1, 10 }), ""},
		"returned to it since":     {"v1", with(a, func(r *snapshot.Rendered) { r.ReturnedAt, r.ProvenKey = 11, "agent/x" }), "snapshot 1 g10 1[agent/x]"},
		"proven but not retryable": {"v1", with(a, func(r *snapshot.Rendered) { r.ProvenKey = "agent/x" }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.set(tc.now)
			h := hello("i1")
			h.Refusals = []*pushv1.Refusal{{
				Hash: a.Snapshot.Token.Hash[:], Epoch: 1, Generation: 10, AgentdVersion: tc.version, Faults: []*pushv1.Fault{missingTool()},
			}}
			p := w.dial(h)
			if tc.want != "" {
				p.expect(tc.want)
				return
			}
			p.quiet(w)
			w.until("rejected", phases(phase.Rejected))
		})
	}
}

func TestDropEndsTheRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	id := snapshot.InstanceID{Namespace: ns, Agent: helper, Instance: "i1"}
	w.set(a)
	if w.hub.Drop(id) {
		t.Fatal("dropped what isn't there")
	}
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 1[agent/x]")
	p.report(nonce(m), received, token(a), nil, unreachable())
	w.until("received", phases(phase.Received))
	if !w.hub.Drop(id) {
		t.Fatal("there was a retry to drop")
	}
	m = p.expect("drop")
	w.until("rejected", phases(phase.Rejected))
	p.report(nonce(m), rejected, token(a), nil, unreachable())
	p.quiet(w)
	// Another instance proved it: that can end differently.
	w.set(with(a, func(r *snapshot.Rendered) { r.ProvenKey = "agent/x" }))
	p.expect("snapshot 1 g10 1[agent/x]")
}

func TestAnswersThatFree(t *testing.T) {
	t.Parallel()
	a, b := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b")
	for name, ph := range map[string]pushv1.Phase{"applied": applied, "degraded": degraded, "rejected": rejected, "fenced": fenced} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.set(a)
			p := w.dial(hello("i1"))
			running := token(a)
			if ph == rejected || ph == fenced {
				running = nil
			}
			p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), ph, token(a), running)
			w.set(b)
			p.expect("snapshot 2 g11 1[agent/x]")
		})
	}
}

func TestAbsentThenApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(absence(0, snapshot.Unknown))
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("unknown g0")), received, nil, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	w.until("applied", phases(phase.Applied))
	w.set(absence(11, snapshot.Deleted))
	p.report(nonce(p.expect("deleted g11")), applied, nil, nil)
	w.until("nothing runs", func(all []fleet.Instance) bool { return all[0].Running.Token.IsZero() })
	w.set(config(12, 2, "agent/x=a"))
	p.expect("snapshot 2 g12 1[agent/x]") // the bytes were wiped: all of them again
}

func TestNewFactsNewTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	stable, candidate := config(10, 1, "agent/x=a"), config(10, 2, "agent/x=b")
	w.mu.Lock()
	w.targets[helper+"@0"] = stable // an instance that runs nothing is offered stable first
	w.mu.Unlock()
	w.set(candidate)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(stable), token(stable))
	p.expect("snapshot 2 g10 1[agent/x]")
}

func TestCredentialsTravelBeside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.mu.Lock()
	w.secrets["key/3"] = "s3cret-value"
	w.mu.Unlock()
	w.set(config(10, 1, "agent/x=a", "credential/key=3"))
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 2[agent/x]").GetSnapshot()
	if len(m.GetCredentials()) != 1 || string(m.GetCredentials()[0].GetValue()) != "s3cret-value" || m.GetCredentials()[0].GetVersion() != 3 {
		t.Error("the value did not come")
	}
	if strings.Contains(string(m.GetContent()), "s3cret-value") {
		t.Error("the value is in the content")
	}
}

func TestBuildErrorKeepsWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	w.until("applied", phases(phase.Applied))
	w.fail(errs.New(errs.NotFound, "dangling"))
	w.hub.Changed(ns, helper)
	w.fail(nil)
	w.set(config(12, 2, "agent/x=b"))
	p.expect("snapshot 2 g12 1[agent/x]")
}

func TestDuplicateNewerWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	older := w.dial(hello("i1"))
	older.expect("snapshot 1 g10 1[agent/x]")
	newer := w.dial(hello("i1"))
	older.expect("goaway duplicate")
	if err := older.gone(); status.Code(err) != codes.Unknown && err.Error() != "EOF" {
		t.Errorf("older ended with %v", err)
	}
	newer.expect("snapshot 1 g10 1[agent/x]")
	newer.quiet(w)
	if all := w.table.Agent(ns, helper); len(all) != 1 || !all[0].Connected {
		t.Errorf("fleet: %+v", all)
	}
}

func TestFence(t *testing.T) {
	t.Parallel()
	short := func(c *Config) { c.BehindWait = 20 * time.Millisecond }
	for name, tc := range map[string]struct {
		fence *pushv1.Fence
		tune  func(*Config)
		do    func(*world)
		want  string
		code  codes.Code
	}{
		"at it":             {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 100}, want: "snapshot 1 g10 1[agent/x]"},
		"another cluster":   {fence: &pushv1.Fence{ClusterId: "c2", Epoch: 9, Generation: 900}, want: "snapshot 1 g10 1[agent/x]"},
		"an older epoch":    {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 0, Generation: 900}, want: "snapshot 1 g10 1[agent/x]"},
		"a newer epoch":     {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 2, Generation: 1}, want: "goaway replica is behind: epoch"},
		"view stays behind": {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 150}, tune: short, want: "goaway replica is behind"},
		"view catches up":   {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 150}, do: func(w *world) { w.move(160) }, want: "snapshot 1 g10 1[agent/x]"},
		"store went back":   {fence: &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 500}, want: "end", code: codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, tc.tune)
			w.mu.Lock()
			w.newest = 200
			w.mu.Unlock()
			w.set(config(10, 1, "agent/x=a"))
			h := hello("i1")
			h.Fence = tc.fence
			p := w.dial(h)
			if tc.do != nil {
				tc.do(w)
			}
			p.expect(tc.want)
			if tc.code != codes.OK {
				if err := <-p.err; status.Code(err) != tc.code {
					t.Errorf("ended with %v", err)
				}
				if w.hub.Alarm() == "" {
					t.Error("no alarm")
				}
			}
		})
	}
}

func TestStoreWentBackAtTwoAgentsStopsPushing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	calm := w.dial(hello("calm"))
	calm.report(nonce(calm.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	for _, agent := range []string{"one", "two"} {
		h := hello("i1")
		h.Agent, h.Fence = agent, &pushv1.Fence{ClusterId: clusterID, Epoch: 1, Generation: 500}
		p := w.dial(h)
		p.expect("end")
	}
	if !strings.Contains(w.hub.Alarm(), "STORE_WENT_BACK") {
		t.Error("no alarm")
	}
	if r, _ := (&conn{hub: w.hub}).target(); r != nil {
		t.Error("still pushing")
	}
	late := w.dial(hello("late"))
	late.expect("end")
	if err := <-late.err; status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream got %v", err)
	}
}

func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300)
	for name, tc := range map[string]struct {
		change func(*world, *pushv1.Hello)
		want   codes.Code
	}{
		"view not loaded": {func(w *world, _ *pushv1.Hello) { w.mu.Lock(); w.ready = false; w.mu.Unlock() }, codes.Unavailable},
		"no namespace":    {func(_ *world, h *pushv1.Hello) { h.Namespace = "" }, codes.InvalidArgument},
		"agent name":      {func(_ *world, h *pushv1.Hello) { h.Agent = "a/b" }, codes.InvalidArgument},
		"instance id":     {func(_ *world, h *pushv1.Hello) { h.Instance = long }, codes.InvalidArgument},
		"version":         {func(_ *world, h *pushv1.Hello) { h.AgentdVersion = long }, codes.InvalidArgument},
		"label":           {func(_ *world, h *pushv1.Hello) { h.Labels = map[string]string{"a": long} }, codes.InvalidArgument},
		"endpoint":        {func(_ *world, h *pushv1.Hello) { h.Endpoints = []string{long} }, codes.InvalidArgument},
		"refusals":        {func(_ *world, h *pushv1.Hello) { h.Refusals = make([]*pushv1.Refusal, 9) }, codes.InvalidArgument},
		"refusal hash":    {func(_ *world, h *pushv1.Hello) { h.Refusals = []*pushv1.Refusal{{Hash: []byte("x")}} }, codes.InvalidArgument},
		"held hash":       {func(_ *world, h *pushv1.Hello) { h.Held = []*pushv1.ManifestLine{{Kind: "mcp", Name: "a"}} }, codes.InvalidArgument},
		"running hash":    {func(_ *world, h *pushv1.Hello) { h.Running = &pushv1.Token{Hash: []byte("x")} }, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			h := hello("i1")
			tc.change(w, h)
			p := w.dial(h)
			p.expect("end")
			if err := <-p.err; status.Code(err) != tc.want {
				t.Errorf("ended with %v, want %v", err, tc.want)
			}
			if n := len(w.table.All()); n != 0 {
				t.Errorf("%d instances were entered", n)
			}
		})
	}
}

func TestNoHello(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.HelloWait = 10 * time.Millisecond })
	p := w.connect()
	if _, err := p.stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("ended with %v", err)
	}
}

func TestSlowReaderHurtsNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *Config) { c.SendWait = 50 * time.Millisecond })
	big := func(generation int64) *snapshot.Rendered {
		return config(generation, generation, "agent/x="+strings.Repeat("a", 1<<20)+fmt.Sprint(generation))
	}
	w.set(big(10))
	stuck := w.connect() // never reads
	stuck.send(&pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: hello("stuck")}})
	w.until("offered", func(all []fleet.Instance) bool { return len(all) == 1 && !all[0].Offered.IsZero() })
	p := w.dial(hello("i1"))
	r := big(10)
	p.report(nonce(p.expect("snapshot 10 g10 1[agent/x]")), applied, token(r), token(r))
	// The stuck one has a full window; an overlay makes the next send wait.
	w.set(with(r, func(r *snapshot.Rendered) { r.Denied = []string{"a"} }))
	p.expect("overlay a")
	w.until("only the other is left", func(all []fleet.Instance) bool {
		return len(all) == 2 && all[0].ID.Instance == "i1" && all[0].Connected && !all[1].Connected
	})
	if got := w.hub.Stats().Stuck; got != 1 {
		t.Errorf("%d streams were stuck, want 1", got)
	}
	r = big(11)
	w.set(r)
	p.expect("snapshot 11 g11 1[agent/x]")
}

func TestShutdownSendsEverybodyAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	var peers []*peer
	for i := range 10 {
		p := w.dial(hello(fmt.Sprintf("i%d", i)))
		p.expect("snapshot 1 g10 1[agent/x]")
		peers = append(peers, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if err := w.hub.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	waits := map[time.Duration]bool{}
	for _, p := range peers {
		waits[p.expect("goaway shutdown").GetGoaway().GetRetryAfter().AsDuration()] = true
	}
	if len(waits) < 5 {
		t.Errorf("retry_after isn't spread: %v", waits)
	}
	late := w.dial(hello("late"))
	late.expect("end")
	if err := <-late.err; status.Code(err) != codes.Unavailable {
		t.Errorf("a new stream got %v", err)
	}
}

func TestAdriftInstanceIsOfferedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a, other := config(10, 1, "agent/x=a"), config(3, 0, "agent/x=z")
	w.set(a)
	p := w.dial(hello("i1"))
	p.report(nonce(p.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	p.beat(token(a))
	w.until("applied", phases(phase.Applied))
	p.quiet(w)
	p.beat(token(other))
	p.expect("snapshot 1 g10 1[agent/x]")
	if got := w.hub.Stats().Adrift; got != 1 {
		t.Errorf("adrift %d, want 1", got)
	}
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.set(config(10, 1, "agent/x=a"))
	p := w.dial(hello("i1"))
	p.expect("snapshot 1 g10 1[agent/x]")
	p.close()
	w.until("lost, but kept", func(all []fleet.Instance) bool { return len(all) == 1 && !all[0].Connected })
	p = w.dial(hello("i1"))
	p.expect("snapshot 1 g10 1[agent/x]")
	p.leave()
	w.until("gone", func(all []fleet.Instance) bool { return len(all) == 0 })
}
