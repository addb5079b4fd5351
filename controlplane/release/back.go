package release

import (
	"slices"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// rollback is semantics.md 1 and 7.5: stable at once, superseding any candidate.
func (st *step) rollback(e Rollback) {
	s := &st.s
	if s.LastMove == MoveDelete {
		st.refuse(NotNow, "the agent is deleted")
		return
	}
	if e.Pin != nil {
		e.To = e.Pin.Revision
	}
	if e.To == 0 {
		if s.Candidate != nil || s.Hold != nil {
			st.abort(e.At)
			return
		}
		if e.To = s.previousProven(); e.To == 0 {
			st.refuse(NotNow, "there is no earlier revision that an instance ever applied")
			return
		}
	}
	target, ok := s.Find(e.To)
	switch {
	case !ok:
		st.refuse(NoSuchRevision, "revision %d isn't kept", e.To)
		return
	case e.To == s.Stable && s.Candidate == nil && s.Hold == nil && samePin(s.Pin, e.Pin):
		st.do(Unchanged{Revision: s.Stable})
		return
	case target.State == phase.StateRefused && !e.Force:
		st.refuse(NeedsForce, "revision %d was refused by an instance; --force goes there all the same", e.To)
		return
	case !target.Proven && !e.Force:
		st.refuse(NeedsForce, "revision %d was never applied by an instance; --force goes there all the same", e.To)
		return
	}
	from := s.Desired()
	if s.Candidate != nil {
		st.mark(s.Candidate.Revision, phase.StateSuperseded)
		s.Candidate = nil
	}
	s.Hold, s.Pin = nil, e.Pin
	if st.forget(e.To) || target.State == phase.StateRefused {
		st.do(Reset{})
	}
	st.setStable(e.To, phase.StateRolledBack)
	if target.Proven {
		st.prove()
	} else {
		s.Unproven = true
	}
	m := Moved{Move: MoveRollback, From: from, To: e.To}
	if e.Pin != nil {
		m.Config = e.Pin.Config()
		m.Cause = "pinned to the shared versions of " + m.Config
	}
	st.moved(e.At, m)
}

func samePin(a, b *Pin) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Revision == b.Revision && a.Hash == b.Hash && slices.Equal(a.Lines, b.Lines)
}

// previousProven gives the newest proven revision before what is stable, or what stable would fall back to.
func (s State) previousProven() int64 {
	if s.Unproven && s.Proven != s.Stable {
		return s.Proven
	}
	var n int64
	for _, r := range s.Revisions {
		if r.Proven && r.State != phase.StateRefused && r.N < s.Stable && r.N > n {
			n = r.N
		}
	}
	return n
}

// forget drops the refusals of a revision and reports whether there were any.
func (st *step) forget(n int64) bool {
	before := len(st.s.Refusals)
	st.s.Refusals = slices.DeleteFunc(st.s.Refusals, func(r Refusal) bool { return r.Revision == n })
	return len(st.s.Refusals) != before
}

// drop drops the refusal of one config.
func (st *step) drop(h manifest.Hash) {
	st.s.Refusals = slices.DeleteFunc(st.s.Refusals, func(r Refusal) bool { return r.Hash == h })
}

// abort is semantics.md 7.4 and 7.5.
func (st *step) abort(at time.Time) {
	s := &st.s
	switch {
	case s.Candidate != nil && s.Stable == 0, s.Hold != nil && s.Hold.Served:
		st.refuse(NotNow, "there is nothing to go back to; only apply or delete ends this release")
	case s.Candidate != nil:
		from := s.Candidate.Revision
		st.mark(from, phase.StateRolledBack)
		s.Candidate = nil
		st.moved(at, Moved{Move: MoveAbort, From: from, To: s.Stable})
	case s.Hold != nil:
		from := s.Hold.Revision
		s.Hold = nil
		st.moved(at, Moved{Move: MoveAbort, From: from, To: s.Stable})
	default:
		st.refuse(NotNow, "no release is open")
	}
}

// Retryable gives the revision that Retry reopens: the held, else the last refused one; 0: none. Where the last refusal was of
// shared versions it is those that are tried again, and no revision of an earlier release.
func (s State) Retryable() int64 {
	if s.Hold != nil {
		return s.Hold.Revision
	}
	shared := len(s.Vetoes) > 0
	if s.LastRefusal != nil {
		if r, ok := s.Find(s.LastRefusal.Revision); ok && r.State == phase.StateRefused {
			return r.N
		}
		shared = true
	}
	if shared && s.LastMove != MoveReturn {
		return 0
	}
	for _, r := range slices.Backward(s.Revisions) {
		if r.State == phase.StateRefused {
			return r.N
		}
	}
	return 0
}

// retry is semantics.md 7.3 and 7.5. Where only shared versions were refused, it drops the records and vetoes and nothing else.
func (st *step) retry(e Retry) {
	s := &st.s
	n := s.Retryable()
	switch {
	case s.LastMove == MoveDelete:
		st.refuse(NotNow, "the agent is deleted")
		return
	case s.Candidate != nil:
		st.refuse(NotNow, "revision %d is on its way; abort it first", s.Candidate.Revision)
		return
	case n == 0 && len(s.Refusals) == 0 && len(s.Vetoes) == 0:
		st.refuse(NotNow, "nothing was refused")
		return
	}
	from := s.Desired()
	to := from
	s.Vetoes = nil
	if n == 0 {
		s.Refusals = nil
	} else {
		to = n
		st.forgetLike(n)
		st.forgetLike(s.Stable)
		st.drop(e.Manifest)
		s.Hold = nil
		st.open(n, e.At, e.Live, e.Policy)
	}
	st.do(Reset{})
	st.moved(e.At, Moved{Move: MoveRetry, From: from, To: to})
}

// unhold is semantics.md 1 and 7.3.
func (st *step) unhold() {
	s := &st.s
	switch {
	case s.LastMove == MoveDelete:
		st.refuse(NotNow, "the agent is deleted")
		return
	case len(s.Vetoes) == 0 && s.Pin == nil:
		st.refuse(NotNow, "nothing is held: no shared version is vetoed or pinned")
		return
	}
	if len(s.Vetoes) > 0 {
		// What was refused is offered again: neither the head nor an instance may remember it.
		st.do(Reset{})
		for _, n := range []int64{s.Stable, s.Desired()} {
			st.forgetLike(n)
		}
	}
	s.Vetoes, s.Pin = nil, nil
	st.do(Moved{Move: MoveUnhold, From: s.Desired(), To: s.Desired()})
}

// forgetLike drops the refusals of a revision and of every other that has the same spec.
func (st *step) forgetLike(n int64) {
	spec := st.spec(n)
	st.s.Refusals = slices.DeleteFunc(st.s.Refusals, func(r Refusal) bool {
		return r.Revision == n || !spec.IsZero() && st.spec(r.Revision) == spec
	})
}

// remove is semantics.md 12: numbers go on, everything else is void.
func (st *step) remove(e Delete) {
	s := &st.s
	if s.LastMove == MoveDelete {
		st.do(Unchanged{})
		return
	}
	from := s.Desired()
	for i := range s.Revisions {
		r := &s.Revisions[i]
		r.Proven = false
		if r.State == phase.StateStable || r.State == phase.StateCandidate {
			r.State = phase.StateSuperseded
		}
	}
	*s = State{Last: s.Last, Revisions: s.Revisions, Opened: s.Opened}
	st.moved(e.At, Moved{Move: MoveDelete, From: from})
}
