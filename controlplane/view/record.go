// Package view holds everything the control plane knows at one store revision, in memory, fed by one watch. It owns
// the stored shapes (records and keys), indexes who depends on what, and tells subscribers which agents a
// change touches. It writes nothing; writers use store.Store with the keys and records of this package.
package view

import (
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// Cluster identifies a store: semantics.md 4.
type Cluster struct {
	ID    string `json:"id"` // 128 random bits, lower hex
	Epoch uint64 `json:"epoch"`
	// Greeted is true once an instance ever said Hello (semantics.md 11).
	Greeted bool `json:"greeted"`
	// Restoring is set while a backup is brought back: nothing is pushed, and nobody but who restores writes.
	Restoring *Restoring `json:"restoring,omitempty"`
	// Restored tells of the last restore; nil: there was none.
	Restored *Restored `json:"restored,omitempty"`
}

// Restoring is a restore under way.
type Restoring struct {
	ID      string    `json:"id"` // of this restore
	Replica string    `json:"replica"`
	By      string    `json:"by"`
	Began   time.Time `json:"began"`
}

// Restored is a restore that was done.
type Restored struct {
	By             string    `json:"by"`
	At             time.Time `json:"at"`
	Taken          time.Time `json:"taken"`          // when the backup was; zero: the store was taken as it was
	BackupRevision int64     `json:"backupRevision"` // the store's when the backup was taken
	FromEpoch      uint64    `json:"fromEpoch"`
	Message        string    `json:"message,omitempty"`
}

// AgentHead is an agent's head. It is rewritten, never deleted: Deleted is a tombstone.
type AgentHead struct {
	Name    string        `json:"name"` // as written; keys are lower case
	Deleted bool          `json:"deleted,omitempty"`
	State   release.State `json:"state"`
	// Reset is the store's epoch and the head's generation at the last operator retry or re-creation: refusals that
	// an instance remembers from below it are void (semantics.md 7.6). ResetHere means "this write's own revision".
	ResetEpoch      uint64 `json:"resetEpoch,omitempty"`
	ResetGeneration int64  `json:"resetGeneration,omitempty"`
	ResetHere       bool   `json:"resetHere,omitempty"`
	// MovedAt is the store revision of the head's last own release move; 0: this very write was one. Writers use
	// Moved and Noted, which keep it right.
	MovedAt   int64     `json:"movedAt,omitempty"`
	Updated   time.Time `json:"updated"`
	UpdatedBy string    `json:"updatedBy"`
}

// Moved gives the head to write when s came of a release move: the write's own revision becomes MovedAt.
func (h AgentHead) Moved(s release.State) AgentHead {
	h.State, h.MovedAt = s, 0
	return h
}

// Noted gives the head to write when s only notes something, such as the record of a refusal that moves no head.
// modRevision is the ModRevision at which h was read.
func (h AgentHead) Noted(s release.State, modRevision int64) AgentHead {
	h.State, h.MovedAt = s, h.lastMove(modRevision)
	return h
}

func (h AgentHead) lastMove(modRevision int64) int64 {
	if h.MovedAt != 0 {
		return h.MovedAt
	}
	return modRevision
}

// VersionRef is one immutable version under a shared head.
type VersionRef struct {
	Version string        `json:"version"`
	Ordinal int64         `json:"ordinal"` // 1, 2, 3, ...
	Hash    manifest.Hash `json:"hash"`    // blob
	Online  bool          `json:"online"`
	Time    time.Time     `json:"time"`
	Author  string        `json:"author"`
}

// PromptHead is a prompt's head.
type PromptHead struct {
	Name     string            `json:"name"` // as written; keys are lower case
	Deleted  bool              `json:"deleted,omitempty"`
	Versions []VersionRef      `json:"versions"` // oldest first
	Labels   map[string]string `json:"labels"`   // label -> version; "latest" is the server's
	Updated  time.Time         `json:"updated"`
	By       string            `json:"by"`
}

// MCPHead is an MCP entry's head.
type MCPHead struct {
	Name     string                     `json:"name"` // as written; keys are lower case
	Deleted  bool                       `json:"deleted,omitempty"`
	Versions []VersionRef               `json:"versions"`
	Current  string                     `json:"current"`
	Enabled  *bool                      `json:"enabled,omitempty"` // the whole server; nil: on
	Tools    map[string]spec.ToolSwitch `json:"tools,omitempty"`
	Updated  time.Time                  `json:"updated"`
	By       string                     `json:"by"`
}

// CredentialHead is a credential's head. Sealed holds the values of the kept versions, never in clear.
type CredentialHead struct {
	Name    string           `json:"name"` // as written; keys are lower case
	Deleted bool             `json:"deleted,omitempty"`
	Version int64            `json:"version"`
	Sealed  map[int64][]byte `json:"sealed"` // version -> sealed value
	// AllowedOrigins are where the value may be sent, as spec.Origin writes them; none: anywhere.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// Fingerprint is the keyed fingerprint of the literal last applied from a file for this place; "" if none was.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Rotated is true when the value changed since by other means than a file.
	Rotated bool      `json:"rotated,omitempty"`
	Updated time.Time `json:"updated"`
	By      string    `json:"by"`
}

// Applied is a config that an instance of an agent APPLIED: its manifest, stored once, content-addressed.
type Applied struct {
	Revision int64           `json:"revision"`
	Config   string          `json:"config"`
	Lines    []manifest.Line `json:"lines"`
	Instance string          `json:"instance"`
	Time     time.Time       `json:"time"`
}

// RefusalRecord is the first refusal of one config of one agent.
type RefusalRecord struct {
	Revision int64         `json:"revision"`
	Config   string        `json:"config"`
	Instance string        `json:"instance"`
	Faults   []phase.Fault `json:"faults"`
	Time     time.Time     `json:"time"`
}

// MoveRecord is the log of one transaction's head moves. Its seq is the store revision of the write
// (the key's CreateRevision).
type MoveRecord struct {
	Actor   string     `json:"actor"`
	Cause   string     `json:"cause"` // apply, rollback, policy, delete, ...
	Message string     `json:"message,omitempty"`
	Time    time.Time  `json:"time"`
	Heads   []HeadMove `json:"heads"`
	// Term is the number of the lead (package leader) within which the releaser wrote it; 0: a person's request, or a release of
	// before there were terms. Within one store it never goes down from one of the releaser's records to the next.
	Term int64 `json:"term,omitempty"`
}

// HeadMove is one head's part of a move.
type HeadMove struct {
	Kind      string `json:"kind"` // agent, prompt, mcp, credential
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Revision is set when the move made a new revision (or version ordinal); 0: a move only.
	Revision int64 `json:"revision,omitempty"`
	// Part says what of the head moved where it wasn't the whole: "label prod", "tool query" or "server". From and To
	// are then that part's: versions of a label, "on" or "off", the short digest of an approved definition.
	Part   string `json:"part,omitempty"`
	From   string `json:"from,omitempty"` // revision or version before
	To     string `json:"to,omitempty"`
	Config string `json:"config,omitempty"`
	// Move is the release move of an agent's head; "" for the others.
	Move   release.Move  `json:"move,omitempty"`
	Faults []phase.Fault `json:"faults,omitempty"`
}
