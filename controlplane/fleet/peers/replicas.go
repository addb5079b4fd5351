package peers

import (
	"cmp"
	"slices"
)

// Replica is one control plane process as this one knows it.
type Replica struct {
	Record

	// Linked: it is this one, or one whose link is up and told everything.
	Linked bool
	// Revision is how far its view is, Streams how many instances are connected to it, Complete whether it knows all that may be
	// alive, as last heard.
	Revision int64
	Streams  int
	Complete bool
}

// Replicas gives this replica, those that are registered, and those that aren't (any more) and are heard all the same, sorted by id.
func (p *Peers) Replicas() []Replica {
	streams := p.cfg.Fleet.Streams()
	rows, _ := p.table.All()
	self := p.cfg.Self
	out := []Replica{{
		Record: self, Linked: true, Revision: p.cfg.Revision(), Streams: streams[self.ID], Complete: p.cfg.Fleet.Complete(p.cfg.Now()),
	}}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, row := range rows {
		if id != self.ID {
			out = append(out, Replica{Record: row.Value, Streams: streams[id]})
		}
	}
	for id := range p.links {
		if _, ok := rows[id]; !ok {
			out = append(out, Replica{Record: Record{ID: id}, Streams: streams[id]})
		}
	}
	for i := range out {
		if l := p.links[out[i].ID]; l != nil {
			out[i].Linked, out[i].Revision, out[i].Complete = l.state == Linked, l.revision, l.complete && l.state == Linked
		}
	}
	slices.SortFunc(out, func(a, b Replica) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// Links counts the links to others by state.
func (p *Peers) Links() map[State]int {
	out := map[State]int{Down: 0, Syncing: 0, Linked: 0}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		out[l.state]++
	}
	return out
}
