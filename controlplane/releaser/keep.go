package releaser

import (
	"maps"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/internal/manifest"
)

// A config that an instance APPLIED is recorded a moment later, unless a head is written anyway: a shared head's move reaches
// thousands of agents, and their records must not compete with what is still on its way to instances. Until then the record is
// in memory and counts as written; of those that a crash takes, the ones that still run are seen again.
const (
	keepAfter = 2 * time.Second
	// While instances of any agent go on changing, the fan-out may not be over: then it waits for keepQuiet without, but not for ever.
	keepQuiet = 500 * time.Millisecond
	keepMost  = 30 * time.Second
	maxHeld   = 16 // of one agent; one more is a reason to write
)

// heldApplied is one record on its way.
type heldApplied struct {
	release.KeepApplied

	since    time.Time
	policies map[manifest.Hash][]byte // the bytes of its policy lines
}

// held gives an agent's records that aren't in the store yet, oldest first.
func (m *memo) held(s *sight) []heldApplied {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.of(s.key)
	stored := map[manifest.Hash]bool{}
	for _, c := range s.applied {
		stored[c.Hash] = true
	}
	a.held = slices.DeleteFunc(a.held, func(h heldApplied) bool { return stored[h.Config.Hash] })
	return slices.Clone(a.held)
}

// hold adds the records that a step asked for and gives all that are held.
func (m *memo) hold(s *sight, actions []release.Action, policies map[manifest.Hash][]byte, now time.Time) []heldApplied {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.of(s.key)
	for _, action := range actions {
		k, ok := action.(release.KeepApplied)
		if !ok || slices.ContainsFunc(a.held, func(h heldApplied) bool { return h.Config.Hash == k.Config.Hash }) {
			continue
		}
		var own map[manifest.Hash][]byte
		for _, l := range k.Config.Lines {
			if b, ok := policies[l.SHA256]; ok && l.Kind == manifest.KindPolicy {
				if own == nil {
					own = map[manifest.Hash][]byte{}
				}
				own[l.SHA256] = b
			}
		}
		a.held = append(a.held, heldApplied{KeepApplied: k, since: now, policies: own})
	}
	return slices.Clone(a.held)
}

// settle decides about the records: what to write now, with the policies that belong to it, and when to look again for the rest.
func (r *Releaser) settle(s *sight, actions []release.Action, policies map[manifest.Hash][]byte, now time.Time) (write []release.Action, due time.Time) {
	held := r.memo.hold(s, actions, policies, now)
	moves := false
	for _, a := range actions {
		switch a.(type) {
		case release.KeepApplied:
			continue // among the held ones
		case release.Write, release.Moved, release.KeepRefusal:
			moves = true
		}
		write = append(write, a)
	}
	if len(held) == 0 {
		return write, time.Time{}
	}
	if due = r.recordAt(held[0].since); !moves && len(held) < maxHeld && now.Before(due) {
		return write, due
	}
	for _, h := range held {
		write = append(write, h.KeepApplied)
		maps.Copy(policies, h.policies)
	}
	return write, time.Time{}
}

// recordAt gives when what was applied at a time is to be recorded, as it looks now.
func (r *Releaser) recordAt(since time.Time) time.Time {
	at, quiet := since.Add(keepAfter), time.Unix(0, r.stirred.Load()).Add(keepQuiet)
	if at.Before(quiet) {
		at = quiet
	}
	if most := since.Add(keepMost); most.Before(at) {
		at = most
	}
	return at
}
