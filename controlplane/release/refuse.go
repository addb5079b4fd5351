package release

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// verdict is one refusal to be judged.
type verdict struct {
	config   Config
	instance string
	faults   []phase.Fault
	fallback manifest.Hash
	cause    string
}

// refusedDesired reports whether an instance refused what Build gives it.
func (o *observer) refusedDesired(in Instance) bool {
	if in.Desired.IsZero() || in.Running == in.Desired {
		return false
	}
	_, ok := in.Refused[in.Desired]
	return ok
}

// base is semantics.md 7.1: what a refusal by this instance is compared with. Where stable is unproven, the proven
// revision stands for it: nobody runs an unproven one.
func (o *observer) base(in Instance) (Config, bool) {
	n := o.s.Stable
	if o.s.Unproven {
		n = o.s.Proven
	}
	if n == 0 {
		return Config{}, false
	}
	if o.serves(in, n) {
		return o.known(in.Running)
	}
	spec := o.spec(n)
	for _, h := range slices.Backward(o.order) {
		if _, refused := in.Refused[h]; !refused && own(o.applied[h]) == spec {
			return o.applied[h], true
		}
	}
	return Config{}, false
}

// verdictAt is semantics.md 7.2: the progress deadline from the newest write among the heads whose lines differ, as the observer saw
// them. Zero: it isn't known when.
func (o *observer) verdictAt(in Instance) time.Time {
	c, ok := o.desired(in)
	if !ok {
		return o.e.At
	}
	moved, deadline := o.e.Seen.Moved, c.Policy.deadline()
	if o.s.Candidate != nil && o.s.Candidate.Revision == in.Target {
		moved, deadline = o.e.Seen.Opened, o.s.Candidate.deadline()
	}
	base, _ := o.base(in)
	var newest time.Time
	for _, l := range c.Lines {
		if slices.Contains(base.Lines, l) {
			continue
		}
		t := o.e.Seen.Written[l.Resource()]
		if l.Kind == manifest.KindAgent {
			t = moved
		}
		if t.After(newest) {
			newest = t
		}
	}
	if newest.IsZero() {
		newest = moved
	}
	return end(newest, deadline)
}

// end gives when a time that was seen is so long ago; zero if it wasn't seen.
func end(seen time.Time, long time.Duration) time.Time {
	if seen.IsZero() {
		return time.Time{}
	}
	return seen.Add(long)
}

func (c Candidate) deadline() time.Duration { return time.Duration(c.Deadline) * time.Millisecond }

// refusals records every refusal and judges those of what Build gives.
func (o *observer) refusals() {
	for _, in := range o.e.Instances {
		for _, h := range slices.SortedFunc(maps.Keys(in.Refused), func(a, b manifest.Hash) int { return bytes.Compare(a[:], b[:]) }) {
			// A full memory takes only what is judged: else two instances could push each other's records out for ever.
			if c, ok := o.known(h); ok && h != in.Desired && h != in.Running && len(o.s.Refusals) < keepRefusals {
				o.record(verdict{config: c, instance: in.ID, faults: reasons(in.Refused[h])})
			}
		}
	}
	for _, in := range o.e.Instances {
		c, ok := o.desired(in)
		if !ok || in.Running == in.Desired {
			continue
		}
		v := verdict{config: c, instance: in.ID, faults: reasons(in.Refused[in.Desired]), cause: "instance " + in.ID + " refused it"}
		if !o.refusedDesired(in) {
			if !o.overdue(in) {
				continue
			}
			v.faults, v.cause = reasons(in.Faults), "instance "+in.ID+" could not apply it within the progress deadline"
		}
		if o.judge(in, v); o.moved {
			return
		}
		if !o.refusedDesired(in) {
			o.do(Drop{Instance: in.ID, Hash: in.Desired})
		}
	}
}

// overdue reports whether an instance retried for so long that it counts as a refusal. One that others prove wrong is
// lagging, and what a hold serves is retried without end.
func (o *observer) overdue(in Instance) bool {
	if !in.Retrying || in.Target == o.s.Held() || !o.due(o.verdictAt(in)) || !o.e.Complete {
		return false
	}
	return !slices.ContainsFunc(o.e.Instances, func(other Instance) bool {
		return other.ID != in.ID && other.Running == in.Desired
	})
}

// record keeps the first refusal of a config and reports whether this is it.
func (o *observer) record(v verdict) bool {
	if _, kept := o.s.refusal(v.config.Hash); kept {
		return false
	}
	r := Refusal{
		Revision: v.config.Revision, Hash: v.config.Hash, Instance: v.instance, Faults: v.faults, At: o.e.At,
	}
	o.s.Refusals = append(o.s.Refusals, r)
	if n := len(o.s.Refusals); n > keepRefusals {
		o.s.Refusals = slices.Delete(o.s.Refusals, 0, n-keepRefusals)
	}
	o.dirty = true
	o.do(KeepRefusal{Refusal: r, Config: manifest.ConfigName(r.Revision, r.Hash)})
	return true
}

