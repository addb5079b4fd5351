package release

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A leader whose clock was an hour off the writer's gave a good release up at once, or never: the times in the state are the
// writer's (after and start), those of the observer are off by as much as given.
func TestDeadlinesAreOfTheObserversClock(t *testing.T) {
	for name, off := range map[string]time.Duration{
		"the same": 0, "an hour ahead": time.Hour, "an hour behind": -time.Hour, "a deadline ahead": time.Minute,
		"a month ahead": 30 * 24 * time.Hour, "ten years behind": -3650 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			at := func(seconds int) time.Time { return after(seconds).Add(off) }
			all := Seen{Opened: at(0), Moved: at(0), Written: map[string]time.Time{"prompt/p": at(0)}}
			candidate := func(seconds int, seen Seen, in ...Instance) Observe {
				e := onCandidate(at(seconds), in...)
				e.Seen = seen
				return e
			}
			const open, stable = "stable 1 proven 1 candidate 2 | 1:stable 2:candidate", "stable 1 proven 1 | 1:stable"
			runCases(t, map[string]sharedCase{
				"silent, before": {
					given: candidate2(""), event: candidate(59, all, silent("i", c1, c2)), want: open,
					does: []string{checkAt(at(60))},
				},
				"silent, at the deadline": {
					given: candidate2(""), event: candidate(60, all, silent("i", c1, c2)),
					want: "stable 1 proven 1 hold 2 served false | 1:stable 2:refused", does: []string{"hold 2->1"},
				},
				"retried, before": {
					given: candidate2(""), event: candidate(59, all, retries(silent("i", c1, c2))), want: open,
					does: []string{checkAt(at(60))},
				},
				"retried, at the deadline": {
					given: candidate2(""), event: candidate(60, all, retries(silent("i", c1, c2))),
					want: "stable 1 proven 1 refusal 2 rolled_back 1 | 1:stable 2:refused", does: []string{"refusal 2", "return 2->1"},
				},
				"served by one, another is silent, before": {
					given: candidate2(""), event: candidate(59, all, runs("i", c2), silent("j", c1, c2)), want: open,
					does: []string{"applied 2", checkAt(at(60))},
				},
				"served by one, another is silent, at the deadline": {
					given: candidate2(""), event: candidate(60, all, runs("i", c2), silent("j", c1, c2)),
					want: "stable 2 proven 2 | 1:superseded 2:stable", does: []string{"applied 2", "promote 1->2"},
				},
				"a shared version retried, before": {
					given: proven1(),
					event: Observe{
						At: at(70), Complete: true, Stable: &c12, Applied: []Config{c1}, Instances: []Instance{retries(silent("i", c1, c12))},
						Seen: Seen{Moved: at(0), Written: map[string]time.Time{"prompt/p": at(20)}},
					},
					want: stable, does: []string{checkAt(at(80))},
				},
				"a shared version retried, at the deadline": {
					given: proven1(),
					event: Observe{
						At: at(80), Complete: true, Stable: &c12, Applied: []Config{c1}, Instances: []Instance{retries(silent("i", c1, c12))},
						Seen: Seen{Moved: at(0), Written: map[string]time.Time{"prompt/p": at(20)}},
					},
					want: "stable 1 proven 1 refusal 1 held 0 veto prompt/p [2] use 1 | 1:stable", does: []string{"refusal 1", "veto 1->1"},
				},
				"a new leader saw it later": {
					given: candidate2(""), event: candidate(100, Seen{Opened: at(50), Moved: at(50)}, silent("i", c1, c2)), want: open,
					does: []string{checkAt(at(110))},
				},
				"it isn't known when": {
					given: candidate2(""),
					event: candidate(9000, Seen{Moved: at(0)}, runs("i", c2), silent("j", c1, c2)), want: open, does: []string{"applied 2"},
				},
				"it isn't known when what is retried was written": {
					given: candidate2(""),
					event: candidate(9000, Seen{Moved: at(0)}, retries(silent("i", c1, c2))), want: open,
				},
			})
		})
	}
}

func checkAt(at time.Time) string { return did([]Action{Check{At: at}})[0] }

func TestProgressIsOfTheObserversClock(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			e := onCandidate(after(18).Add(off), silent("i", c1, c2))
			e.Seen = Seen{Opened: start.Add(off)}
			p := Describe(play(t, candidate2("")...), e)
			if diff := cmp.Diff("1 -> 2  0 of 1  rolls back on a refusal, deadline in 0:42", p.Line(e.At)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(p.Lagging) != 0 || !p.Since.Equal(start) {
				t.Errorf("got %+v", p)
			}
			e.Seen = Seen{}
			if diff := cmp.Diff("1 -> 2  0 of 1  rolls back on a refusal", Describe(play(t, candidate2("")...), e).Line(e.At)); diff != "" {
				t.Errorf("not known when (-want +got)\n%s", diff)
			}
		})
	}
}
