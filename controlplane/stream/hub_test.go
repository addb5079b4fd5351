package stream

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
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

func TestEverySnapshotEndsOnce(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var ends []string
	w := newWorld(t, func(c *Config) {
		c.Answered = func(a Answer) {
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, fmt.Sprintf("g%d %s %d", a.Token.Generation, a.Phase, len(a.Faults)))
		}
	})
	a, b, d := config(10, 1, "agent/x=a"), config(11, 2, "agent/x=b"), config(12, 3, "agent/x=c")
	w.set(a)
	p := w.dial(hello("i1"))
	m := p.expect("snapshot 1 g10 1[agent/x]")
	p.report(nonce(m), received, token(a), nil) // building: no end
	p.report(nonce(m), applied, token(a), token(a))
	w.until("applied", phases(phase.Applied))
	p.report(0, applied, token(a), token(a)) // unasked: no end
	w.set(b)
	m = p.expect("snapshot 2 g11 1[agent/x]")
	p.report(nonce(m), received, token(b), token(a), unreachable()) // retrying: no end
	w.until("received", phases(phase.Received))
	p.report(nonce(m), applied, token(b), token(b))
	w.until("applied", phases(phase.Applied))
	w.set(d)
	m = p.expect("snapshot 3 g12 1[agent/x]")
	p.report(nonce(m), rejected, token(d), token(b), unreachable())
	w.until("rejected", phases(phase.Rejected))
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"g10 APPLIED 0", "g11 APPLIED 0", "g12 REJECTED 1"}; !slices.Equal(ends, want) {
		t.Errorf("ends %q, want %q", ends, want)
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

// Only who was sent the config and doesn't serve it cares about which of its lines are proven.
func TestProvenWakesWhoRetries(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	a := config(10, 1, "agent/x=a")
	w.set(a)
	serves, retries := w.dial(hello("i1")), w.dial(hello("i2"))
	serves.report(nonce(serves.expect("snapshot 1 g10 1[agent/x]")), applied, token(a), token(a))
	retries.report(nonce(retries.expect("snapshot 1 g10 1[agent/x]")), received, token(a), nil, unreachable())
	w.until("answered", func(all []fleet.Instance) bool {
		return all[0].Phase == phase.Applied && all[1].Phase == phase.Received
	})
	w.mu.Lock()
	w.targets[helper] = with(a, func(r *snapshot.Rendered) { r.ProvenKey, r.Snapshot.Proven = "agent/x", []string{"agent/x"} })
	w.mu.Unlock()
	if n := w.hub.Proven(ns, helper, []manifest.Hash{a.Snapshot.Token.Hash}); n != 2 {
		t.Errorf("%d streams", n)
	}
	if m := retries.expect("snapshot 1 g10 1[agent/x]"); len(m.GetSnapshot().GetProven()) != 1 {
		t.Errorf("proven %v", m.GetSnapshot().GetProven())
	}
	serves.quiet(w)
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
		"returned to it since":     {"v1", with(a, func(r *snapshot.Rendered) { r.ReturnedAt, r.ProvenKey = 11, "agent/x" }), ""}, // a missing tool stays missing
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
