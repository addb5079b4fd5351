package configclient

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// maxRefusals is how many refusals an instance remembers (semantics.md 7.6).
const maxRefusals = 8

// bootLimit is how many starts from a generation may die before ready.
const bootLimit = 2

// Refusal is a config that this instance refused.
type Refusal struct {
	Token   manifest.Token `json:"token"`
	Version string         `json:"agentdVersion"`
	Faults  []phase.Fault  `json:"faults"`
}

// Overlay is the deny list of tools, beside every config (semantics.md 9).
type Overlay struct {
	ClusterID   string   `json:"clusterId"`
	Epoch       uint64   `json:"epoch"`
	ModRevision int64    `json:"modRevision"`
	Denied      []string `json:"denied"` // server or server/tool
}

// below reports whether o is older than than; another cluster compares not at all.
func (o Overlay) below(than Overlay) bool {
	if o.ClusterID != than.ClusterID {
		return false
	}
	if o.Epoch != than.Epoch {
		return o.Epoch < than.Epoch
	}
	return o.ModRevision < than.ModRevision
}

// Endpoint is one live instance of a partner.
type Endpoint struct {
	Agent    string `json:"agent"`
	Instance string `json:"instance"`
	Address  string `json:"address"`
	Weight   uint32 `json:"weight"`
	Revision string `json:"revision"`
	Zone     string `json:"zone"`
	Healthy  bool   `json:"healthy"`
}

// stamp is the newest token and revision of a config that runs under an older one (Current).
type stamp struct {
	Token    manifest.Token `json:"token"`
	Revision int64          `json:"revision"`
}

type attempt struct {
	Count   int    `json:"count"`
	Version string `json:"agentdVersion"`
}

// memoryBody is what an instance remembers beside last good.
type memoryBody struct {
	Fence       manifest.Fence     `json:"fence"`
	Stamp       stamp              `json:"stamp"`
	Refusals    []Refusal          `json:"refusals,omitempty"` // newest last
	Attempts    map[uint64]attempt `json:"attempts,omitempty"` // by sequence of the generation
	Overlay     Overlay            `json:"overlay"`
	Endpoints   []Endpoint         `json:"endpoints,omitempty"`
	EndpointsAt time.Time          `json:"endpointsAt"`
}

func (s *State) memoryPath() string { return filepath.Join(s.dir, "memory") }

// loadMemory reads the memory file. What can't be read is forgotten, with a note: the fence comes back with last good.
func (s *State) loadMemory() {
	raw, err := readBounded(s.memoryPath())
	if errors.Is(err, os.ErrNotExist) {
		return
	}
	var body memoryBody
	if err == nil {
		_, err = decodeFrame(magicMemory, raw, &body)
	}
	if err != nil {
		s.notes = append(s.notes, "memory: "+err.Error())
		return
	}
	s.mem = body
}

// remember changes the memory and writes it. The change holds in memory even when writing fails.
func (s *State) remember(change func(*memoryBody)) error {
	s.saving.Lock()
	defer s.saving.Unlock()
	s.mu.Lock()
	change(&s.mem)
	raw, err := encodeFrame(magicMemory, header{Epoch: s.mem.Fence.Epoch}, s.mem)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return writeFile(s.memoryPath(), raw)
}

// recall gives a copy of the memory; its slices and maps are not to be changed.
func (s *State) recall() memoryBody {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mem
	m.Refusals = slices.Clone(m.Refusals)
	return m
}

// raise raises the fence and stamps what runs with the token, when a revision is given. Nothing new is not written.
func (s *State) raise(cluster string, t manifest.Token, revision int64) error {
	m := s.recall()
	want := stamp{Token: t, Revision: revision}
	if raised(m.Fence, cluster, t) == m.Fence && (revision == 0 || m.Stamp == want) {
		return nil
	}
	return s.remember(func(m *memoryBody) {
		m.Fence = raised(m.Fence, cluster, t)
		if revision != 0 {
			m.Stamp = want
		}
	})
}

// raiseUnsaved raises the fence in memory: last good carries it on disk.
func (s *State) raiseUnsaved(cluster string, t manifest.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mem.Fence = raised(s.mem.Fence, cluster, t)
}

// raised gives the fence raised to a token of a cluster; another cluster's fence starts anew.
func raised(f manifest.Fence, cluster string, t manifest.Token) manifest.Fence {
	if f.ClusterID != cluster {
		f = manifest.Fence{ClusterID: cluster}
	}
	return f.Raise(t)
}

// refuse remembers a refusal; an older one of the same hash goes.
func (s *State) refuse(r Refusal) error {
	return s.remember(func(m *memoryBody) {
		m.Refusals = slices.DeleteFunc(slices.Clone(m.Refusals), func(o Refusal) bool { return o.Token.Hash == r.Token.Hash })
		m.Refusals = append(m.Refusals, r)
		m.Refusals = m.Refusals[max(0, len(m.Refusals)-maxRefusals):]
	})
}

// refused gives the refusal that forbids to apply t. A token above the refusal's was written since, and the control plane
// offers refused content only after an operator's retry or a re-creation: it is void then.
func (s *State) refused(t manifest.Token, version string) (Refusal, bool) {
	above := manifest.Fence{Epoch: t.Epoch, Generation: t.Generation}
	for _, r := range s.recall().Refusals {
		if r.Token.Hash == t.Hash && r.Version == version && !above.Below(r.Token) {
			return r, true
		}
	}
	return Refusal{}, false
}

// boot picks the generation to start from and counts the attempt. crashed are newer ones that died too often, faults says
// why others were passed over.
func (s *State) boot(version string, skip map[uint64]bool) (good *generation, crashed []generation, faults []error) {
	gens := s.generations()
	attempts := s.recall().Attempts
	for i := range gens {
		g := &gens[i]
		if g.err != nil {
			faults = append(faults, fmt.Errorf("last good %d: %w", g.slot, g.err))
			continue
		}
		if good != nil || skip[g.sequence] {
			continue
		}
		a := attempts[g.sequence]
		if a.Version == version && a.Count >= bootLimit {
			crashed = append(crashed, *g)
			faults = append(faults, fmt.Errorf("last good %d: %d starts from it died before they were ready", g.slot, a.Count))
			continue
		}
		good = g
	}
	if good == nil {
		return nil, crashed, faults
	}
	if st := s.recall().Stamp; st.Token.Hash == good.update.Token.Hash && (manifest.Fence{Epoch: st.Token.Epoch, Generation: st.Token.Generation}).Below(good.update.Token) {
		good.update.Token, good.update.Revision = st.Token, st.Revision
	}
	err := s.remember(func(m *memoryBody) {
		kept := map[uint64]attempt{}
		for _, g := range gens {
			if a, ok := m.Attempts[g.sequence]; ok {
				kept[g.sequence] = a
			}
		}
		a := kept[good.sequence]
		if a.Version != version {
			a = attempt{Version: version}
		}
		a.Count++
		kept[good.sequence] = a
		m.Attempts = kept
	})
	if err != nil {
		faults = append(faults, err)
	}
	return good, crashed, faults
}

// booted clears the attempts of a generation: a start from it is ready, or ended by itself.
func (s *State) booted(sequence uint64) error {
	if _, counted := s.recall().Attempts[sequence]; !counted {
		return nil
	}
	return s.remember(func(m *memoryBody) {
		kept := map[uint64]attempt{}
		for seq, a := range m.Attempts {
			if seq != sequence {
				kept[seq] = a
			}
		}
		m.Attempts = kept
	})
}
