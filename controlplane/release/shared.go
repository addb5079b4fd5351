package release

import (
	"slices"
	"time"

	"github.com/agentry/agentry/internal/manifest"
)

// Veto keeps refused versions of one shared head away from this agent's instances (semantics.md 7.3). It counts only where a
// reference resolves to one of them: then Use takes its place.
type Veto struct {
	// Kind and Name are those of the manifest line: prompt, mcp, credential, or policy (whose name is its MCP entry's).
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Refused are versions, oldest refusal first, at most maxRefused; a policy has none, so its SHA-256 in lower hex stands
	// for it. Use is the version in the base, never one of them.
	Refused []string  `json:"refused"`
	Use     string    `json:"use"`
	Since   time.Time `json:"since"` // of the last refused one
	// Instance refused the last one.
	Instance string `json:"instance,omitempty"`
}

// Pin holds the shared versions of one applied config (semantics.md 1). Pinned lines are never vetoed.
type Pin struct {
	Revision int64         `json:"revision"`
	Hash     manifest.Hash `json:"hash"`
	// Lines are the manifest's shared ones. A caller may leave out a credential whose value isn't kept any more: it resolves as
	// if there were no pin.
	Lines []manifest.Line `json:"lines"`
	Since time.Time       `json:"since"`
}

// Config gives the pinned config's name.
func (p Pin) Config() string { return manifest.ConfigName(p.Revision, p.Hash) }

// maxRefused bounds the versions of one veto; the oldest is forgotten first. An instance's own memory still holds it.
const maxRefused = 16

// Shared gives the lines of a manifest that shared heads decide: all but the own spec.
func Shared(lines []manifest.Line) []manifest.Line {
	return slices.DeleteFunc(slices.Clone(lines), func(l manifest.Line) bool { return l.Kind == manifest.KindAgent })
}

// VersionOf gives what a veto calls a line's version: a policy's is its hash.
func VersionOf(l manifest.Line) string {
	if l.Kind == manifest.KindPolicy {
		return l.SHA256.String()
	}
	return l.Version
}

// Resource gives kind/name.
func (v Veto) Resource() string { return v.Kind + "/" + v.Name }

// short gives a version for people.
func short(kind, version string) string {
	if kind == manifest.KindPolicy && len(version) > 8 {
		return version[:8]
	}
	return version
}
