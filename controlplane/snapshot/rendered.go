package snapshot

import (
	"time"

	"github.com/agentry/agentry/internal/manifest"
)

// Rendered is a Snapshot ready to be sent, with what travels beside it. It is immutable and shared by every stream whose
// instance gets it.
type Rendered struct {
	Snapshot Snapshot
	// Lines is the whole manifest, in manifest order.
	Lines []manifest.Line
	// Denied is the agent's whole deny list (server or server/tool, sorted), DeniedAt the revision that orders it.
	Denied   []string
	DeniedAt int64
	// Refusals that an instance remembers from below this (epoch, generation) are void (semantics.md 7.6).
	ResetEpoch      uint64
	ResetGeneration int64
	// ReturnedAt is the store revision of the head's last own move if that was a return to an older revision, else 0.
	ReturnedAt int64
	// ProvenKey is equal for equal sets of proven lines.
	ProvenKey string
	Cause     Cause
	// Content gives the wire form of the manifest and of those resources, by index in Snapshot.Resources, for which
	// missing is true. Nobody writes to the bytes, which equal calls may share. It is nil for an absent snapshot.
	Content func(missing []bool) ([]byte, error)
}

// Cause says who moved which head and why.
type Cause struct {
	Actor  string
	Reason string
	Head   string // kind/name
	Time   time.Time
}
