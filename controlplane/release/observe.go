package release

import (
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// observer judges one Observe.
type observer struct {
	*step
	e       Observe
	applied map[manifest.Hash]Config // every config that an instance APPLIED
	order   []manifest.Hash          // the same, oldest first
	dirty   bool                     // the state changed without a move
	moved   bool                     // the head moved: what was observed counts no more
	check   time.Time                // the earliest time at which something more is to be judged
}

func (st *step) observe(e Observe) {
	if st.s.Last == 0 || st.s.LastMove == MoveDelete {
		return
	}
	e.Instances = slices.Clone(e.Instances)
	slices.SortFunc(e.Instances, func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
	o := &observer{step: st, e: e, applied: map[manifest.Hash]Config{}}
	for _, c := range e.Applied {
		o.applied[c.Hash] = c
		o.order = append(o.order, c.Hash)
	}
	o.keepApplied()
	for _, judge := range []func(){o.settleHeld, o.settleStable, o.fromRecord, o.refusals, o.settleCandidate, o.clearRefusal} {
		if judge(); o.moved {
			break
		}
	}
	if o.dirty && !o.moved {
		o.do(Write{})
	}
	if !o.check.IsZero() && !o.moved {
		o.do(Check{At: o.check})
	}
}

func (o *observer) move(m Moved) {
	o.step.moved(o.e.At, m)
	o.moved = true
}

// passed reports whether t has come; a zero one never does.
func (o *observer) passed(t time.Time) bool { return !t.IsZero() && !o.e.At.Before(t) }

// due reports whether t has come, and asks to be called then if not.
func (o *observer) due(t time.Time) bool {
	if t.IsZero() || o.passed(t) {
		return !t.IsZero()
	}
	if o.check.IsZero() || t.Before(o.check) {
		o.check = t
	}
	return false
}

// known finds a config's manifest.
func (o *observer) known(h manifest.Hash) (Config, bool) {
	if h.IsZero() {
		return Config{}, false
	}
	for _, c := range []*Config{o.e.Stable, o.e.Candidate, o.e.Held} {
		if c != nil && c.Hash == h {
			return *c, true
		}
	}
	if c, ok := o.applied[h]; ok {
		return c, true
	}
	c, ok := o.e.Known[h]
	return c, ok
}

// desired finds what Build gives an instance. Revisions of equal content have one hash: of those the instance's target is meant.
func (o *observer) desired(in Instance) (Config, bool) {
	for _, c := range []*Config{o.e.Stable, o.e.Candidate, o.e.Held} {
		if c != nil && c.Revision == in.Target && c.Hash == in.Desired && !in.Desired.IsZero() {
			return *c, true
		}
	}
	return o.known(in.Desired)
}

// own gives the own-spec line of a config.
func own(c Config) manifest.Hash {
	for _, l := range c.Lines {
		if l.Kind == manifest.KindAgent {
			return l.SHA256
		}
	}
	return manifest.Hash{}
}

// serves reports whether an instance serves a revision: its own-spec line is that revision's.
func (o *observer) serves(in Instance, n int64) bool {
	c, ok := o.known(in.Running)
	return ok && n != 0 && own(c) == o.spec(n)
}

// keepApplied stores what instances serve and no record holds.
func (o *observer) keepApplied() {
	for _, in := range o.e.Instances {
		if _, kept := o.applied[in.Running]; kept {
			continue
		}
		c, ok := o.known(in.Running)
		if !ok {
			continue
		}
		o.applied[c.Hash] = c
		o.order = append(o.order, c.Hash)
		o.do(KeepApplied{Config: c, Instance: in.ID, At: o.e.At})
	}
}

// settleHeld is semantics.md 7.4: the first instance that APPLIES what a hold serves makes it stable.
func (o *observer) settleHeld() {
	n := o.s.Held()
	for _, in := range o.e.Instances {
		if n == 0 || !o.serves(in, n) {
			continue
		}
		o.s.Hold = nil
		o.setStable(n, phase.StateSuperseded)
		o.prove()
		o.forget(n)
		o.drop(in.Running)
		o.s.LastRefusal = nil
		o.settleVetoes(o.e.Held)
		o.move(Moved{
			Move: MovePromote, From: n, To: n, Instance: in.ID, Config: manifest.ConfigName(n, in.Running),
			Cause: "instance " + in.ID + " applied the held revision",
		})
		return
	}
}

// settleStable is semantics.md 8: an unproven stable is proven by its first APPLIED.
func (o *observer) settleStable() {
	if !o.s.Unproven || o.s.Stable == 0 {
		return
	}
	for _, in := range o.e.Instances {
		if !o.serves(in, o.s.Stable) {
			continue
		}
		o.prove()
		o.drop(in.Running)
		o.settleVetoes(o.e.Stable, o.e.Candidate)
		o.do(Moved{
			Move: MoveProve, From: o.s.Stable, To: o.s.Stable, Instance: in.ID,
			Config: manifest.ConfigName(o.s.Stable, in.Running), Cause: "instance " + in.ID + " applied it first",
		})
		return
	}
}

// fromRecord is semantics.md 7.5: a move made the open candidate's manifest one that was refused.
func (o *observer) fromRecord() {
	if o.s.Candidate == nil || o.e.Candidate == nil {
		return
	}
	if r, ok := o.s.refusal(o.e.Candidate.Hash); ok {
		o.refuseCandidate(verdict{config: *o.e.Candidate, instance: r.Instance, faults: r.Faults, cause: "its config equals one that was refused"})
	}
}

// settleCandidate is semantics.md 8.
func (o *observer) settleCandidate() {
	c := o.s.Candidate
	if c == nil {
		return
	}
	if !o.e.Complete {
		return
	}
	if len(o.e.Instances) == 0 {
		o.s.Candidate = nil
		from := o.s.Stable
		o.setStable(c.Revision, phase.StateSuperseded)
		o.s.Unproven = true
		o.move(Moved{Move: MovePromote, From: from, To: c.Revision, Cause: "no instance is live: stable, unproven"})
		return
	}
	deadline := end(o.e.Seen.Opened, c.deadline())
	served, lagging, trying := "", 0, false
	var settled manifest.Hash
	for _, in := range o.e.Instances {
		switch {
		case o.serves(in, c.Revision):
			if served == "" || in.Running == in.Desired {
				served, settled = in.ID, in.Running
			}
		case in.Target == c.Revision && in.Retrying && !o.refusedDesired(in):
			// The verdict on it falls at its own time (semantics.md 7.2).
			trying = trying || !o.passed(o.verdictAt(in))
			lagging++
		default:
			lagging++
		}
	}
	switch {
	case served != "" && (lagging == 0 || o.due(deadline)):
		o.promote(served, settled, lagging)
	case served == "" && o.due(deadline) && !trying:
		o.closeUnanswered()
	}
}

func (o *observer) promote(instance string, settled manifest.Hash, lagging int) {
	c, from := o.s.Candidate, o.s.Stable
	o.s.Candidate = nil
	o.setStable(c.Revision, phase.StateSuperseded)
	o.prove()
	o.settleVetoes(o.e.Candidate)
	if l := o.s.LastRefusal; l != nil && settled != l.Fallback {
		o.s.LastRefusal = nil
	}
	m := Moved{
		Move: MovePromote, From: from, To: c.Revision, Instance: instance,
		Config: manifest.ConfigName(c.Revision, settled), Cause: "every live instance applied it",
	}
	if lagging > 0 {
		m.Cause = "instances applied it; silent ones are lagging"
	}
	o.move(m)
}

// closeUnanswered holds a candidate that no instance applied or refused within the deadline.
func (o *observer) closeUnanswered() {
	n := o.s.Candidate.Revision
	o.holdOpen(n)
	o.move(Moved{Move: MoveHold, From: n, To: o.s.Desired(), Cause: "no instance applied it within the progress deadline"})
}

// holdOpen closes the candidate (if any) into a hold on n: it stays what Build gives where nothing is proven.
func (o *observer) holdOpen(n int64) {
	s := &o.s
	h := &Hold{Revision: n, Since: o.e.At, Served: s.Proven == 0}
	if s.Candidate != nil && s.Candidate.Revision == n {
		h.Release = s.Candidate.Release
		s.Candidate = nil
	}
	if h.Served && s.Stable != 0 {
		o.mark(s.Stable, phase.StateSuperseded)
		s.Stable, s.Unproven = 0, false
	}
	o.mark(n, phase.StateRefused)
	s.Hold = h
}

// clearRefusal is semantics.md 7.7.
func (o *observer) clearRefusal() {
	l := o.s.LastRefusal
	if l == nil || o.s.Candidate != nil {
		return
	}
	if l.Fallback.IsZero() && l.RolledBackTo != 0 && l.RolledBackTo == o.s.Stable && o.e.Stable != nil {
		l.Fallback = o.e.Stable.Hash // only now is it known what the revision gone back to resolves to
		o.dirty = true
		return
	}
	if len(o.e.Instances) == 0 {
		return
	}
	for _, in := range o.e.Instances {
		c, ok := o.desired(in)
		if !ok || in.Running != in.Desired || in.Desired == l.Fallback || c.Generation <= l.Generation {
			return
		}
	}
	o.s.LastRefusal = nil
	o.dirty = true
}
