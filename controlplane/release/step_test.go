package release

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

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
				Instances: []Instance{retries(silent("i", c1, c22))}, Seen: seen(map[string]time.Time{"prompt/p": after(50)}),
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
				At: after(60), Complete: true, Stable: &c1m, Applied: []Config{c1},
				Instances: []Instance{retries(silent("i", c1, c1m))}, Seen: seen(map[string]time.Time{"mcp/m": start}),
			},
			want: "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "drop i", "write"},
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
			event: Apply{At: start, Spec: specHash("two"), Manifest: hash("two", "2"), Live: true},
			want:  "stable 1 proven 1 candidate 3 refusal 2 rolled_back 1 | 1:stable 2:refused 3:candidate", does: []string{"apply 1->3"},
		},
		"7.5: a candidate whose manifest comes to equal a refusal is refused from the record": {
			given: append(refused2(""), Apply{At: start, Spec: specHash("two"), Manifest: hash("two", "2"), Live: true}),
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
			got, actions := Step(play(t, c.given...), witnessed(c.event))
			if diff := cmp.Diff(c.want, summary(got)); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.does, did(actions)); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
		})
	}
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