// judge is semantics.md 7.1, 7.3 and 7.4 for a refusal of what Build gives.
func (o *observer) judge(in Instance, v verdict) {
	first := o.record(v)
	base, hasBase := o.base(in)
	v.fallback = base.Hash
	candidate := o.s.Candidate != nil && in.Target == o.s.Candidate.Revision
	unproven := o.s.Unproven && in.Target == o.s.Stable
	_, applied := o.applied[v.config.Hash]
	differs := hasBase && base.Hash != v.config.Hash
	own := own(base) != own(v.config)
	switch {
	case candidate && (o.s.Proven == 0 || differs && own):
		o.refuseCandidate(v)
	case applied && !candidate:
		// Some instance serves it or did: only what a candidate brings is judged for all by one instance.
		o.noteFirst(first, v, ActionNone)
	case unproven && (o.s.Proven == 0 || differs && own):
		o.refuseUnproven(v)
	case in.Target == o.s.Held():
		o.noteFirst(first, v, ActionHeld)
	case differs && !own && o.veto(v, base, first):
	default:
		// Nothing is pending, there is no base, or every line that differs is pinned or new: no head moves.
		o.noteFirst(first, v, ActionNone)
	}
}

// noteFirst notes a refusal that moves no revision, once.
func (o *observer) noteFirst(first bool, v verdict, action string) {
	if first {
		o.note(v, action, 0)
	}
}

// note makes v the sticky last refusal.
func (o *observer) note(v verdict, action string, to int64) {
	o.s.LastRefusal = &LastRefusal{
		Revision: v.config.Revision, Config: manifest.ConfigName(v.config.Revision, v.config.Hash), Instance: v.instance,
		Faults: v.faults, At: o.e.At, Action: action, RolledBackTo: to, Generation: v.config.Generation,
		Hash: v.config.Hash, Fallback: v.fallback,
	}
	o.dirty = true
}

func fallback(c *Config) manifest.Hash {
	if c == nil {
		return manifest.Hash{}
	}
	return c.Hash
}

// refuseCandidate is the policy on a refused candidate.
func (o *observer) refuseCandidate(v verdict) {
	s := &o.s
	c := s.Candidate
	m := Moved{
		Move: MoveReturn, From: c.Revision, Config: manifest.ConfigName(v.config.Revision, v.config.Hash),
		Instance: v.instance, Faults: v.faults, Cause: v.cause,
	}
	switch {
	case s.Proven == 0:
		v.fallback = manifest.Hash{}
		o.note(v, ActionHeld, 0)
		o.holdOpen(c.Revision)
		m.Move = MoveHold
	case c.OnReject == OnRejectHold:
		v.fallback = fallback(o.e.Stable)
		o.note(v, ActionHeld, s.Stable)
		o.holdOpen(c.Revision)
		m.Move = MoveHold
	default:
		v.fallback = fallback(o.e.Stable)
		o.note(v, ActionRolledBack, s.Stable)
		o.mark(c.Revision, phase.StateRefused)
		s.Candidate = nil
	}
	m.To = s.Desired()
	o.move(m)
}

// refuseUnproven is semantics.md 8: an unproven stable that is refused falls back to the proven revision; without
// one it is held, or gives way to an open candidate.
func (o *observer) refuseUnproven(v verdict) {
	s := &o.s
	n := s.Stable
	m := Moved{
		Move: MoveReturn, From: n, Config: manifest.ConfigName(v.config.Revision, v.config.Hash),
		Instance: v.instance, Faults: v.faults, Cause: v.cause,
	}
	hold := s.Candidate == nil && v.config.Policy.onReject() == OnRejectHold
	switch {
	case s.Proven != 0:
		v.fallback = manifest.Hash{} // filled in once the proven revision is resolved again: see clearRefusal
		s.Unproven = false
		if s.Pin != nil && s.Pin.Revision == n {
			s.Pin = nil // it came with the rollback that is undone here
		}
		o.setStable(s.Proven, phase.StateRefused)
		if hold {
			o.note(v, ActionHeld, s.Stable)
			o.holdOpen(n)
			m.Move = MoveHold
		} else {
			o.note(v, ActionRolledBack, s.Stable)
		}
	case s.Candidate != nil:
		v.fallback = manifest.Hash{}
		o.note(v, ActionNone, 0)
		o.mark(n, phase.StateRefused)
		s.Stable, s.Unproven = 0, false
	default:
		v.fallback = manifest.Hash{}
		o.note(v, ActionHeld, 0)
		o.holdOpen(n)
		m.Move = MoveHold
	}
	m.To = s.Desired()
	o.move(m)
}

// reasons drops the warnings, which refuse nothing. Faults without an error are kept as they are: something must have been meant.
func reasons(faults []phase.Fault) []phase.Fault {
	errors := slices.DeleteFunc(slices.Clone(faults), func(f phase.Fault) bool { return f.Severity == phase.Warning })
	if len(errors) == 0 {
		return faults
	}
	return errors
}
