package view

import (
	"github.com/agentry/agentry/internal/manifest"
)

// Standing is the little that tells whether an agent has to be looked at.
type Standing struct {
	Name string // as written
	// Moved is the store revision of the last change of what its configs are built from: while it stays the same, so do they.
	// Newly proven lines are no such change.
	Moved int64
	// Quiet is release.State.Quiet of its head.
	Quiet bool
}

// Standing gives an agent's; false when there is none or it is deleted. It costs no copy of the head.
func (v *View) Standing(namespace, name string) (Standing, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, name)]
	if a == nil || a.head.Deleted {
		return Standing{}, false
	}
	return Standing{Name: a.head.Name, Moved: a.moved, Quiet: a.head.State.Quiet()}, true
}

// Reset gives the (epoch, generation) of an agent's head below which remembered refusals are void; zero when there is none. It
// costs no copy of the head.
func (v *View) Reset(namespace, name string) (epoch uint64, generation int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, name)]
	if a == nil {
		return 0, 0
	}
	return a.head.ResetEpoch, a.head.ResetGeneration
}

// Recorded reports whether it is known that an instance of an agent APPLIED a config.
func (v *View) Recorded(namespace, agent string, config manifest.Hash) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.applied[idOf(manifest.KindAgent, namespace, agent)].config(config) != nil
}
