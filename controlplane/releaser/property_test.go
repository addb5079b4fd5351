package releaser

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// TestReleaseWithSnapshotsAndInstances steps release.Step, snapshot.Build, the table of instances and a model of
// agentd together through applies, moves of shared heads, rollbacks, restarts, lost reports and outages.
func TestReleaseWithSnapshotsAndInstances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		defer func() {
			if p := recover(); p != nil {
				if s, ok := p.(string); ok {
					t.Fatalf("%s\n%s", s, strings.Join(w.log, "\n"))
				}
				panic(p)
			}
		}()
		for c := range contents {
			w.badSpec[c] = rapid.IntRange(0, 4).Draw(t, "bad spec") == 0
		}
		w.badPrompt[2] = rapid.Bool().Draw(t, "bad prompt")
		w.badPair[[2]int{1, 3}] = rapid.Bool().Draw(t, "bad pair")
		if rapid.Bool().Draw(t, "odd") {
			w.odd["i1"] = rapid.IntRange(0, contents-1).Draw(t, "odd content")
		}
		instance := rapid.SampledFrom(w.instances)
		person := func(e release.Event) {
			next, actions := release.Step(w.head.State, e)
			if len(actions) == 1 {
				switch actions[0].(type) {
				case release.Refuse, release.Unchanged:
					return
				}
			}
			w.note("person: %T", e)
			w.write(next, actions)
		}
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				c := rapid.IntRange(0, contents-1).Draw(t, "content")
				person(w.apply(c))
			},
			"prompt": func(t *rapid.T) { w.movePrompt(rapid.IntRange(1, 3).Draw(t, "version")) },
			"rollback": func(t *rapid.T) {
				to := rapid.Int64Range(0, w.head.State.Last).Draw(t, "to")
				person(release.Rollback{At: w.now, To: to, Force: rapid.Bool().Draw(t, "force")})
			},
			"abort": func(*rapid.T) { person(release.Abort{At: w.now}) },
			"retry": func(*rapid.T) { person(release.Retry{At: w.now, Live: w.live()}) },
			"delete": func(t *rapid.T) {
				if w.exists && rapid.IntRange(0, 5).Draw(t, "sure") == 0 {
					person(release.Delete{At: w.now})
				}
			},
			"connect":    func(t *rapid.T) { w.connect(instance.Draw(t, "instance")) },
			"connect2":   func(t *rapid.T) { w.connect(instance.Draw(t, "instance")) },
			"disconnect": func(t *rapid.T) { w.disconnect(instance.Draw(t, "instance"), fleet.Lost) },
			"restart": func(t *rapid.T) {
				in := instance.Draw(t, "instance")
				w.disconnect(in, fleet.Lost)
				in.inbox, in.trying = nil, nil
				w.connect(in)
			},
			"stop": func(t *rapid.T) {
				in := instance.Draw(t, "instance")
				w.disconnect(in, fleet.Stopped)
				in.up, in.inbox, in.trying = false, nil, nil
				if rapid.Bool().Draw(t, "disk lost") {
					in.running, in.memory, w.lives = nil, nil, w.lives+1
				}
			},
			"outage": func(t *rapid.T) {
				m := rapid.SampledFrom([]string{"m3", "m4"}).Draw(t, "server")
				w.down[m] = !w.down[m]
			},
			"publish":  func(t *rapid.T) { w.publish(instance.Draw(t, "instance")) },
			"publish2": func(t *rapid.T) { w.publish(instance.Draw(t, "instance")) },
			"work":     func(t *rapid.T) { w.work(instance.Draw(t, "instance")) },
			"work2":    func(t *rapid.T) { w.work(instance.Draw(t, "instance")) },
			"observe":  func(*rapid.T) { w.observe() },
			"all":      func(*rapid.T) { w.settle() },
			"all2":     func(*rapid.T) { w.settle() },
			"all3":     func(*rapid.T) { w.settle() },
			"time":     func(t *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second) },
			"": func(t *rapid.T) {
				if fault := w.check(); fault != "" {
					t.Fatalf("%s\n%s", fault, strings.Join(w.log, "\n"))
				}
			},
		})
		if fault := w.quiesce(); fault != "" {
			t.Fatalf("%s\nstate %+v\n%s", fault, w.head.State, strings.Join(w.log, "\n"))
		}
	})
}

