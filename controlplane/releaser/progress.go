package releaser

import (
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
)

// Progress tells how an agent's release stands at a time; false when there is no such agent or it is deleted. It reads only.
func (r *Releaser) Progress(namespace, agent string, now time.Time) (release.Progress, bool) {
	s, ok := r.see(view.AgentKey{Namespace: namespace, Name: agent})
	if !ok {
		return release.Progress{}, false
	}
	e := s.observe(now, r.cfg.Fleet.Complete(now), nil, func() map[string]time.Time { return nil })
	return release.Describe(s.head.State, e), true
}
