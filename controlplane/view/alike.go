package view

import (
	"maps"
	"sync"

	"github.com/agentry/agentry/controlplane/snapshot"
)

// maxAlike is how many kinds of agents are told apart by what they refer to.
const maxAlike = 8

// alike is the shared heads as they are handed out, of the kinds of agents that were read last: thousands of agents may refer to the
// same heads, and a move of one of them reads them all. It is safe for concurrent use.
type alike struct {
	mu   sync.Mutex // guards sets
	sets []sharedHeads
}

// sharedHeads is what agents with these references are built from, beside their own heads.
type sharedHeads struct {
	refs        refs
	prompts     map[string]snapshot.PromptHead
	mcp         map[string]snapshot.MCPHead
	credentials map[string]snapshot.CredentialHead
}

// of gives what is kept for references, made if it isn't.
func (a *alike) of(r refs, read func(refs) sharedHeads) sharedHeads {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sets {
		if maps.Equal(s.refs, r) {
			return s
		}
	}
	s := read(r)
	if len(a.sets) == maxAlike {
		a.sets = append([]sharedHeads(nil), a.sets[1:]...)
	}
	a.sets = append(a.sets, s)
	return s
}

// end forgets all: a shared head changed.
func (a *alike) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sets = nil
}

// one gives the references of the agent linked before where they are the same: each set is in memory once, not for each of thousands
// of agents that are applied together.
func (c change) one(r refs) refs {
	if !maps.Equal(c.lastRefs, r) {
		c.lastRefs = r
	}
	return c.lastRefs
}
