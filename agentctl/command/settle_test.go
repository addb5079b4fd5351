package command

import (
	"testing"

	"github.com/agentry/agentry/internal/phase"
)

func TestFateOf(t *testing.T) {
	t.Parallel()
	at := func(cond phase.Condition, desired, stable int64, more ...func(*statusDoc)) statusDoc {
		d := statusDoc{Condition: string(cond), Revision: revisionPair{Desired: desired, Stable: stable}, FleetComplete: true}
		for _, m := range more {
			m(&d)
		}
		return d
	}
	refused := func(revision int64, action string) func(*statusDoc) {
		return func(d *statusDoc) { d.LastRefusal = &refusalDoc{Revision: revision, Action: action} }
	}
	instance := func(p phase.Phase) func(*statusDoc) {
		return func(d *statusDoc) { d.Instances = append(d.Instances, instanceDoc{Phase: string(p)}) }
	}
	counting := func(d *statusDoc) { d.FleetComplete = false }
	cases := map[string]struct {
		in   statusDoc
		want fate
	}{
		"before the write":                       {at(phase.CondSynced, 7, 7), fateOpen},
		"candidate":                              {at(phase.CondProgressing, 8, 7), fateOpen},
		"stable":                                 {at(phase.CondSynced, 8, 8), fateStable},
		"stable but an instance lags":            {at(phase.CondDegraded, 8, 8, instance(phase.Degraded)), fateStable},
		"stable and an older refusal":            {at(phase.CondSynced, 8, 8, refused(7, "rolled_back")), fateStable},
		"rolled back":                            {at(phase.CondSynced, 7, 7, refused(8, "rolled_back")), fateRefused},
		"held":                                   {at(phase.CondRejected, 8, 7, refused(8, "held")), fateRefused},
		"held without an earlier one":            {at(phase.CondRejected, 8, 8, refused(8, "held")), fateRefused},
		"no instance at all":                     {at(phase.CondUnproven, 8, 8), fateStable},
		"no live instance":                       {at(phase.CondUnproven, 8, 8, instance(phase.Offline)), fateStable},
		"an instance has not answered":           {at(phase.CondUnproven, 8, 8, instance(phase.Pending)), fateOpen},
		"still counting instances":               {at(phase.CondUnproven, 8, 8, counting), fateOpen},
		"a newer apply":                          {at(phase.CondProgressing, 9, 7), fateSuperseded},
		"a newer candidate, ours became stable":  {at(phase.CondProgressing, 9, 8), fateStable},
		"deleted meanwhile":                      {at(phase.CondDeleted, 0, 0), fateSuperseded},
		"the refusal of another revision counts": {at(phase.CondProgressing, 8, 7, refused(6, "rolled_back")), fateOpen},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := fateOf(tc.in, 8); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}
