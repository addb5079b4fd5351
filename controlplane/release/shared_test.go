package release

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// onStable is what counts while revision 1 is stable and resolves to now.
func onStable(seconds int, now *Config, instances ...Instance) Observe {
	return Observe{
		At: after(seconds), Complete: true, Stable: now, Applied: []Config{c1}, Instances: instances,
		Seen: seen(map[string]time.Time{"prompt/p": start}),
	}
}

// veto2 is revision 1 proven, with version 2 of its prompt refused and vetoed.
func veto2() []Event {
	return append(proven1(), onStable(1, &c12, refuses(silent("i", c1, c12))))
}

func pin1() *Pin { return &Pin{Revision: 1, Hash: c1.Hash, Lines: Shared(c1.Lines), Since: start} }

func sum(text string) string { return manifest.Sum([]byte(text)).String() }

type sharedCase struct {
	given []Event
	event Event
	want  string
	does  []string
}

func runCases(t *testing.T, cases map[string]sharedCase) {
	t.Helper()
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

func TestVetoes(t *testing.T) {
	c13 := config(1, "one", "3")
	full := with(c1, "mcp m 1", "policy m a", "credential k 1")
	newer := with(c1, "prompt p 2", "mcp m 2", "policy m b", "credential k 2")
	runCases(t, map[string]sharedCase{
		"7.3: a shared version that is refused is vetoed; other agents go on": {
			given: proven1(),
			event: onStable(1, &c12, refuses(silent("i", c1, c12))),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable", does: []string{"refusal 1", "veto 1->1"},
		},
		"7.3: each line that differs, of every kind": {
			given: []Event{apply("one", false), Observe{At: start, Complete: true, Stable: &full, Instances: []Instance{runs("i", full)}}},
			event: Observe{
				At: after(1), Complete: true, Stable: &newer, Applied: []Config{full}, Instances: []Instance{refuses(silent("i", full, newer))},
			},
			want: "stable 1 proven 1 refusal 1 held 0 veto credential/k [2] use 1 veto mcp/m [2] use 1 veto policy/m [" + sum("policy b") +
				"] use " + sum("policy a") + " veto prompt/p [2] use 1 | 1:stable",
			does: []string{"refusal 1", "veto 1->1"},
		},
		"7.3: a line that the base hasn't is not vetoed": {
			given: proven1(),
			event: onStable(1, &c1m, refuses(silent("i", c1, c1m))),
			want:  "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.3: a pinned line never": {
			given: append(proven1(), Rollback{At: after(1), To: 1, Pin: pin1()}),
			event: onStable(2, &c12, refuses(silent("i", c1, c12))),
			want:  "stable 1 proven 1 refusal 1 none 0 pin 1 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.3: retryable, at the progress deadline": {
			given: proven1(),
			event: onStable(60, &c12, retries(silent("i", c1, c12))),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable", does: []string{"refusal 1", "veto 1->1"},
		},
		"7.2: before it nothing": {
			given: proven1(),
			event: onStable(59, &c12, retries(silent("i", c1, c12))),
			want:  "stable 1 proven 1 | 1:stable", does: []string{"check 60s"},
		},
		"7.3: a version that is refused later joins the veto": {
			given: veto2(),
			event: onStable(2, &c13, refuses(silent("i", c1, c13))),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2 3] use 1 | 1:stable", does: []string{"refusal 1", "veto 1->1"},
		},
		"7.3: use is never one that was refused": {
			given: veto2(),
			// j was served version 2 before it was vetoed, and refuses what the veto gives.
			event: Observe{
				At: after(2), Complete: true, Stable: vetoed(c1, "prompt/p"), Applied: []Config{c12},
				Instances: []Instance{refuses(silent("j", c12, c1))},
			},
			want: "stable 1 proven 1 refusal 1 none 0 veto prompt/p [2] use 1 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.3: a veto that counts already is not written again": {
			given: veto2(),
			event: onStable(2, vetoed(c1, "prompt/p"), runs("i", c1)),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable",
		},
		"7.3: it is kept while the head names another version": {
			given: veto2(),
			event: Observe{At: after(2), Complete: true, Stable: &c13, Applied: []Config{c1, c13}, Instances: []Instance{runs("i", c13)}},
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable",
		},
		"7.1: the base of one that runs nothing is the last applied config that it did not refuse": {
			given: proven1(),
			event: Observe{
				At: after(1), Complete: true, Stable: &c13, Applied: []Config{c1, c12},
				Instances: []Instance{{
					ID: "i", Target: 1, Desired: c13.Hash, Refused: map[manifest.Hash][]phase.Fault{c12.Hash: fault, c13.Hash: fault},
				}},
			},
			want: "stable 1 proven 1 refusal 1 held 0 veto prompt/p [3] use 1 | 1:stable",
			does: []string{"refusal 1", "refusal 1", "veto 1->1"},
		},
		"7.1: a config that was APPLIED is not vetoed": {
			given: proven1(),
			event: Observe{
				At: after(1), Complete: true, Stable: &c12, Applied: []Config{c1, c12}, Instances: []Instance{refuses(silent("i", c1, c12))},
			},
			want: "stable 1 proven 1 refusal 1 none 0 | 1:stable", does: []string{"refusal 1", "write"},
		},
		"7.1: nor with a candidate open, if it isn't the candidate's": {
			given: candidate2(""),
			event: Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1, c12},
				Instances: []Instance{refuses(Instance{ID: "j", Target: 1, Desired: c12.Hash})},
			},
			want: "stable 1 proven 1 candidate 2 refusal 1 none 0 | 1:stable 2:candidate", does: []string{"refusal 1", "write", "check 60s"},
		},
		"7.3: own spec and shared lines differ: the candidate is refused, nothing is vetoed": {
			given: candidate2(""),
			event: Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1}, Instances: []Instance{refuses(silent("i", c1, c22))},
			},
			want: "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refusal 2", "return 2->1"},
		},
		"7.3: shared lines are judged if stable with the new line is refused as well": {
			given: append(candidate2(""), Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1}, Instances: []Instance{refuses(silent("i", c1, c22))},
			}),
			event: onStable(2, &c12, refuses(silent("i", c1, c12))),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable 2:refused", does: []string{"refusal 1", "veto 1->1"},
		},
		"7.1: a refusal that stands is judged again after a move that leaves its hash desired": {
			given: append(veto2(), apply("two", true), Abort{At: after(3)}),
			event: onStable(4, &c12, refuses(silent("i", c1, c12))),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable 2:rolled_back", does: []string{"veto 1->1"},
		},
		"7.3: a candidate with stable's own spec: its shared lines": {
			given: append(refused2(""), Apply{At: after(2), Spec: specHash("two"), Manifest: hash("two", "3"), Live: true},
				Observe{
					At: after(3), Complete: true, Stable: &c1, Candidate: new(config(3, "two", "3")), Applied: []Config{c1},
					Instances: []Instance{runs("i", config(3, "two", "3"))},
				}, Retry{At: after(4), Live: true}),
			event: Observe{
				At: after(5), Complete: true, Stable: new(config(3, "two", "4")), Candidate: new(config(2, "two", "4")),
				Applied:   []Config{c1, config(3, "two", "3")},
				Instances: []Instance{refuses(silent("i", config(3, "two", "3"), config(2, "two", "4")))},
			},
			want: "stable 3 proven 3 candidate 2 refusal 2 held 0 veto prompt/p [4] use 3 | 1:superseded 2:candidate 3:stable",
			does: []string{"refusal 2", "veto 2->2"},
		},
		"7.3: the agent's next apply removes it": {
			given: veto2(),
			event: apply("two", true),
			want:  "stable 1 proven 1 candidate 2 refusal 1 held 0 | 1:stable 2:candidate", does: []string{"apply 1->2"},
		},
		"12: an apply that changes nothing doesn't": {
			given: veto2(),
			event: apply("one", true),
			want:  "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable", does: []string{"unchanged 1"},
		},
		"7.3: retry removes it and its records, and opens nothing": {
			given: veto2(),
			event: Retry{At: after(2), Live: true},
			want:  "stable 1 proven 1 refusal 1 held 0 | 1:stable", does: []string{"reset", "retry 1->1"},
		},
		"7.3: after a refused candidate retry reopens that too": {
			given: append(candidate2(""), Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1}, Instances: []Instance{refuses(silent("i", c1, c22))},
			}, onStable(2, &c12, refuses(silent("i", c1, c12)))),
			event: Retry{At: after(3), Live: true},
			want:  "stable 1 proven 1 candidate 2 refusal 1 held 0 | 1:stable 2:candidate", does: []string{"reset", "retry 1->2"},
		},
		"7.3: retry of a shared version reopens no older revision": {
			given: append(refused2(""), apply("three", true), Observe{
				At: after(6), Complete: true, Stable: &c1, Candidate: &c3, Applied: []Config{c1}, Instances: []Instance{runs("i", c3)},
			}, Observe{
				At: after(7), Complete: true, Stable: new(config(3, "three", "2")), Applied: []Config{c1, c3},
				Instances: []Instance{refuses(silent("i", c3, config(3, "three", "2")))},
			}),
			event: Retry{At: after(8), Live: true},
			want:  "stable 3 proven 3 refusal 3 held 0 | 1:superseded 2:refused 3:stable", does: []string{"reset", "retry 3->3"},
		},
		"7.3: unhold removes it and its records": {
			given: veto2(),
			event: Unhold{At: after(2)},
			want:  "stable 1 proven 1 refusal 1 held 0 | 1:stable", does: []string{"reset", "unhold 1->1"},
		},
		"7.3: unhold of nothing says so": {
			given: proven1(),
			event: Unhold{At: after(2)},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"refuse 3"},
		},
		"7.3: a release that settles without it removes it": {
			given: append(candidate2(""), Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1},
				Instances: []Instance{refuses(Instance{ID: "j", Target: 1, Desired: c12.Hash})},
			}),
			event: Observe{
				At: after(2), Complete: true, Stable: vetoed(c1, "prompt/p"), Candidate: &c2, Applied: []Config{c1}, Instances: []Instance{runs("i", c2)},
			},
			want: "stable 2 proven 2 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
		},
		"7.3: one that settles with it keeps it": {
			given: append(candidate2(""), Observe{
				At: after(1), Complete: true, Stable: &c12, Candidate: &c22, Applied: []Config{c1},
				Instances: []Instance{refuses(Instance{ID: "j", Target: 1, Desired: c12.Hash})},
			}),
			event: Observe{
				At: after(2), Complete: true, Stable: vetoed(c1, "prompt/p"), Candidate: vetoed(c2, "prompt/p"), Applied: []Config{c1},
				Instances: []Instance{runs("i", c2)},
			},
			want: "stable 2 proven 2 veto prompt/p [2] use 1 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
		},
		"7.3: a rollback leaves it": {
			given: append(candidate2(""), onCandidate(after(1), runs("i", c2)), Observe{
				At: after(2), Complete: true, Stable: &c22, Applied: []Config{c1, c2}, Instances: []Instance{refuses(silent("i", c2, c22))},
			}),
			event: Rollback{At: after(3)},
			want:  "stable 1 proven 1 refusal 2 held 0 veto prompt/p [2] use 1 | 1:stable 2:rolled_back", does: []string{"rollback 2->1"},
		},
		"12: deletion and re-creation void it": {
			given: append(veto2(), Delete{At: after(3)}),
			event: apply("one", true),
			want:  "stable 0 proven 0 candidate 2 | 1:superseded 2:candidate", does: []string{"reset", "recreate 0->2"},
		},
		"7.7: the config that the veto leaves is the fallback": {
			given: veto2(),
			event: func() Event {
				c := vetoed(c1, "prompt/p")
				c.Generation = 900
				return onStable(2, c, runs("i", *c))
			}(),
			want: "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable",
		},
		"7.7: another version that settles clears the refusal": {
			given: veto2(),
			event: func() Event {
				c := c13
				c.Generation = 900
				return Observe{At: after(2), Complete: true, Stable: &c, Applied: []Config{c1, c13}, Instances: []Instance{runs("i", c)}}
			}(),
			want: "stable 1 proven 1 veto prompt/p [2] use 1 | 1:stable", does: []string{"write"},
		},
	})
}

