package fleet

import (
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Serving is what one live instance serves; zero: nothing.
type Serving struct {
	Instance string
	Config   manifest.Hash
}

// AppendServing appends what the live instances of an agent serve, sorted by id. It copies nothing else. False when one of them
// refused something or has faults: who judges it must know more.
func (t *Table) AppendServing(to []Serving, namespace, name string) (serving []Serving, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.agents[keyOf(namespace, name)].sorted() {
		in := &e.inst
		if in.ID.Agent != name || in.Phase == phase.Offline {
			continue
		}
		if len(e.refused) > 0 || in.Phase == phase.Received && len(in.Faults) > 0 {
			return to, false
		}
		to = append(to, Serving{Instance: in.ID.Instance, Config: in.Running.Token.Hash})
	}
	return to, true
}
