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
	case e.To == s.Stable && s.Candidate == nil && s.Hold == nil:
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
	s.Hold = nil
	if st.forget(e.To) || target.State == phase.StateRefused {
		st.do(Reset{})
	}
	st.setStable(e.To, phase.StateRolledBack)
	if target.Proven {
		st.prove()
	} else {
		s.Unproven = true
	}
	st.moved(e.At, Moved{Move: MoveRollback, From: from, To: e.To})
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

// Retryable gives the revision that Retry reopens: the held, else the last refused one; 0: none.
func (s State) Retryable() int64 {
	if s.Hold != nil {
		return s.Hold.Revision
	}
	if s.LastRefusal != nil {
		if r, ok := s.Find(s.LastRefusal.Revision); ok && r.State == phase.StateRefused {
			return r.N
		}
	}
	for _, r := range slices.Backward(s.Revisions) {
		if r.State == phase.StateRefused {
			return r.N
		}
	}
	return 0
}

// retry is semantics.md 7.5. Where only shared versions were refused, it drops the records and nothing else.
func (st *step) retry(e Retry) {
	s := &st.s
	n := s.Retryable()
	switch {
	case s.LastMove == MoveDelete:
		st.refuse(NotNow, "the agent is deleted")
	case s.Candidate != nil:
		st.refuse(NotNow, "revision %d is on its way; abort it first", s.Candidate.Revision)
	case n == 0 && len(s.Refusals) == 0:
		st.refuse(NotNow, "nothing was refused")
	case n == 0:
		s.Refusals = nil
		st.do(Reset{})
		st.moved(e.At, Moved{Move: MoveRetry, From: s.Stable, To: s.Stable})
	default:
		from := s.Stable
		st.forget(n)
		st.drop(e.Manifest)
		s.Hold = nil
		st.open(n, e.At, e.Live, e.Policy)
		st.do(Reset{})
		st.moved(e.At, Moved{Move: MoveRetry, From: from, To: n})
	}
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