func TestPins(t *testing.T) {
	pinned := append(proven1(), Rollback{At: after(1), To: 1, Pin: pin1()})
	runCases(t, map[string]sharedCase{
		"1: rollback to a config pins it": {
			given: append(candidate2(""), onCandidate(after(1), runs("i", c2))),
			event: Rollback{At: after(2), Pin: pin1()},
			want:  "stable 1 proven 1 pin 1 | 1:stable 2:rolled_back", does: []string{"rollback 2->1"},
		},
		"1: of the very revision that is stable too": {
			given: proven1(),
			event: Rollback{At: after(2), To: 1, Pin: pin1()},
			want:  "stable 1 proven 1 pin 1 | 1:stable", does: []string{"rollback 1->1"},
		},
		"1: the same pin twice changes nothing": {
			given: pinned,
			event: Rollback{At: after(2), To: 1, Pin: pin1()},
			want:  "stable 1 proven 1 pin 1 | 1:stable", does: []string{"unchanged 1"},
		},
		"1: to a never proven revision it needs force": {
			given: candidate2(""),
			event: Rollback{At: after(2), Pin: &Pin{Revision: 2, Hash: c2.Hash, Lines: Shared(c2.Lines)}},
			want:  "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"refuse 4"},
		},
		"1: the agent's next apply ends it": {
			given: pinned,
			event: apply("two", true),
			want:  "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", does: []string{"apply 1->2"},
		},
		"1: rollback --to N ends it": {
			given: pinned,
			event: Rollback{At: after(2), To: 1},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"rollback 1->1"},
		},
		"1: unhold ends it, and no record": {
			given: pinned,
			event: Unhold{At: after(2)},
			want:  "stable 1 proven 1 | 1:stable", does: []string{"unhold 1->1"},
		},
		"1: retry doesn't": {
			given: append(refused2(""), Rollback{At: after(2), Pin: pin1()}),
			event: Retry{At: after(3), Live: true},
			want:  "stable 1 proven 1 candidate 2 refusal 2 rolled_back 1 pin 1 | 1:stable 2:candidate", does: []string{"reset", "retry 1->2"},
		},
		"1: a pin that policy undoes with its forced rollback ends": {
			given: append(refused2(""), Rollback{At: after(2), Pin: &Pin{Revision: 2, Hash: c2.Hash, Lines: Shared(c2.Lines)}, Force: true}),
			event: Observe{At: after(3), Complete: true, Stable: &c2, Applied: []Config{c1}, Instances: []Instance{refuses(silent("i", c1, c2))}},
			want:  "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refusal 2", "return 2->1"},
		},
		"12: deletion voids it": {
			given: pinned,
			event: Delete{At: after(3)},
			want:  "stable 0 proven 0 | 1:superseded", does: []string{"delete 1->0"},
		},
	})
}

