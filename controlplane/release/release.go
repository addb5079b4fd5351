// Package release decides what becomes of an agent's revisions: Step(state, event) -> (state, actions). It is
// pure: no I/O, no clock, no goroutine. The rules are semantics.md 7 and 8.
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
	// LastRefusal is sticky until a config of greater generation other than the fallback is settled.
	LastRefusal *LastRefusal `json:"lastRefusal,omitempty"`
	// LastMove is the head's last own move.
	LastMove Move `json:"lastMove"`
}

// Candidate is a revision on its way to stable.
type Candidate struct {
	Revision int64     `json:"revision"`
	Release  string    `json:"release"` // id
	Since    time.Time `json:"since"`
	OnReject string    `json:"onReject"` // rollback or hold
	Deadline int64     `json:"deadlineMs"`
}

// Hold is a refused release that stays open.
type Hold struct {
	Revision int64     `json:"revision"`
	Since    time.Time `json:"since"`
	// Served is true when there was nothing proven to go back to: the held revision stays what Build gives.
	Served bool `json:"served,omitempty"`
}

// Revision is one numbered version of the agent's own spec.
type Revision struct {
	N     int64         `json:"n"`
	Spec  manifest.Hash `json:"spec"` // blob
	State phase.State   `json:"state"`
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
	Action       string        `json:"action"` // rolled_back, held, none
	RolledBackTo int64         `json:"rolledBackTo"`
	Generation   int64         `json:"generation"` // of the refused config
}

// Move names a head's own move.
type Move string

// The moves of an agent's head.
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
)
