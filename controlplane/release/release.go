// Package release decides what becomes of an agent's revisions: Step(state, event) -> (state, actions). It is
// pure: no I/O, no clock, no goroutine. The rules are semantics.md 7 and 8.
//
// Two callers step an agent: the spec API with what a person asks (Apply, Rollback, Abort, Retry, Delete), and the
// releaser with what the instances answered (Observe). Each of them reads the agent's head, calls Step, and writes the
// new state and what the actions ask for in one transaction, under the condition that the head's ModRevision is still the
// one read: the head by view.AgentHead's Moved if OwnMove(actions), else Noted; one view.HeadMove for every Moved. A write
// that loses reads and steps again.
package release

import (
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// State is what one agent's head says about its revisions. It is stored as JSON inside the head.
type State struct {
	Last      int64      `json:"last"`               // newest revision; numbers are never used twice
	Stable    int64      `json:"stable"`             // 0: none yet
	Unproven  bool       `json:"unproven,omitempty"` // stable was never APPLIED by an instance
	Proven    int64      `json:"proven,omitempty"`   // last revision that was stable and APPLIED
	Candidate *Candidate `json:"candidate,omitempty"`
	// Hold is an open release that is red: the candidate was refused and policy or lack of a base keeps it open.
	Hold      *Hold      `json:"hold,omitempty"`
	Revisions []Revision `json:"revisions"` // newest last, at most 100
	Refusals  []Refusal  `json:"refusals,omitempty"`
	// Vetoes are sorted by kind and name, one for each; Pin is nil unless a person rolled back to a config.
	Vetoes []Veto `json:"vetoes,omitempty"`
	Pin    *Pin   `json:"pin,omitempty"`
	// LastRefusal is sticky until a config of greater generation other than the fallback is settled.
	LastRefusal *LastRefusal `json:"lastRefusal,omitempty"`
	// LastMove is the head's last own move, the last that changed what instances get, and LastMoveAt its time.
	LastMove   Move      `json:"lastMove"`
	LastMoveAt time.Time `json:"lastMoveAt"`
	// Opened counts the releases ever opened; it makes their ids.
	Opened int64 `json:"opened,omitempty"`
}

// Candidate is a revision on its way to stable.
type Candidate struct {
	Revision int64     `json:"revision"`
	Release  string    `json:"release"` // id, unique within the agent
	Since    time.Time `json:"since"`
	OnReject string    `json:"onReject"` // rollback or hold
	Deadline int64     `json:"deadlineMs"`
}

// Hold is a refused release that stays open.
type Hold struct {
	Revision int64     `json:"revision"`
	Release  string    `json:"release"` // the candidate's
	Since    time.Time `json:"since"`
	// Served is true when there was nothing proven to go back to: the held revision stays what Build gives.
	Served bool `json:"served,omitempty"`
}

// Revision is one numbered version of the agent's own spec.
type Revision struct {
	N     int64         `json:"n"`
	Spec  manifest.Hash `json:"spec"` // blob
	State phase.State   `json:"state"`
	// Proven is true once it was stable and APPLIED by an instance.
	Proven bool `json:"proven,omitempty"`
}

// Refusal is the record of one refused config of this agent.
type Refusal struct {
	Revision int64         `json:"revision"`
	Hash     manifest.Hash `json:"hash"`
	Instance string        `json:"instance"`
	Faults   []phase.Fault `json:"faults"`
	At       time.Time     `json:"at"`
}

// LastRefusal is shown in status until the next config settles (semantics.md 7.7).
type LastRefusal struct {
	Revision     int64         `json:"revision"`
	Config       string        `json:"config"`
	Instance     string        `json:"instance"`
	Faults       []phase.Fault `json:"faults"`
	At           time.Time     `json:"at"`
	Action       string        `json:"action"` // ActionRolledBack, ActionHeld or ActionNone
	RolledBackTo int64         `json:"rolledBackTo"`
	Generation   int64         `json:"generation"` // of the refused config
	Hash         manifest.Hash `json:"hash"`       // of the refused config
	// Fallback is the config that instances went back to; zero: none.
	Fallback manifest.Hash `json:"fallback"`
}

// Move names a head's own move.
type Move string

// The moves of an agent's head. MoveProve changes nothing that instances get. It, MoveVeto and MoveUnhold, which move shared
// versions and no revision, are never State.LastMove.
const (
	MoveApply    Move = "apply"
	MovePromote  Move = "promote" // candidate -> stable
	MoveReturn   Move = "return"  // policy's return from a refused candidate
	MoveHold     Move = "hold"
	MoveRollback Move = "rollback" // a person's
	MoveAbort    Move = "abort"
	MoveRetry    Move = "retry"
	MoveProve    Move = "prove" // an unproven stable's first APPLIED
	MoveDelete   Move = "delete"
	MoveRecreate Move = "recreate"
	MoveVeto     Move = "veto"   // shared versions held back
	MoveUnhold   Move = "unhold" // vetoes and pin removed by a person
)

// What a refusal led to (LastRefusal.Action).
const (
	ActionRolledBack = "rolled_back"
	ActionHeld       = "held"
	ActionNone       = "none"
)

// The policies of a refused candidate (Candidate.OnReject).
const (
	OnRejectRollback = "rollback"
	OnRejectHold     = "hold"
)

// Returned reports whether the last own move took instances back: a person's rollback or abort, or the policy's
// return from a refused candidate. It is the second source of proven lines (semantics.md 6).
func (s State) Returned() bool {
	switch s.LastMove {
	case MoveRollback, MoveReturn, MoveAbort:
		return true
	case MoveHold:
		return s.Hold == nil || !s.Hold.Served
	default:
		return false
	}
}

// Quiet reports whether nothing is under way: as long as no instance refuses or retries something, all that there is to do by
// Observe is to keep what instances apply.
func (s State) Quiet() bool {
	return s.Last != 0 && s.LastMove != MoveDelete && s.Stable != 0 && !s.Unproven &&
		s.Candidate == nil && s.Hold == nil && s.LastRefusal == nil
}

// Desired gives the revision that an operator means the agent to run: the candidate if one is open, else what a hold
// without anything to go back to serves, else stable; 0: none.
func (s State) Desired() int64 {
	switch {
	case s.Candidate != nil:
		return s.Candidate.Revision
	case s.Hold != nil && s.Hold.Served:
		return s.Hold.Revision
	default:
		return s.Stable
	}
}

// Held gives the revision of a hold with nothing proven to go back to, which stays what Build gives; 0: none.
func (s State) Held() int64 {
	if s.Hold != nil && s.Hold.Served {
		return s.Hold.Revision
	}
	return 0
}

// Find gives a kept revision.
func (s State) Find(n int64) (Revision, bool) {
	for _, r := range s.Revisions {
		if r.N == n {
			return r, true
		}
	}
	return Revision{}, false
}
