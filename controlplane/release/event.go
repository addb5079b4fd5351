package release

import (
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Event is something that happened to an agent: one of Apply, Rollback, Abort, Retry, Unhold, Delete and Observe.
type Event interface{ event() }

// Apply is a person's new own spec. On a tombstone (after Delete) it re-creates the agent.
type Apply struct {
	At   time.Time
	Spec manifest.Hash // blob of the canonical spec
	// Manifest is the hash of the config that the spec resolves to with the heads as this write leaves them; zero when it
	// can't be resolved.
	Manifest manifest.Hash
	// Live is true when an instance of the agent is live or the fleet isn't complete ("no instance at all" is not
	// concluded then).
	Live bool
	// Policy is the new spec's.
	Policy Policy
}

// Policy is what a spec says about its release.
type Policy struct {
	OnReject         string        // OnRejectRollback if empty
	ProgressDeadline time.Duration // DefaultProgressDeadline if 0
}

// DefaultProgressDeadline is how long instances may take where a spec doesn't say.
const DefaultProgressDeadline = 60 * time.Second

// Rollback is a person's way back. To 0 aborts an open candidate (or hold), else goes to the previous proven
// revision. Without Force a never proven or refused target is refused.
type Rollback struct {
	At    time.Time
	To    int64
	Force bool
	// Pin also pins shared versions: To is then Pin.Revision. The caller takes them from the record of the APPLIED config. nil: a
	// pin ends.
	Pin *Pin
}

// Abort closes an open candidate or hold and leaves stable.
type Abort struct{ At time.Time }

// Retry reopens what State.Retryable names, or nothing where that is 0, and drops its records and every veto.
type Retry struct {
	At   time.Time
	Live bool // as in Apply
	// Policy is that of the revision that State.Retryable names, Manifest the config it resolves to now without vetoes (may be
	// zero).
	Policy   Policy
	Manifest manifest.Hash
}

// Unhold removes the vetoes and the pin, and the records of what they stood for.
type Unhold struct{ At time.Time }

// Delete makes the head a tombstone.
type Delete struct{ At time.Time }

// Observe is everything that counts now about the instances and configs of one agent, as of the very head that the
// state was read from. It is judged as a whole and moves the head at most once: after a write, observe again.
// The same facts twice give no second action but Drop and Check.
type Observe struct {
	At time.Time
	// Complete is false while an instance known to a peer may still come back (semantics.md 11).
	Complete bool
	// Stable, Candidate and Held are the configs that Build gives for these targets today; nil where there is no such
	// revision or it can't be resolved (a dangling reference).
	Stable, Candidate, Held *Config
	// Instances are the live ones.
	Instances []Instance
	// Applied are the configs that an instance of this agent APPLIED, oldest first.
	Applied []Config
	// Known finds the manifests of configs offered lately that are none of the above; it may be nil.
	Known map[manifest.Hash]Config
	// Seen is what deadlines are measured from: the times in State are of the clocks of those who wrote them, and At may be an hour
	// off from each of them.
	Seen Seen
}

// Seen tells when the caller first saw what is pending, by the clock of Observe.At. A zero time is not known: no deadline falls by it.
type Seen struct {
	// Opened is of the open candidate, Moved of the head's last own move.
	Opened, Moved time.Time
	// Written is of the newest write of the head behind a resource (kind/name), needed while an instance retries; the agent's own
	// is not needed.
	Written map[string]time.Time
}

// Config is one resolved config.
type Config struct {
	Revision   int64
	Hash       manifest.Hash
	Generation int64
	Lines      []manifest.Line // sorted
	Policy     Policy          // not needed in Applied and Known
	// Vetoed are the lines (kind/name) that a veto decided; not needed in Applied and Known.
	Vetoed []string
}

// Instance is what one live instance answered.
type Instance struct {
	ID string
	// Target is the revision that Build gives it, Desired the hash; zero: nothing.
	Target  int64
	Desired manifest.Hash
	// Runs and Running are the revision and hash that it serves; zero: nothing.
	Runs    int64
	Running manifest.Hash
	// Retrying is true while it retries Desired because of retryable faults (phase RECEIVED), which are in Faults.
	Retrying bool
	Faults   []phase.Fault
	// Refused are the configs that it refused and that still count (semantics.md 7.6).
	Refused map[manifest.Hash][]phase.Fault
}

func (Apply) event()    {}
func (Rollback) event() {}
func (Abort) event()    {}
func (Retry) event()    {}
func (Unhold) event()   {}
func (Delete) event()   {}
func (Observe) event()  {}
