package releaser

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
)

// maxKnown is how many configs of one agent are remembered beside those that it resolves to now: an instance may still be
// answering for one when the next head has moved already.
const maxKnown = 8

// memo is what saves work and can be lost at any time.
type memo struct {
	mu     sync.Mutex // guards agents and what they point to
	agents map[view.AgentKey]*agentMemo
}

type agentMemo struct {
	configs []*resolved // newest last
	drops   map[release.Drop]time.Time
	wait    time.Duration // of the last failed write
	held    []heldApplied // oldest first
	alone   bool          // its records are written by its own look: together with others they weren't

	// stable is what stable resolved to when the view's Standing said moved; nil: not known.
	stable *resolved
	moved  int64
}

func (m *memo) of(k view.AgentKey) *agentMemo {
	a := m.agents[k]
	if a == nil {
		a = &agentMemo{}
		m.agents[k] = a
	}
	return a
}

// known remembers what an agent resolves to, and gives that and what it resolved to before, with the policies in it.
func (m *memo) known(s *sight) (map[manifest.Hash]release.Config, map[manifest.Hash][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.of(s.key)
	configs, policies := map[manifest.Hash]release.Config{}, map[manifest.Hash][]byte{}
	for _, c := range a.configs {
		configs[c.config.Hash] = c.config
		maps.Copy(policies, c.policies)
	}
	for _, c := range s.configs {
		if _, ok := configs[c.config.Hash]; !ok {
			a.configs = append(a.configs, c)
			configs[c.config.Hash] = c.config
			maps.Copy(policies, c.policies)
		}
	}
	a.remember()
	return configs, policies
}

// remember adds configs and forgets the oldest of too many.
func (a *agentMemo) remember(c ...*resolved) {
	a.configs = append(a.configs, c...)
	if n := len(a.configs); n > maxKnown {
		a.configs = append([]*resolved(nil), a.configs[n-maxKnown:]...)
	}
}

// holds reports whether a config's record is held.
func (a *agentMemo) holds(config manifest.Hash) bool {
	return slices.ContainsFunc(a.held, func(h heldApplied) bool { return h.Config.Hash == config })
}

// mayDrop reports whether a drop is to be sent (again) and notes that it is.
func (m *memo) mayDrop(k view.AgentKey, d release.Drop, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.of(k)
	for old, at := range a.drops {
		if now.Sub(at) >= dropAgain {
			delete(a.drops, old)
		}
	}
	if _, asked := a.drops[d]; asked {
		return false
	}
	if a.drops == nil {
		a.drops = map[release.Drop]time.Time{}
	}
	a.drops[d] = now
	return true
}

// failed gives how long to wait after one more failed write: doubled each time, with jitter.
func (m *memo) failed(k view.AgentKey) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.of(k)
	a.wait = min(max(2*a.wait, backoffMin), backoffMax)
	return a.wait/2 + rand.N(a.wait/2+1) //nolint:gosec // G404: jitter
}

func (m *memo) succeeded(k view.AgentKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.of(k).wait = 0
}

func (m *memo) forget(k view.AgentKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.agents, k)
}
