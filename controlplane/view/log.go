package view

import (
	"cmp"
	"slices"

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

func (c change) refusalItem(it item) {
	if it.Deleted {
		delete(c.refusals[it.id], it.hash)
		if len(c.refusals[it.id]) == 0 {
			delete(c.refusals, it.id)
		}
		return
	}
	r, ok := it.rec.(RefusalRecord)
	if !ok {
		return
	}
	if c.refusals[it.id] == nil {
		c.refusals[it.id] = map[manifest.Hash]Refusal{}
	}
	c.refusals[it.id][it.hash] = Refusal{RefusalRecord: r, Hash: it.hash, Seq: it.CreateRevision}
}

// moveLog indexes move records by the heads they moved, newest last, at most maxMoves for each.
type moveLog struct {
	byHead map[headID][]*heldMove
	byKey  map[string]*heldMove
	newest *Witness
}

// Witness is a key that nobody writes twice, and when it was written: as long as the view shows it, the store has it.
type Witness struct {
	Key         string
	ModRevision int64
}

// Witness gives the newest move; false where the view has none. A store that doesn't have it any more went back behind the view.
func (v *View) Witness() (Witness, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return *v.moves.newest, v.shows(*v.moves.newest)
}

// Shows says whether the view still shows a witness.
func (v *View) Shows(w Witness) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.shows(w)
}

func (v *View) shows(w Witness) bool {
	m := v.moves.byKey[w.Key]
	return m != nil && m.mod == w.ModRevision
}

// heldMove is a move with how many heads still hold it.
type heldMove struct {
	Move

	key  string
	mod  int64
	uses int
}

func newMoveLog() moveLog {
	return moveLog{byHead: map[headID][]*heldMove{}, byKey: map[string]*heldMove{}, newest: &Witness{}}
}

func (c change) moveItem(it item) {
	c.moves.remove(it.Key)
	if r, ok := it.rec.(MoveRecord); ok {
		c.moves.add(&heldMove{Move: Move{MoveRecord: r, Seq: it.CreateRevision}, key: it.Key, mod: it.ModRevision})
	}
}

// headsOf gives the heads that a move concerns, each once.
func headsOf(m *heldMove) refs {
	out := refs{}
	for _, h := range m.Heads {
		out[idOf(h.Kind, h.Namespace, h.Name)] = struct{}{}
	}
	return out
}

// add takes a move in. One that is held for no head any more is forgotten.
func (l moveLog) add(m *heldMove) {
	heads := headsOf(m)
	if len(heads) == 0 {
		return
	}
	l.byKey[m.key], m.uses = m, len(heads)
	if m.mod > l.newest.ModRevision {
		*l.newest = Witness{Key: m.key, ModRevision: m.mod}
	}
	for id := range heads {
		list := l.byHead[id]
		at, _ := slices.BinarySearchFunc(list, m.Seq, func(o *heldMove, seq int64) int { return cmp.Compare(o.Seq, seq) })
		list = slices.Insert(list, at, m)
		if len(list) > maxMoves {
			oldest := list[0]
			list = slices.Delete(list, 0, 1)
			if oldest.uses--; oldest.uses == 0 {
				delete(l.byKey, oldest.key)
			}
		}
		l.byHead[id] = list
	}
}

func (l moveLog) remove(key string) {
	m := l.byKey[key]
	if m == nil {
		return
	}
	for id := range headsOf(m) {
		l.byHead[id] = slices.DeleteFunc(l.byHead[id], func(o *heldMove) bool { return o == m })
		if len(l.byHead[id]) == 0 {
			delete(l.byHead, id)
		}
	}
	delete(l.byKey, key)
}
