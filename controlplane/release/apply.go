package release

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

const (
	keepRevisions = 100
	keepRefusals  = 32
)

// step is one Step under way.
type step struct {
	s   State
	out []Action
}

// clone gives a state whose slices and pointers may be changed.
func (s State) clone() State {
	if s.Candidate != nil {
		c := *s.Candidate
		s.Candidate = &c
	}
	if s.Hold != nil {
		h := *s.Hold
		s.Hold = &h
	}
	if s.LastRefusal != nil {
		l := *s.LastRefusal
		s.LastRefusal = &l
	}
	s.Revisions = slices.Clone(s.Revisions)
	s.Refusals = slices.Clone(s.Refusals)
	s.Vetoes = slices.Clone(s.Vetoes) // Refused is replaced, never changed
	return s                          // and so is Pin
}

func (st *step) do(a Action) { st.out = append(st.out, a) }

func (st *step) refuse(w Why, format string, args ...any) {
	st.out = []Action{Refuse{Why: w, Reason: fmt.Sprintf(format, args...)}}
}

// moved logs an own move.
func (st *step) moved(at time.Time, m Moved) {
	st.s.LastMove, st.s.LastMoveAt = m.Move, at
	st.do(m)
}

// mark sets a kept revision's fate.
func (st *step) mark(n int64, state phase.State) {
	for i := range st.s.Revisions {
		if st.s.Revisions[i].N == n {
			st.s.Revisions[i].State = state
		}
	}
}

// prove makes stable the last proven revision.
func (st *step) prove() {
	st.s.Unproven, st.s.Proven = false, st.s.Stable
	for i := range st.s.Revisions {
		if st.s.Revisions[i].N == st.s.Stable {
			st.s.Revisions[i].Proven = true
		}
	}
}

// setStable makes n stable. What was stable gets the given fate.
func (st *step) setStable(n int64, before phase.State) {
	if st.s.Stable != 0 && st.s.Stable != n {
		st.mark(st.s.Stable, before)
	}
	st.s.Stable = n
	st.mark(n, phase.StateStable)
}

func (st *step) spec(n int64) manifest.Hash {
	r, _ := st.s.Find(n)
	return r.Spec
}

// open makes n the candidate, or stable at once and unproven if no instance is live (semantics.md 8).
func (st *step) open(n int64, at time.Time, live bool, p Policy) {
	if !live {
		st.setStable(n, phase.StateSuperseded)
		st.s.Unproven = true
		return
	}
	st.s.Opened++
	c := &Candidate{
		Revision: n, Release: "rel-" + strconv.FormatInt(st.s.Opened, 10), Since: at,
		OnReject: p.onReject(), Deadline: p.deadline().Milliseconds(),
	}
	st.s.Candidate = c
	st.mark(n, phase.StateCandidate)
}

func (p Policy) onReject() string {
	if p.OnReject == OnRejectHold {
		return OnRejectHold
	}
	return OnRejectRollback
}

func (p Policy) deadline() time.Duration {
	if p.ProgressDeadline <= 0 {
		return DefaultProgressDeadline
	}
	return p.ProgressDeadline
}

// apply is semantics.md 7.5, 8 and 12.
func (st *step) apply(e Apply) {
	s := &st.s
	deleted := s.LastMove == MoveDelete
	if !deleted {
		switch {
		case s.Candidate != nil && e.Spec == st.spec(s.Candidate.Revision):
			st.do(Unchanged{Revision: s.Candidate.Revision})
			return
		case s.Stable != 0 && e.Spec == st.spec(s.Stable) && (s.Candidate != nil || s.Hold != nil):
			st.abort(e.At)
			return
		case s.Stable != 0 && e.Spec == st.spec(s.Stable):
			st.do(Unchanged{Revision: s.Stable})
			return
		}
		if r, ok := s.refusal(e.Manifest); ok {
			st.out = []Action{Refuse{
				Why: RefusedBefore, Faults: r.Faults,
				Reason: fmt.Sprintf("config %s was refused by instance %s; agentctl rollout retry offers it again",
					manifest.ConfigName(r.Revision, r.Hash), r.Instance),
			}}
			return
		}
	}
	from := s.Desired()
	if s.Candidate != nil {
		st.mark(s.Candidate.Revision, phase.StateSuperseded)
		s.Candidate = nil
	}
	s.Hold, s.Vetoes, s.Pin = nil, nil, nil
	s.Last++
	s.Revisions = append(s.Revisions, Revision{N: s.Last, Spec: e.Spec})
	st.open(s.Last, e.At, e.Live, e.Policy)
	st.trim()
	m := Moved{Move: MoveApply, From: from, To: s.Last, Revision: s.Last}
	if deleted {
		m.Move = MoveRecreate
		st.do(Reset{})
	}
	st.moved(e.At, m)
}

// refusal finds the record of a refused config.
func (s State) refusal(h manifest.Hash) (Refusal, bool) {
	if h.IsZero() {
		return Refusal{}, false
	}
	i := slices.IndexFunc(s.Refusals, func(r Refusal) bool { return r.Hash == h })
	if i < 0 {
		return Refusal{}, false
	}
	return s.Refusals[i], true
}

// trim drops the oldest revisions that nothing needs (semantics.md 12).
func (st *step) trim() {
	s := &st.s
	needed := func(n int64) bool {
		return n == s.Last || n == s.Stable || n == s.Proven ||
			s.Candidate != nil && n == s.Candidate.Revision || s.Hold != nil && n == s.Hold.Revision
	}
	for len(s.Revisions) > keepRevisions {
		i := slices.IndexFunc(s.Revisions, func(r Revision) bool { return !needed(r.N) })
		if i < 0 {
			return
		}
		s.Revisions = slices.Delete(s.Revisions, i, i+1)
	}
}
