package snapshot

import "github.com/agentry/agentry/internal/spec"

// Parsed is what is needed of an agent's own spec to build and to judge. Whoever holds many specs keeps one for each, so that a
// change doesn't decode them again. It is immutable.
type Parsed struct {
	// Release is the spec's part of that name.
	Release spec.Release

	refs []reference
}

// Parse takes it out of a decoded spec.
func Parse(a spec.Agent) *Parsed { return &Parsed{Release: a.Release, refs: references(a)} }

// parsings is what Immutables that keep Parsed implement beside it. False: not kept, perhaps there all the same.
type parsings interface {
	Parsed(revision int64) (*Parsed, bool)
}

// ParsedSpec gives it for one of an agent's revisions, decoded if im doesn't keep it. Errors are those of Build.
func ParsedSpec(im Immutables, agent string, revision int64) (*Parsed, error) {
	if kept, ok := im.(parsings); ok {
		if p, ok := kept.Parsed(revision); ok {
			return p, nil
		}
	}
	raw, _, ok := im.Spec(revision)
	if !ok {
		return nil, missingSpec(agent, revision)
	}
	a, err := decode(raw)
	if err != nil {
		return nil, err
	}
	return Parse(a), nil
}
