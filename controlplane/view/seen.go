package view

import (
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/internal/manifest"
)

// Seen tells when this view first showed what an agent's head says, by this machine's clock. Only such times may be compared with
// this machine's: those in records are of the clock of whoever wrote them, which may be an hour wrong.
type Seen struct {
	Moved  time.Time // the last own move
	Opened time.Time // the open candidate; zero: none is open
}

// SeenAgent gives an agent's; zero when there is none. What was there when the view was opened was seen then, and what was there
// when an epoch began not before that: nothing was offered while a restore was under way.
func (v *View) SeenAgent(namespace, name string) Seen {
	v.mu.RLock()
	defer v.mu.RUnlock()
	a := v.agents[idOf(manifest.KindAgent, namespace, name)]
	if a == nil {
		return Seen{}
	}
	s := Seen{Moved: v.since(a.seen.Moved)}
	if a.head.State.Candidate != nil {
		s.Opened = v.since(a.seen.Opened)
	}
	return s
}

// SeenLine tells it of the newest write of the shared head behind a manifest line of an agent in a namespace; zero when there is no
// such head.
func (v *View) SeenLine(namespace string, l manifest.Line) time.Time {
	v.mu.RLock()
	defer v.mu.RUnlock()
	id := headOf(l.Kind, namespace, l.Name)
	switch id.kind {
	case manifest.KindPrompt:
		if n := v.prompts[id]; n != nil {
			return v.since(n.seen)
		}
	case manifest.KindMCP:
		if n := v.mcp[id]; n != nil {
			return v.since(n.seen)
		}
	case manifest.KindCredential:
		if n := v.credentials[id]; n != nil {
			return v.since(n.seen)
		}
	}
	return time.Time{}
}

// since gives the later of a time and the beginning of the epoch. v.mu is held.
func (v *View) since(t time.Time) time.Time {
	if t.Before(v.began) {
		return v.began
	}
	return t
}

// sighted gives what is seen of an agent's head now, when old was there before (nil: none).
func (c change) sighted(old, next *agentNode) Seen {
	s := Seen{Moved: c.now, Opened: c.now}
	if old == nil {
		return s
	}
	if old.built.MovedAt == next.built.MovedAt {
		s.Moved = old.seen.Moved
	}
	if sameRelease(old.head.State.Candidate, next.head.State.Candidate) {
		s.Opened = old.seen.Opened
	}
	return s
}

// sameRelease compares more than the id: in a store that was brought back the same id may be given again.
func sameRelease(a, b *release.Candidate) bool {
	return a != nil && b != nil && a.Release == b.Release && a.Revision == b.Revision && a.Since.Equal(b.Since)
}
