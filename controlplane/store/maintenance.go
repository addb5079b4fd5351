package store

import "context"

// Kind is how a store is kept.
type Kind string

// The kinds of stores.
const (
	Embedded        Kind = "embedded"         // one member in this process
	EmbeddedCluster Kind = "embedded cluster" // one of several members in this process
	External        Kind = "external"
)

// Condition is how a store stands, as this process sees it.
type Condition struct {
	Kind Kind
	// Revision is the newest one that is known.
	Revision int64
	// SizeBytes is that of the largest member; QuotaBytes 0: not known.
	SizeBytes  int64
	QuotaBytes int64
	Members    []Member // by name
	// Fault says why the store takes no requests, such as for want of a quorum; empty when it does.
	Fault string
}

// Member is one member of a store. What isn't known is zero.
type Member struct {
	ID                   uint64
	Name                 string
	ClientURLs, PeerURLs []string
	Leader, Learner      bool
	Version              string
	SizeBytes            int64
	QuotaBytes           int64
	Revision             int64
	RaftIndex            uint64
	Fault                string   // why it doesn't answer; empty when it does
	Alarms               []string // such as NOSPACE
}

// Maintenance is what a store offers beside Store to who looks after it. It is safe for concurrent use.
type Maintenance interface {
	// Inspect asks every member by itself, each for a short time, so it answers within seconds whatever is broken. What is
	// wrong stands in the answer.
	Inspect(ctx context.Context) Condition
	// Compact drops the history below a revision. One that was compacted already is no error.
	Compact(ctx context.Context, revision int64) error
	// Full tells, once for several, that a write was refused for want of space.
	Full() <-chan struct{}
}
