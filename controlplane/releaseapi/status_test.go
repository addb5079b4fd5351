package releaseapi

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ref(revision int64, content string) fleet.Ref {
	return fleet.Ref{Revision: revision, Token: manifest.Token{Epoch: 1, Generation: revision, Hash: manifest.Sum([]byte(content))}}
}

func TestConditionIsTheFirstThatHolds(t *testing.T) {
	synced := fleet.Instance{Phase: phase.Applied, Desired: ref(1, "a"), Running: ref(1, "a")}
	behind := fleet.Instance{Phase: phase.Pending, Desired: ref(2, "b"), Running: ref(1, "a")}
	degraded := fleet.Instance{Phase: phase.Degraded, Desired: ref(1, "a"), Running: ref(1, "a")}
	offline := fleet.Instance{Phase: phase.Offline, Desired: ref(1, "a"), Running: ref(1, "a")}
	stable := release.State{Stable: 1, Proven: 1}
	open := release.State{Stable: 1, Proven: 1, Candidate: &release.Candidate{Revision: 2}}
	held := release.State{Stable: 1, Proven: 1, Hold: &release.Hold{Revision: 2}}
	cases := map[string]struct {
		state      release.State
		deleted    bool
		instances  []fleet.Instance
		incomplete bool
		kept       bool // a pin or a veto counts
		broken     bool // its config can't be built
		want       phase.Condition
	}{
		"deleted wins":                      {state: held, deleted: true, instances: []fleet.Instance{synced}, want: phase.CondDeleted},
		"had instances, none live":          {state: stable, instances: []fleet.Instance{offline}, want: phase.CondOffline},
		"had instances, none known":         {state: stable, want: phase.CondOffline},
		"offline isn't concluded too early": {state: stable, incomplete: true, want: phase.CondSynced},
		"an open hold":                      {state: held, instances: []fleet.Instance{synced}, want: phase.CondRejected},
		"offline before an open hold":       {state: held, instances: []fleet.Instance{offline}, want: phase.CondOffline},
		"a veto or pin":                     {state: open, kept: true, instances: []fleet.Instance{synced, behind}, want: phase.CondHeld},
		"an open hold before a veto":        {state: held, kept: true, instances: []fleet.Instance{synced}, want: phase.CondRejected},
		"a candidate":                       {state: open, instances: []fleet.Instance{synced, behind}, want: phase.CondProgressing},
		"an instance behind":                {state: stable, instances: []fleet.Instance{synced, behind}, want: phase.CondDegraded},
		"a dependency missing":              {state: stable, instances: []fleet.Instance{degraded}, want: phase.CondDegraded},
		"one offline beside a live one":     {state: stable, instances: []fleet.Instance{synced, offline}, want: phase.CondSynced},
		"no config, an instance":            {state: stable, instances: []fleet.Instance{synced}, broken: true, want: phase.CondDegraded},
		"no config, no instance":            {state: release.State{Stable: 1, Unproven: true}, broken: true, want: phase.CondUnproven},
		"never applied":                     {state: release.State{Stable: 1, Unproven: true}, want: phase.CondUnproven},
		"after an automatic rollback": {
			state: release.State{Stable: 1, Proven: 1, LastRefusal: &release.LastRefusal{Revision: 2}}, instances: []fleet.Instance{synced}, want: phase.CondSynced,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			head := view.AgentHead{Name: "a", Deleted: c.deleted, State: c.state}
			if got := condition(head, c.instances, c.state.Proven != 0, !c.incomplete, c.kept, c.broken); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestLagging(t *testing.T) {
	now := time.Unix(1000, 0)
	served := map[string]bool{ref(2, "b").Token.Hash.String(): true}
	late := fleet.Instance{Desired: ref(2, "b"), Running: ref(1, "a"), Offered: now.Add(-time.Minute - time.Second)}
	early, done, alone := late, late, late
	early.Offered = now.Add(-time.Second)
	done.Running = done.Desired
	alone.Desired = ref(3, "c")
	for name, c := range map[string]struct {
		instance fleet.Instance
		want     bool
	}{"late": {late, true}, "early": {early, false}, "done": {done, false}, "nobody serves it": {alone, false}} {
		if got := lagging(view.AgentHead{}, c.instance, served, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRingDropsTheOldest(t *testing.T) {
	r := NewRing(func() time.Time { return time.Unix(1, 0) })
	none, changed := r.Since(0)
	if len(none) != 0 {
		t.Errorf("an empty ring holds %v", none)
	}
	for i := range maxEvents + 10 {
		r.Add(Event{Message: fmt.Sprint(i + 1)})
	}
	<-changed
	all, _ := r.Since(0)
	if len(all) != maxEvents || all[0].Seq != 11 || all[0].Message != "11" || all[maxEvents-1].Seq != maxEvents+10 {
		t.Errorf("%d events from %d", len(all), all[0].Seq)
	}
	if rest, _ := r.Since(maxEvents + 8); len(rest) != 2 {
		t.Errorf("since: %v", rest)
	}
	if rest, _ := r.Since(maxEvents + 100); len(rest) != 0 {
		t.Errorf("beyond the newest: %v", rest)
	}
}
