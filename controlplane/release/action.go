package release

import (
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Action is something that the caller of Step must do, in the transaction that writes the new state where it is
// a write: one of Refuse, Unchanged, Moved, Reset, KeepApplied, KeepRefusal, Write, Drop and Check.
type Action interface{ action() }

// Refuse says no to what a person asked. It is then the only action and the state is the one given.
type Refuse struct {
	Why    Why
	Reason string // for people
	// Faults are the recorded ones, with RefusedBefore.
	Faults []phase.Fault
}

// Why is the class of a Refuse.
type Why int

// The classes. RefusedBefore is an apply whose manifest equals a refused one: the rest of the set is written, this
// agent's action is "refused" (semantics.md 7.5). NoSuchRevision is errs.NotFound, the others errs.Precondition.
const (
	RefusedBefore Why = iota + 1
	NoSuchRevision
	NotNow     // not in this state; force doesn't help
	NeedsForce // only with force
)

// Unchanged says that a person's request changes nothing: it is then the only action and nothing is written.
type Unchanged struct {
	Revision int64 // the desired one
}

// Moved is one entry of the move log. From and To are revisions of what the agent is meant to run; 0: none.
type Moved struct {
	Move Move
	From int64
	To   int64
	// Revision is set when the move made a new revision.
	Revision int64
	// Config is the refused or settled config's name; "" where none is meant.
	Config string
	// Instance is who caused it; "" for a person.
	Instance string
	Faults   []phase.Fault
	Cause    string // for people, one line
	// Vetoes are those that a MoveVeto made or changed, as they are now.
	Vetoes []Veto
}

// Reset says that refusals which instances remember from before this write are void: write AgentHead's Reset fields.
type Reset struct{}

// KeepApplied stores the manifest of a config that an instance APPLIED.
type KeepApplied struct {
	Config   Config
	Instance string
	At       time.Time
}

// KeepRefusal stores the first refusal of a config, unless one is stored.
type KeepRefusal struct {
	Refusal Refusal
	Config  string
}

// Write says that the state differs from the one given and must be written; every other change of state comes with a Moved.
type Write struct{}

// Drop ends an instance's retry of a config. It is given again until the instance's facts change; sending it once is enough.
type Drop struct {
	Instance string
	Hash     manifest.Hash
}

// Check asks for the next Observe at that time at the latest.
type Check struct{ At time.Time }

func (Refuse) action()      {}
func (Unchanged) action()   {}
func (Moved) action()       {}
func (Reset) action()       {}
func (KeepApplied) action() {}
func (KeepRefusal) action() {}
func (Write) action()       {}
func (Drop) action()        {}
func (Check) action()       {}
