// Package fleet holds the table of live instances: what each was offered, what it answered, what it runs. Streams write to it what
// this replica holds, peers tell it what the other replicas hold; the releaser, the status API and metrics read it. It is soft
// state: nothing here is stored. The table is pure (the caller passes the time).
//
// Each instance is held by the replica with its newest stream. Streams are ordered by a stamp that is given at Hello: the time, but
// always above every stamp that is known of the instance, so a clock that is wrong costs a reconnect and nothing else.
package fleet

import (
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Ref names one config of one agent. Revision is -1 for a config that this control plane has no record of.
type Ref struct {
	Token    manifest.Token
	Revision int64
}

// Config gives the name such as "8-3f2a91c4"; "" for none, "?-3f2a91c4" if the revision isn't known.
func (r Ref) Config() string {
	if r.Revision < 0 && !r.Token.Hash.IsZero() {
		return "?-" + r.Token.Hash.String()[:8]
	}
	return manifest.ConfigName(r.Revision, r.Token.Hash)
}

// Instance is one agentd process as this replica knows it. A value read from the table is the reader's own.
type Instance struct {
	ID snapshot.InstanceID
	// Replica holds its stream, or held it last.
	Replica      string
	Version      string // agentd's
	Capabilities []string
	Labels       map[string]string
	Endpoints    []string
	Phase        phase.Phase
	ConfigState  phase.ConfigState
	Desired      Ref // what Build gives it; zero: nothing (absent)
	Running      Ref // what it serves; zero: nothing
	Faults       []phase.Fault
	// Since is when it entered the phase, Seen when its last message came, Offered when Desired was last sent.
	Since   time.Time
	Seen    time.Time
	Offered time.Time
	// Connected is false between the loss of its stream and the end of its lease.
	Connected bool
	// InFlight is how many requests run, Requests and Errors how many ended since the instance was entered, by its beats.
	InFlight uint32
	Requests uint64
	Errors   uint64
	// Drifts is how often it was found running something else than what it acknowledged.
	Drifts uint32
	// Takeovers is how often a newer stream took over from a living one of the same id, within a minute of the last time.
	Takeovers uint32
	// Refused holds the config hashes that this instance refused and that still count (semantics.md 7.6).
	Refused map[manifest.Hash][]phase.Fault
}
