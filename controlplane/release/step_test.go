package release

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

var start = time.Unix(1_800_000_000, 0).UTC()

func after(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func specHash(name string) manifest.Hash { return manifest.Sum([]byte("spec " + name)) }

// config is own spec s with version p of the shared prompt, as revision n.
func config(n int64, s, p string) Config {
	lines := []manifest.Line{
		{Kind: manifest.KindAgent, Name: "a", Version: "-", SHA256: specHash(s)},
		{Kind: manifest.KindPrompt, Name: "p", Version: p, SHA256: manifest.Sum([]byte("prompt " + p))},
	}
	manifest.Sort(lines)
	return Config{Revision: n, Hash: manifest.Of(lines), Lines: lines, Generation: 100 + n}
}

func hash(n int64, s, p string) manifest.Hash { return config(n, s, p).Hash }

func apply(s string, live bool) Apply {
	return Apply{At: start, Spec: specHash(s), Manifest: hash(0, s, "1"), Live: live}
}

var fault = []phase.Fault{{Resource: "agent/a", Field: "tools.allow[0]", Code: phase.ToolMissing, Severity: phase.Error}}

// runs is an instance that serves what it should.
func runs(id string, c Config) Instance {
	return Instance{ID: id, Target: c.Revision, Desired: c.Hash, Runs: c.Revision, Running: c.Hash}
}

// silent is an instance that serves c and hasn't answered for want.
func silent(id string, c, want Config) Instance {
	return Instance{ID: id, Target: want.Revision, Desired: want.Hash, Runs: c.Revision, Running: c.Hash}
}

func refuses(in Instance) Instance {
	in.Refused = map[manifest.Hash][]phase.Fault{in.Desired: fault}
	return in
}

func retries(in Instance) Instance {
	in.Retrying = true
	in.Faults = []phase.Fault{{Resource: "mcp/m", Code: phase.Unreachable, Severity: phase.Error, Retryable: true}}
	return in
}

// play steps a state through events and fails on a refused command.
func play(t *testing.T, events ...Event) State {
	t.Helper()
	var s State
	for i, e := range events {
		next, actions := Step(s, e)
		for _, a := range actions {
			if r, ok := a.(Refuse); ok {
				t.Fatalf("event %d: %s", i, r.Reason)
			}
		}
		s = next
	}
	return s
}

var (
	c1  = config(1, "one", "1")
	c2  = config(2, "two", "1")
	c3  = config(3, "three", "1")
	c12 = config(1, "one", "2") // the prompt moved
	c22 = config(2, "two", "2")
)

// proven1 is revision 1 stable and proven.
func proven1() []Event {
	return []Event{
		apply("one", false),
		Observe{At: start, Complete: true, Stable: &c1, Instances: []Instance{runs("i", c1)}},
	}
}

// candidate2 is revision 2 on its way over a proven 1.
func candidate2(policy string) []Event {
	e := apply("two", true)
	e.Policy.OnReject = policy
	return append(proven1(), e)
}

func onCandidate(at time.Time, instances ...Instance) Observe {
	return Observe{
		At: at, Complete: true, Stable: &c1, Candidate: &c2, Applied: []Config{c1}, Instances: instances,
		Written: map[string]time.Time{"prompt/p": start},
	}
}

func refused2(policy string) []Event {
	return append(candidate2(policy), onCandidate(after(1), refuses(silent("i", c1, c2))))
}

// summary is what a head says, in one line.
func summary(s State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "stable %d", s.Stable)
	if s.Unproven {
		b.WriteString(" unproven")
	}
	fmt.Fprintf(&b, " proven %d", s.Proven)
	if s.Candidate != nil {
		fmt.Fprintf(&b, " candidate %d", s.Candidate.Revision)
	}
	if s.Hold != nil {
		fmt.Fprintf(&b, " hold %d served %t", s.Hold.Revision, s.Hold.Served)
	}
	if l := s.LastRefusal; l != nil {
		fmt.Fprintf(&b, " refusal %d %s %d", l.Revision, l.Action, l.RolledBackTo)
	}
	b.WriteString(" |")
	for _, r := range s.Revisions {
		fmt.Fprintf(&b, " %d:%s", r.N, r.State)
	}
	return b.String()
}

