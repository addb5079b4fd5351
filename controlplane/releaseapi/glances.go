package releaseapi

// glances is the instances of one agent by their ids. Thousands of agents have one instance each, so the first isn't in the map,
// which would take a place for eight. The zero value is empty.
type glances struct {
	first *glance
	more  map[string]glance
}

func (g *glances) of(instance string) (glance, bool) {
	if g.first != nil && g.first.id.Instance == instance {
		return *g.first, true
	}
	in, ok := g.more[instance]
	return in, ok
}

func (g *glances) set(in glance) {
	id := in.id.Instance
	if _, known := g.more[id]; !known && (g.first == nil || g.first.id.Instance == id) {
		g.first = &in
		return
	}
	if g.more == nil {
		g.more = map[string]glance{}
	}
	g.more[id] = in
}

func (g *glances) len() int {
	n := len(g.more)
	if g.first != nil {
		n++
	}
	return n
}

// without takes out those that aren't there any more and gives them.
func (g *glances) without(there map[string]bool) (gone []glance) {
	if g.first != nil && !there[g.first.id.Instance] {
		gone, g.first = append(gone, *g.first), nil
	}
	for id, in := range g.more {
		if !there[id] {
			gone = append(gone, in)
			delete(g.more, id)
		}
	}
	return gone
}