// A veto keeps the last versions that were refused.
func TestVetoIsBounded(t *testing.T) {
	var s State
	for n := range 3 * maxRefused {
		v, ok := s.vetoed(manifest.Line{Kind: "prompt", Name: "p", Version: string(rune('a' + n))}, manifest.Line{Kind: "prompt", Name: "p", Version: "1"})
		if !ok {
			t.Fatal(n)
		}
		s.putVeto(v)
	}
	if n := len(s.Vetoes[0].Refused); n != maxRefused || s.Vetoes[0].Refused[n-1] != string(rune('a'+3*maxRefused-1)) {
		t.Errorf("%d refused versions, the last %q", n, s.Vetoes[0].Refused[n-1])
	}
}

// A veto and a pin leave what a rollback takes back as it is: they are no own move of the head.
func TestOwnMove(t *testing.T) {
	for name, c := range map[string]struct {
		given []Event
		event Event
		want  bool
	}{
		"veto":     {proven1(), onStable(1, &c12, refuses(silent("i", c1, c12))), false},
		"unhold":   {veto2(), Unhold{At: start}, false},
		"retry":    {veto2(), Retry{At: start}, true},
		"rollback": {proven1(), Rollback{At: start, Pin: pin1()}, true},
		"prove":    {[]Event{apply("one", false)}, onStable(1, &c1, runs("i", c1)), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := play(t, c.given...)
			s, actions := Step(before, c.event)
			if got := OwnMove(actions); got != c.want {
				t.Errorf("own move %v, want %v: %v", got, c.want, did(actions))
			}
			if moved := s.LastMove != before.LastMove || !s.LastMoveAt.Equal(before.LastMoveAt); moved != c.want {
				t.Errorf("the last move is noted: %v, want %v", moved, c.want)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	e := onCandidate(after(18), runs("i", c2), retries(silent("j", c1, c2)), refuses(silent("k", c1, c2)), silent("l", c1, c2))
	held := onStable(2, vetoed(c1, "prompt/p"), runs("i", c1))
	late := onCandidate(after(90), silent("l", c1, c2))
	for name, c := range map[string]struct {
		given []Event
		event Observe
		want  string
	}{
		"nothing":             {nil, Observe{}, "nothing to run  no instance"},
		"settled":             {proven1(), onStable(1, &c1, runs("i", c1)), "1  1 of 1"},
		"under way":           {candidate2(""), e, "1 -> 2  1 of 4  1 retrying  1 refused  rolls back on a refusal, deadline in 0:42"},
		"under way, to hold":  {candidate2("hold"), onCandidate(after(1)), "1 -> 2  no instance  holds on a refusal, deadline in 0:59"},
		"past the deadline":   {candidate2(""), late, "1 -> 2  0 of 1  1 lagging  past its deadline"},
		"red":                 {refused2("hold"), onStable(2, &c1, runs("i", c1)), "1 -> 2  1 of 1  held: retry, abort or apply"},
		"first revision ever": {neverProven(), Observe{At: after(2), Held: &c1}, "1  no instance  held: nothing to go back to, only apply ends it"},
		"vetoed":              {veto2(), held, "1  1 of 1  prompt/p held at 1 (2 refused)"},
		"a veto that lapsed":  {veto2(), onStable(2, &c1, runs("i", c1)), "1  1 of 1"},
		"pinned": {
			append(proven1(), Rollback{At: after(1), Pin: pin1()}), onStable(2, &c1, runs("i", c1)),
			"1  1 of 1  pinned to " + manifest.ConfigName(1, c1.Hash),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := Describe(play(t, c.given...), c.event)
			if diff := cmp.Diff(c.want, p.Line(c.event.At)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	p := Describe(play(t, candidate2("")...), late)
	if !slices.Equal(p.Lagging, []string{"l"}) || p.Stand != StandProgressing || p.Deadline != time.Minute {
		t.Errorf("got %+v", p)
	}
}
