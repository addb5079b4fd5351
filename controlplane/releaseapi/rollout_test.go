package releaseapi

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

func TestRollout(t *testing.T) {
	since := time.Now().Add(-time.Second)
	refused := []release.Revision{{N: 1, State: phase.StateStable, Proven: true}, {N: 2, State: phase.StateRefused}}
	cases := map[string]struct {
		state release.State
		want  []string // stand, from > to, condition, retryable, part of the line
	}{
		"settled": {release.State{Last: 1, Stable: 1, Proven: 1}, []string{"settled", "1>1", "Offline", "", "no instance"}},
		"a candidate": {
			release.State{Last: 2, Stable: 1, Proven: 1, Revisions: refused, Candidate: &release.Candidate{Revision: 2, Release: "r2", Since: since, OnReject: "rollback", Deadline: 60000}},
			[]string{"progressing", "1>2", "Progressing", "", "deadline in"},
		},
		"a hold": {
			release.State{Last: 2, Stable: 1, Proven: 1, Revisions: refused, Hold: &release.Hold{Revision: 2, Release: "r2", Since: since}},
			[]string{"held", "1>2", "Rejected", "2", "held: retry"},
		},
		"a veto": {
			release.State{Last: 1, Stable: 1, Proven: 1, Vetoes: []release.Veto{{Kind: "prompt", Name: "p", Refused: []string{"2"}, Use: "1"}}},
			[]string{"settled", "1>1", "Held", "", "prompt/p held at 1"},
		},
		"a pin": {
			release.State{Last: 1, Stable: 1, Proven: 1, Pin: &release.Pin{Revision: 1, Hash: manifest.Sum(nil)}},
			[]string{"settled", "1>1", "Held", "", "pinned to 1-e3b0c442"},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.put(t, c.state)
			if name != "settled" {
				r.hello("i")
			}
			got, err := r.Rollout("default", "bot")
			if err != nil {
				t.Fatal(err)
			}
			retryable := number(got.GetRetryable())
			have := []string{got.GetState(), number(got.GetFrom()) + ">" + number(got.GetTo()), got.GetCondition(), retryable, c.want[4]}
			if diff := cmp.Diff(c.want, have); diff != "" || !strings.Contains(got.GetLine(), c.want[4]) {
				t.Errorf("line %q\n%s", got.GetLine(), diff)
			}
			if (got.GetSince() == nil) != (c.want[0] == "settled") {
				t.Errorf("since %v", got.GetSince())
			}
		})
	}
	r := newRig(t)
	if _, err := r.Rollout("default", "bot"); !errs.Is(err, errs.NotFound) {
		t.Errorf("no such agent: %v", err)
	}
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return string(rune('0' + n))
}