// settle lets everyone do one thing in turn, as it is when nothing is slow.
func (w *world) settle() {
	for _, in := range w.instances {
		w.publish(in)
		w.work(in)
	}
	w.observe()
}

// apply is the event of a person's apply, as the spec API makes it.
func (w *world) apply(content int) release.Apply {
	raw := w.specs[content]
	e := release.Apply{At: w.now, Spec: manifest.Sum(raw), Live: w.live(), Policy: release.Policy{ProgressDeadline: time.Minute}}
	if content == 2 {
		e.Policy.OnReject = release.OnRejectHold
	}
	resources, err := snapshot.Resolve(w.heads(), w, "a", raw, e.Spec)
	if err != nil {
		panic(err)
	}
	e.Manifest = manifest.Of(snapshot.Snapshot{Resources: resources}.Lines())
	return e
}

// check is what holds after every step.
func (w *world) check() string {
	if !w.exists {
		return ""
	}
	s := w.head.State
	stable, candidate := 0, 0
	for _, r := range s.Revisions {
		switch r.State {
		case phase.StateStable:
			stable++
			if r.N != s.Stable {
				return fmt.Sprintf("revision %d says stable, the head says %d", r.N, s.Stable)
			}
		case phase.StateCandidate:
			candidate++
			if s.Candidate == nil || r.N != s.Candidate.Revision {
				return fmt.Sprintf("revision %d says candidate", r.N)
			}
		case phase.StateSuperseded, phase.StateRefused, phase.StateRolledBack:
		default:
			return fmt.Sprintf("revision %d has state %q", r.N, r.State)
		}
	}
	switch {
	case stable > 1 || candidate > 1 || (stable == 1) != (s.Stable != 0) || (candidate == 1) != (s.Candidate != nil):
		return fmt.Sprintf("%d stable, %d candidates: %+v", stable, candidate, s)
	case s.Candidate != nil && s.Hold != nil:
		return "a candidate and a hold at once"
	case s.Held() != 0 && s.Stable != 0:
		return "a served hold beside a stable revision"
	case !w.head.Deleted && s.Stable == 0 && s.Held() == 0 && s.Candidate == nil:
		return "nothing to give"
	case s.Proven != 0 && !s.Unproven && s.Stable != s.Proven:
		return fmt.Sprintf("stable %d is proven, but the last proven is %d", s.Stable, s.Proven)
	}
	if w.head.Deleted {
		return ""
	}
	if r, ok := s.Find(s.Proven); s.Proven != 0 && (!ok || !r.Proven || r.State == phase.StateRefused) {
		return fmt.Sprintf("fallback %d is %+v", s.Proven, r)
	}
	snap, err := snapshot.BuildFor(w.heads(), w, snapshot.Key{Agent: "a", Target: s.Desired()})
	if err != nil {
		return err.Error()
	}
	if snap.Token.Generation < w.generation {
		return fmt.Sprintf("generation fell from %d to %d", w.generation, snap.Token.Generation)
	}
	w.generation = snap.Token.Generation
	return ""
}

// quiesce lets everything answer until nothing happens any more, and says what is wrong then.
func (w *world) quiesce() string {
	w.note("quiesce")
	quiet := 0
	for round := 0; quiet < 8; round++ {
		if round == 60 {
			return "never quiet"
		}
		rev := w.rev
		for _, in := range w.instances {
			w.publish(in)
			w.work(in)
		}
		for i := 0; w.observe(); i++ {
			if i == 20 {
				return "the releaser never stops writing"
			}
			if fault := w.check(); fault != "" {
				return fault
			}
		}
		w.pass(20 * time.Second)
		if quiet++; w.rev != rev {
			quiet = 0
		}
	}
	if fault := w.check(); fault != "" || !w.exists || w.head.Deleted {
		return fault
	}
	s := w.see()
	if w.head.State.Candidate != nil {
		return "a candidate is open for ever"
	}
	for _, in := range s.instances {
		f := s.instance(in)
		_, refused := in.Refused[f.Desired]
		switch {
		case f.Running == f.Desired, refused, f.Retrying:
		default:
			return fmt.Sprintf("%s runs %s, Build gives revision %d %s", in.ID.Instance, in.Running.Config(), f.Target, f.Desired)
		}
		if f.Running == f.Desired && (w.head.State.Unproven || w.head.State.Held() != 0) {
			return fmt.Sprintf("%s serves revision %d, which counts as unproven", in.ID.Instance, f.Target)
		}
	}
	return ""
}
