package fleet

import (
	"time"

	"github.com/agentry/agentry/internal/phase"
)

// peer is another replica, as far as it says whether the fleet is known. The table's mutex guards it.
type peer struct {
	registered bool      // it is alive, by its lease
	synced     bool      // its link is up, and it told everything that it held when that began
	complete   bool      // what it said last
	since      time.Time // when it was first registered without being synced; counts while it is so
}

// Complete reports whether every instance that may be alive is known (semantics.md 11): at once in a store in which no instance ever
// said Hello; else once every peer told what it holds, all of that is connected somewhere, and a peer that was complete says so, or
// once there was time enough for all to come back. At any time it isn't while a registered peer can't be heard: its instances may be
// alive. It takes no lock.
func (t *Table) Complete(now time.Time) bool {
	if blind := t.blind.Load(); blind != nil && !now.Before(*blind) {
		return false
	}
	return t.settled.Load() || now.Sub(t.started()) >= t.cfg.Settle
}

// Peers says which other replicas are registered now. Until it is called nobody knows, so a start waits its whole time.
func (t *Table) Peers(registered []string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = true
	there := map[string]bool{}
	for _, id := range registered {
		if id == t.cfg.Replica {
			continue
		}
		there[id] = true
		p := t.peers[id]
		if p == nil {
			p = &peer{}
			t.peers[id] = p
		}
		if !p.registered && !p.synced {
			p.since = now
		}
		p.registered = true
	}
	for id, p := range t.peers {
		if !there[id] {
			p.registered = false
			t.forgetPeer(id, p)
		}
	}
	t.judge()
}

// LinkLost says that a peer isn't heard any more: the instances that it held are as if their streams were lost now.
func (t *Table) LinkLost(id string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p == nil {
		return
	}
	if p.synced {
		p.since = now
	}
	p.synced, p.complete = false, false
	t.forgetPeer(id, p)
	for _, g := range t.agents {
		for _, e := range g.byID {
			e.retract(id)
			if e.session != 0 || e.inst.Replica != id || !e.inst.Connected {
				continue
			}
			e.inst.Connected, e.lost = false, now
			if !t.fallBack(e, now) {
				t.orphans = true
				t.touch(e)
			}
		}
	}
	t.judge()
}

// forgetPeer drops a peer that is neither registered nor heard.
func (t *Table) forgetPeer(id string, p *peer) {
	if !p.registered && !p.synced {
		delete(t.peers, id)
	}
}

// judge draws the conclusions from what the peers told. The mutex is held.
func (t *Table) judge() {
	var blind *time.Time
	synced, complete := true, false
	for _, p := range t.peers {
		complete = complete || p.synced && p.complete
		if p.synced || !p.registered {
			continue
		}
		synced = false
		if at := p.since.Add(t.cfg.LinkGrace); blind == nil || at.Before(*blind) {
			blind = &at
		}
	}
	t.blind.Store(blind)
	if synced && (t.told && complete || t.returned()) && !t.settled.Load() && !t.away() {
		t.settled.Store(true)
	}
}

// away reports whether an instance that may be alive is connected nowhere. The mutex is held.
func (t *Table) away() bool {
	for _, g := range t.agents {
		for _, e := range g.byID {
			if !e.inst.Connected && e.inst.Phase != phase.Offline {
				return true
			}
		}
	}
	return false
}

// orphan reports whether it is an instance of a peer that isn't heard. The mutex is held.
func (t *Table) orphan(e *entry) bool {
	if e.session != 0 {
		return false
	}
	p := t.peers[e.inst.Replica]
	return p == nil || !p.synced
}

// Own gives the instances that this replica answers for where every replica is asked and the answers are summed: those whose
// streams it holds or held last, and, if it has the least id of those that hear each other, those whose replica is gone. They are
// sorted as by All, and the caller's own.
func (t *Table) Own() []Instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	least := true
	for id, p := range t.peers {
		least = least && (!p.synced || t.cfg.Replica < id)
	}
	return t.all(func(e *entry) bool { return e.session != 0 || least && t.orphan(e) })
}

// Streams gives how many instances are connected to each replica, this one among them.
func (t *Table) Streams() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]int{}
	for _, g := range t.agents {
		for _, e := range g.byID {
			if e.inst.Connected {
				out[e.inst.Replica]++
			}
		}
	}
	return out
}

// Known counts the instances that this replica knows of, wherever they are connected.
func (t *Table) Known() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, g := range t.agents {
		n += len(g.byID)
	}
	return n
}