// did names actions.
func did(actions []Action) []string {
	var out []string
	for _, a := range actions {
		switch a := a.(type) {
		case Refuse:
			out = append(out, fmt.Sprintf("refuse %d", a.Why))
		case Unchanged:
			out = append(out, fmt.Sprintf("unchanged %d", a.Revision))
		case Moved:
			out = append(out, fmt.Sprintf("%s %d->%d", a.Move, a.From, a.To))
		case Reset:
			out = append(out, "reset")
		case KeepApplied:
			out = append(out, "applied "+manifest.ConfigName(a.Config.Revision, a.Config.Hash)[:1])
		case KeepRefusal:
			out = append(out, "refusal "+a.Config[:1])
		case Write:
			out = append(out, "write")
		case Drop:
			out = append(out, "drop "+a.Instance)
		case Check:
			out = append(out, fmt.Sprintf("check %ds", int(a.At.Sub(start).Seconds())))
		}
	}
	return out
}

func TestStep(t *testing.T) {
	cases := map[string]struct {
		given []Event
		event Event
		want  string
		does  []string
	}{
		"8: no instance at all: stable at once but unproven": {
			event: apply("one", false),
			want:  "stable 1 unproven proven 0 | 1:stable", does: []string{"apply 0->1"},
		},
		"8: first APPLIED of an unproven stable proves it": {
			given: []Event{apply("one", false)},
			event: Observe{At: start, Complete: true, Stable: &c1, Instances: []Instance{runs("i", c1)}},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"applied 1", "prove 1->1"},
		},
		"8: a candidate becomes stable when every live instance APPLIED it": {
			given: candidate2(""),
			event: onCandidate(after(1), runs("i", c2), runs("j", c2)),
			want:  "stable 2 proven 2 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
		},
		"8: every other that is live and within the deadline": {
			given: candidate2(""),
			event: onCandidate(after(1), runs("i", c2), silent("j", c1, c2)),
			want:  "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"applied 2", "check 60s"},
		},
		"8: silent ones are lagging and don't block": {
			given: candidate2(""),
			event: onCandidate(after(60), runs("i", c2), silent("j", c1, c2)),
			want:  "stable 2 proven 2 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
		},
		"8: all silent at the deadline: hold": {
			given: candidate2(""),
			event: onCandidate(after(60), silent("i", c1, c2), silent("j", c1, c2)),
			want:  "stable 1 proven 1 hold 2 served false | 1:stable 2:refused", does: []string{"hold 2->1"},
		},
		"8: an unproven stable that is refused falls back to the proven": {
			given: append(proven1(), apply("two", false)),
			event: Observe{
				At: after(1), Complete: true, Stable: &c2, Applied: []Config{c1},
				Instances: []Instance{refuses(silent("i", c1, c2))},
			},
			want: "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refusal 2", "return 2->1"},
		},
		"8: newest apply supersedes an open candidate": {
			given: candidate2(""),
			event: apply("three", true),
			want:  "stable 1 proven 1 candidate 3 | 1:stable 2:superseded 3:candidate", does: []string{"apply 2->3"},
		},
		"8: the last instance left: stable at once but unproven": {
			given: candidate2(""),
			event: onCandidate(after(1)),
			want:  "stable 2 unproven proven 1 | 1:superseded 2:stable", does: []string{"promote 1->2"},
		},
		"11: while incomplete no release step completes": {
			given: candidate2(""),
			event: func() Event {
				e := onCandidate(after(90), runs("i", c2))
				e.Complete = false
				return e
			}(),
			want: "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"applied 2"},
		},
		"7.2: not retryable, from any instance: policy at once": {
			given: candidate2(""),
			event: onCandidate(after(1), runs("i", c2), refuses(silent("j", c1, c2))),
			want:  "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused",
			does:  []string{"applied 2", "refusal 2", "return 2->1"},
		},
		"7.2: retryable: nothing until the progress deadline": {
			given: candidate2(""),
			event: onCandidate(after(59), retries(silent("i", c1, c2))),
			want:  "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"check 60s"},
		},
		"7.2: retryable at the progress deadline: refused": {
			given: candidate2(""),
			event: onCandidate(after(60), retries(silent("i", c1, c2))),
			want:  "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refusal 2", "return 2->1"},
		},
		"7.2: from the newest write among the heads whose lines differ": {
			given: candidate2(""),
			event: Observe{
				At: after(70), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1},
				Instances: []Instance{retries(silent("i", c1, c22))}, Written: map[string]time.Time{"prompt/p": after(50)},
			},
			want: "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"check 110s"},
		},
		"7.2: it counts only if no other instance serves it, else it is lagging": {
			given: candidate2(""),
			event: onCandidate(after(60), runs("i", c2), retries(silent("j", c1, c2))),
			want:  "stable 2 proven 2 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
		},
		"7.2: nothing else may be sent: drop ends the retry": {
			given: proven1(),
			event: Observe{
				At: after(60), Complete: true, Stable: &c12, Applied: []Config{c1},
				Instances: []Instance{retries(silent("i", c1, c12))}, Written: map[string]time.Time{"prompt/p": start},
			},
			want: "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "drop i", "write"},
		},
		"7.3: a refusal caused by a shared head moves none (vetoes come later)": {
			given: proven1(),
			event: Observe{
				At: after(1), Complete: true, Stable: &c12, Applied: []Config{c1},
				Instances: []Instance{refuses(silent("i", c1, c12))},
			},
			want: "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.1: a refusal of a config that was APPLIED, with no open candidate, moves none": {
			given: proven1(),
			event: Observe{
				At: after(1), Complete: true, Stable: &c1, Applied: []Config{c1},
				Instances: []Instance{refuses(Instance{ID: "j", Target: 1, Desired: c1.Hash})},
			},
			want: "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.1: without a base none moves": {
			given: candidate2(""),
			event: onCandidate(after(1), func() Instance {
				in := refuses(Instance{ID: "j", Target: 2, Desired: c2.Hash})
				in.Refused[c1.Hash] = fault // the only config of stable that was ever applied
				return in
			}()),
			want: "stable 1 proven 1 candidate 2 refusal 2 none 0 | 1:stable 2:candidate",
			does: []string{"refusal 1", "refusal 2", "write", "check 60s"},
		},
		"7.1: one whose hash isn't what Build now gives is only recorded": {
			given: candidate2(""),
			event: func() Event {
				in := silent("i", c1, c22)
				in.Refused = map[manifest.Hash][]phase.Fault{c2.Hash: fault}
				return Observe{
					At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1},
					Instances: []Instance{in}, Known: map[manifest.Hash]Config{c2.Hash: c2},
				}
			}(),
			want: "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"refusal 2", "write", "check 60s"},
		},
		"7.4: policy hold: stable for all, the release stays open and red": {
			given: candidate2("hold"),
			event: onCandidate(after(1), refuses(silent("i", c1, c2))),
			want:  "stable 1 proven 1 hold 2 served false refusal 2 held 1 | 1:stable 2:refused",
			does:  []string{"refusal 2", "hold 2->1"},
		},
		"7.4: no proven revision yet: always hold, and it stays what Build gives": {
			given: []Event{apply("one", true)},
			event: Observe{
				At: after(1), Complete: true, Candidate: &c1,
				Instances: []Instance{refuses(Instance{ID: "i", Target: 1, Desired: c1.Hash})},
			},
			want: "stable 0 proven 0 hold 1 served true refusal 1 held 0 | 1:refused", does: []string{"refusal 1", "hold 1->1"},
		},
		"7.4: what a hold serves is retried without end": {
			given: neverProven(),
			event: Observe{
				At: after(600), Complete: true, Held: &c1,
				Instances: []Instance{retries(Instance{ID: "i", Target: 1, Desired: c1.Hash})},
			},
			want: "stable 0 proven 0 hold 1 served true refusal 1 held 0 | 1:refused",
		},
		"7.4: the first instance that APPLIES the held revision makes it stable": {
			given: neverProven(),
			event: Observe{At: after(2), Complete: true, Held: &c1, Instances: []Instance{runs("i", c1)}},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"applied 1", "promote 1->1"},
		},
		"7.4: abort there leaves the hold": {
			given: neverProven(),
			event: Abort{At: after(2)},
			want:  "stable 0 proven 0 hold 1 served true refusal 1 held 0 | 1:refused", does: []string{"refuse 3"},
		},
		"7.4: only apply ends that hold": {
			given: neverProven(),
			event: apply("two", true),
			want:  "stable 0 proven 0 candidate 2 refusal 1 held 0 | 1:refused 2:candidate", does: []string{"apply 1->2"},
		},
		"7.5: an apply whose manifest equals a refused one is refused": {
			given: refused2(""),
			event: apply("two", true),
			want:  "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refuse 1"},
		},
		"7.5: the same spec with another manifest is a new revision": {
			given: refused2(""),
			event: Apply{At: start, Spec: specHash("two"), Manifest: hash(0, "two", "2"), Live: true},
			want:  "stable 1 proven 1 candidate 3 refusal 2 rolled_back 1 | 1:stable 2:refused 3:candidate", does: []string{"apply 1->3"},
		},
		"7.5: a candidate whose manifest comes to equal a refusal is refused from the record": {
			given: append(refused2(""), Apply{At: start, Spec: specHash("two"), Manifest: hash(0, "two", "2"), Live: true}),
			event: Observe{
				At: after(3), Complete: true, Stable: &c1, Candidate: new(config(3, "two", "1")), Applied: []Config{c1},
				Instances: []Instance{silent("i", c1, config(3, "two", "1"))},
			},
			want: "stable 1 proven 1 refusal 3 rolled_back 1 | 1:stable 2:refused 3:refused", does: []string{"return 3->1"},
		},
		"7.5: an apply equal to stable while a candidate is open aborts it": {
			given: candidate2(""),
			event: apply("one", true),
			want:  "stable 1 proven 1 | 1:stable 2:rolled_back", does: []string{"abort 2->1"},
		},
		"12: an apply equal to the candidate is unchanged": {
			given: candidate2(""),
			event: apply("two", true),
			want:  "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"unchanged 2"},
		},
		"12: an apply equal to stable is unchanged": {
			given: proven1(),
			event: apply("one", true),
			want:  "stable 1 proven 1 | 1:stable", does: []string{"unchanged 1"},
		},
		"7.5: retry reopens the last refused revision and drops its records": {
			given: refused2(""),
			event: Retry{At: after(5), Live: true},
			want:  "stable 1 proven 1 candidate 2 refusal 2 rolled_back 1 | 1:stable 2:candidate", does: []string{"reset", "retry 1->2"},
		},
		"7.5: retry reopens the held revision": {
			given: refused2("hold"),
			event: Retry{At: after(5), Live: true},
			want:  "stable 1 proven 1 candidate 2 refusal 2 held 1 | 1:stable 2:candidate", does: []string{"reset", "retry 1->2"},
		},
		"7.7: a settled config other than the fallback clears the last refusal": {
			given: append(refused2(""), apply("three", true)),
			event: Observe{
				At: after(6), Complete: true, Stable: &c1, Candidate: &c3, Applied: []Config{c1},
				Instances: []Instance{runs("i", c3)},
			},
			want: "stable 3 proven 3 | 1:superseded 2:refused 3:stable", does: []string{"applied 3", "promote 1->3"},
		},
		"7.7: the fallback doesn't": {
			given: refused2(""),
			event: func() Event {
				c := c1
				c.Generation = 500
				return Observe{
					At: after(6), Complete: true, Stable: &c, Applied: []Config{c1},
					Instances: []Instance{runs("i", c1)},
				}
			}(),
			want: "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused",
		},
		"7.7: a shared version settled later clears it": {
			given: refused2(""),
			event: func() Event {
				c := c12
				c.Generation = 500
				return Observe{
					At: after(6), Complete: true, Stable: &c, Applied: []Config{c1, c12},
					Instances: []Instance{runs("i", c12)},
				}
			}(),
			want: "stable 1 proven 1 | 1:stable 2:refused", does: []string{"write"},
		},
		"1: rollback with an open candidate aborts it": {
			given: candidate2(""),
			event: Rollback{At: after(1)},
			want:  "stable 1 proven 1 | 1:stable 2:rolled_back", does: []string{"abort 2->1"},
		},
		"1: rollback goes to the previous proven revision, stable at once": {
			given: append(candidate2(""), onCandidate(after(1), runs("i", c2))),
			event: Rollback{At: after(2)},
			want:  "stable 1 proven 1 | 1:stable 2:rolled_back", does: []string{"rollback 2->1"},
		},
		"1: rollback without an earlier one says so": {
			given: proven1(),
			event: Rollback{At: after(2)},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"refuse 3"},
		},
		"1: rollback to a refused revision needs force": {
			given: refused2(""),
			event: Rollback{At: after(2), To: 2},
			want:  "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refuse 4"},
		},
		"7.5: a forced rollback clears the target's refused mark": {
			given: refused2(""),
			event: Rollback{At: after(2), To: 2, Force: true},
			want:  "stable 2 unproven proven 1 refusal 2 rolled_back 1 | 1:rolled_back 2:stable", does: []string{"reset", "rollback 1->2"},
		},
		"1: rollback to a never proven revision needs force": {
			given: append(candidate2(""), apply("three", true)),
			event: Rollback{At: after(2), To: 2},
			want:  "stable 1 proven 1 candidate 3 | 1:stable 2:superseded 3:candidate", does: []string{"refuse 4"},
		},
		"1: rollback to a revision that isn't kept": {
			given: proven1(),
			event: Rollback{At: after(2), To: 9},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"refuse 2"},
		},
		"1: a person's rollback supersedes a candidate": {
			given: candidate2(""),
			event: Rollback{At: after(2), To: 1},
			want:  "stable 1 proven 1 | 1:stable 2:superseded", does: []string{"rollback 2->1"},
		},
		"12: delete, and numbers go on at last + 1 with nothing earlier stable": {
			given: append(refused2(""), Delete{At: after(3)}),
			event: apply("two", true),
			want:  "stable 0 proven 0 candidate 3 | 1:superseded 2:refused 3:candidate", does: []string{"reset", "recreate 0->3"},
		},
		"12: delete twice changes nothing": {
			given: append(proven1(), Delete{At: after(3)}),
			event: Delete{At: after(4)},
			want:  "stable 0 proven 0 | 1:superseded", does: []string{"unchanged 0"},
		},
		"8: a stable nobody ran gives way to an open candidate when refused": {
			given: []Event{apply("one", false), apply("two", true)},
			event: Observe{
				At: after(1), Complete: true, Stable: &c1, Candidate: &c2,
				Instances: []Instance{refuses(Instance{ID: "i", Target: 1, Desired: c1.Hash})},
			},
			want: "stable 0 proven 0 candidate 2 refusal 1 none 0 | 1:refused 2:candidate", does: []string{"refusal 1", "return 1->2"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, actions := Step(play(t, c.given...), c.event)
			if diff := cmp.Diff(c.want, summary(got)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.does, did(actions)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
}

func neverProven() []Event {
	return []Event{apply("one", true), Observe{
		At: after(1), Complete: true, Candidate: &c1,
		Instances: []Instance{refuses(Instance{ID: "i", Target: 1, Desired: c1.Hash})},
	}}
}

// A hundred revisions are kept, and those that something needs beyond them (semantics.md 12).
func TestRetention(t *testing.T) {
	s := play(t, proven1()...)
	for i := range 150 {
		s, _ = Step(s, apply(fmt.Sprint("spec ", i), true))
	}
	if len(s.Revisions) != 100 || s.Last != 151 {
		t.Errorf("%d revisions are kept, last %d; want 100, 151", len(s.Revisions), s.Last)
	}
	for _, n := range []int64{1, 151} {
		if _, ok := s.Find(n); !ok {
			t.Errorf("revision %d is gone: it is stable or the candidate", n)
		}
	}
}

// Step never changes the state it was given.
func TestStepLeavesItsInputAlone(t *testing.T) {
	s := play(t, candidate2("")...)
	before := summary(s)
	Step(s, onCandidate(after(1), refuses(silent("i", c1, c2))))
	Step(s, Delete{At: start})
	if diff := cmp.Diff(before, summary(s)); diff != "" {
		t.Errorf("state (-want +got):\n%s", diff)
	}
}
