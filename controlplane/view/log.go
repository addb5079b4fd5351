package view

import (
	"cmp"
	"maps"
	"slices"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// maxMoves is how many moves of one head are held; older ones stay in the store only.
const maxMoves = 200

// Move is one transaction's record with the store revision of its write.
type Move struct {
	MoveRecord

	Seq int64
}

// Refusal is the first refusal of one config with the store revision of its write.
type Refusal struct {
	RefusalRecord

	Hash manifest.Hash
	Seq  int64
}

// AppliedConfig is a config that an instance APPLIED, with the store revision at which that was first stored.
type AppliedConfig struct {
	Applied

	Hash manifest.Hash
	Seq  int64
}

// appliedSet is what instances of one agent APPLIED. lines is replaced, never changed, once handed out.
type appliedSet struct {
	configs map[manifest.Hash]AppliedConfig
	lines   map[manifest.Line]struct{}
}

func (c change) appliedEvent(e store.Event) error {
	id, h, ok := parseConfig(e.Key, appliedPrefix)
	if !ok {
		return errs.New(errs.Invalid, "not a key of an applied config")
	}
	if e.Deleted {
		c.dropApplied(id, h)
		return nil
	}
	r, err := Decode[Applied](e.Value)
	if err != nil {
		return err
	}
	set := c.ownApplied(id)
	set.configs[h] = AppliedConfig{Applied: r, Hash: h, Seq: e.CreateRevision}
	for _, l := range r.Lines {
		if _, known := set.lines[l]; !known { // what counts as proven changed
			set.lines[l] = struct{}{}
			c.touch(id)
		}
	}
	return nil
}

// ownApplied gives an agent's set for changing: a copy, once in a batch, because the former was handed out.
func (c change) ownApplied(id headID) *appliedSet {
	if set := c.fresh[id]; set != nil {
		return set
	}
	set := &appliedSet{configs: map[manifest.Hash]AppliedConfig{}, lines: map[manifest.Line]struct{}{}}
	if old := c.applied[id]; old != nil {
		maps.Copy(set.configs, old.configs)
		maps.Copy(set.lines, old.lines)
	}
	c.fresh[id], c.applied[id] = set, set
	return set
}

func (c change) dropApplied(id headID, h manifest.Hash) {
	if c.applied[id] == nil {
		return
	}
	set := c.ownApplied(id)
	delete(set.configs, h)
	before := len(set.lines)
	clear(set.lines)
	for _, config := range set.configs {
		for _, l := range config.Lines {
			set.lines[l] = struct{}{}
		}
	}
	if len(set.lines) != before {
		c.touch(id)
	}
	if len(set.configs) == 0 {
		delete(c.applied, id)
		delete(c.fresh, id)
	}
}

func (c change) refusalEvent(e store.Event) error {
	id, h, ok := parseConfig(e.Key, refusalPrefix)
	if !ok {
		return errs.New(errs.Invalid, "not a key of a refusal")
	}
	if e.Deleted {
		delete(c.refusals[id], h)
		if len(c.refusals[id]) == 0 {
			delete(c.refusals, id)
		}
		return nil
	}
	r, err := Decode[RefusalRecord](e.Value)
	if err != nil {
		return err
	}
	if c.refusals[id] == nil {
		c.refusals[id] = map[manifest.Hash]Refusal{}
	}
	c.refusals[id][h] = Refusal{RefusalRecord: r, Hash: h, Seq: e.CreateRevision}
	return nil
}

// moveLog indexes move records by the heads they moved, newest last, at most maxMoves for each.
type moveLog struct {
	byHead map[headID][]*Move
	byKey  map[string]*Move
	uses   map[*Move]int
	keys   map[*Move]string
}

func newMoveLog() moveLog {
	return moveLog{byHead: map[headID][]*Move{}, byKey: map[string]*Move{}, uses: map[*Move]int{}, keys: map[*Move]string{}}
}

func (c change) moveEvent(e store.Event) error {
	c.moves.remove(e.Key)
	if e.Deleted {
		return nil
	}
	r, err := Decode[MoveRecord](e.Value)
	if err != nil {
		return err
	}
	for _, key := range c.moves.add(e.Key, &Move{MoveRecord: r, Seq: e.CreateRevision}) {
		delete(c.mods, key)
	}
	return nil
}

// headsOf gives the heads that a move concerns, each once.
func headsOf(m *Move) refs {
	out := refs{}
	for _, h := range m.Heads {
		out[idOf(h.Kind, h.Namespace, h.Name)] = struct{}{}
	}
	return out
}

// add takes a move in and gives the keys of moves that are held for no head any more.
func (l moveLog) add(key string, m *Move) (dropped []string) {
	heads := sortedIDs(headsOf(m))
	if len(heads) == 0 {
		return []string{key}
	}
	l.byKey[key], l.keys[m], l.uses[m] = m, key, len(heads)
	for _, id := range heads {
		list := l.byHead[id]
		at, _ := slices.BinarySearchFunc(list, m.Seq, func(o *Move, seq int64) int { return cmp.Compare(o.Seq, seq) })
		list = slices.Insert(list, at, m)
		if len(list) > maxMoves {
			oldest := list[0]
			list = slices.Delete(list, 0, 1)
			if l.release(oldest) {
				dropped = append(dropped, l.forget(oldest))
			}
		}
		l.byHead[id] = list
	}
	return dropped
}

func (l moveLog) remove(key string) {
	m := l.byKey[key]
	if m == nil {
		return
	}
	for id := range headsOf(m) {
		l.byHead[id] = slices.DeleteFunc(l.byHead[id], func(o *Move) bool { return o == m })
		if len(l.byHead[id]) == 0 {
			delete(l.byHead, id)
		}
	}
	l.forget(m)
}

func (l moveLog) release(m *Move) bool {
	l.uses[m]--
	return l.uses[m] == 0
}

func (l moveLog) forget(m *Move) string {
	key := l.keys[m]
	delete(l.byKey, key)
	delete(l.keys, m)
	delete(l.uses, m)
	return key
}
