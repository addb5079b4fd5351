package view

import (
	"sync"
	"weak"

	"github.com/agentry/agentry/controlplane/snapshot"
)

// maxBuilt bounds the configs kept of one reading: stable, candidate, held, and some that were asked for to be shown.
const maxBuilt = 8

// kept is what one agent's configs are built from, and what was built of it. Who reads it while another holds it shares it: a
// shared head's move reaches thousands of agents, and each is resolved once for the publisher, the releaser and the status.
type kept struct {
	heads snapshot.Heads

	mu    sync.Mutex // guards built
	built []builtFor // as many as there are revisions in play
}

type builtFor struct {
	key snapshot.Key
	s   snapshot.Snapshot
}

// sharing is an agent's kept, for as long as a reader holds it: most agents have no instance, and nothing is held for them.
type sharing struct {
	mu sync.Mutex // guards at
	at weak.Pointer[kept]
}

// get gives what is kept, made if nobody holds it.
func (s *sharing) get(heads func() snapshot.Heads) *kept {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.at.Value(); k != nil {
		return k
	}
	k := &kept{heads: heads()}
	s.at = weak.Make(k)
	return k
}

// end makes readers from now on begin anew: something changed.
func (s *sharing) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = weak.Pointer[kept]{}
}

// Built gives a config that was built of the same heads.
func (i *immutables) Built(key snapshot.Key) (snapshot.Snapshot, bool) {
	if i.kept == nil {
		return snapshot.Snapshot{}, false
	}
	i.kept.mu.Lock()
	defer i.kept.mu.Unlock()
	for _, b := range i.kept.built {
		if b.key == key {
			return b.s, true
		}
	}
	return snapshot.Snapshot{}, false
}

// Keep takes a config for who reads the same heads.
func (i *immutables) Keep(key snapshot.Key, s snapshot.Snapshot) {
	if i.kept == nil {
		return
	}
	i.kept.mu.Lock()
	defer i.kept.mu.Unlock()
	if len(i.kept.built) < maxBuilt {
		i.kept.built = append(i.kept.built, builtFor{key: key, s: s})
	}
}
