// Package snapshot builds what one instance must run from heads, immutables and instance facts. It is pure:
// no I/O, no clock, no goroutine, the same bytes on every replica (semantics.md 1 to 3, 6).
package snapshot

import (
	"encoding/json"

	"github.com/agentry/agentry/internal/manifest"
)

// InstanceID names an instance within an agent's namespace and name.
type InstanceID struct {
	Namespace string
	Agent     string
	Instance  string
}

// Heads is everything mutable that one agent's configs are resolved from, as of one store revision.
// Maps hold what the stable and candidate specs refer to; a missing entry never existed.
type Heads struct {
	Epoch       uint64
	Agent       AgentHead
	Prompts     map[string]PromptHead
	MCP         map[string]MCPHead
	Credentials map[string]CredentialHead
	// Pins and Vetoes are the agent head's, by kind/name of the line.
	Pins   map[string]manifest.Line
	Vetoes map[string]Veto
	// Stamp is equal where two readings of one agent's heads are; 0: not known.
	Stamp int64
}

// Veto keeps refused versions of one line away: where a reference resolves to one of Refused, Use takes its place
// (semantics.md 7.3). A policy's version is its SHA-256 in lower hex.
type Veto struct {
	Refused []string
	Use     string
}

// AgentHead is the part of an agent's head that decides what instances get.
type AgentHead struct {
	ModRevision int64
	Exists      bool // false: unknown
	Deleted     bool // a tombstone
	Stable      int64
	Candidate   int64 // 0: none open
	Held        int64 // the revision of a hold without anything proven to go back to; 0: none
	// Returned is true when the head's last own move is a rollback or the policy's return from a refused candidate
	// (semantics.md 6, second source of proven lines).
	Returned bool
	// MovedAt is the store revision of that last own move.
	MovedAt int64
}

// PromptHead resolves a prompt reference.
type PromptHead struct {
	ModRevision int64
	Deleted     bool
	Labels      map[string]string        // label -> version
	Versions    map[string]manifest.Hash // version -> blob, online ones
}

// MCPHead resolves an MCP reference and renders the policy resource.
type MCPHead struct {
	ModRevision int64
	Deleted     bool
	Current     string
	Versions    map[string]manifest.Hash
	Policy      []byte   // canonical JSON of spec.Policy; nil: no policy resource
	Denied      []string // switched-off tool names; "*" alone: the whole server
}

// CredentialHead gives a credential's current version; values travel beside and are not built here.
type CredentialHead struct {
	ModRevision int64
	Deleted     bool
	Version     int64
	// Kept are the versions whose values are kept, ascending.
	Kept []int64
	// Origins are where its value may be sent; none: anywhere.
	Origins []string
}

// Immutables reads content-addressed resources. ok is false when the blob isn't there, which is a fault of the store.
type Immutables interface {
	// Spec gives the canonical JSON of an agent's revision.
	Spec(revision int64) (json.RawMessage, manifest.Hash, bool)
	// Blob gives the bytes of a prompt's or MCP entry's version.
	Blob(h manifest.Hash) ([]byte, bool)
	// Applied reports whether an instance of this agent ever APPLIED a config with this line.
	Applied(line manifest.Line) bool
}

// Instance is what Build must know of the instance. The zero Instance is one that runs nothing.
type Instance struct {
	ID InstanceID
	// RunsRevision is the revision it runs; 0: nothing.
	RunsRevision int64
	// RefusedStable is true when it refused the stable config (as Build gives it).
	RefusedStable bool
}

// Resource is one line with its bytes; none for a credential.
type Resource struct {
	Line manifest.Line
	JSON []byte
}

// Snapshot is what one instance must run. Resources are in manifest order. Its slices are shared and must not be changed.
type Snapshot struct {
	Absent      Absence // when not Present, nothing below but Token is set
	Token       manifest.Token
	Revision    int64
	Resources   []Resource
	Manifest    []manifest.Line // the lines of Resources
	Proven      []string        // kind/name of proven lines, sorted
	Credentials []string        // names whose values travel beside, sorted
	Vetoed      []string        // kind/name of the lines that a veto decided, sorted
	Pinned      []string        // the same for the pin
}

// Absence says why there is nothing to run.
type Absence int

// The absences.
const (
	Present Absence = iota
	Unknown
	Deleted
)
