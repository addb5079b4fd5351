package fleet

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// Subscription collects the agents whose instances changed. It is a set, so it is bounded by the number of agents
// however slow its reader is, and the table never waits for one.
type Subscription struct {
	// C holds one token while something is there to Take.
	C <-chan struct{}

	c     chan struct{}
	table *Table

	mu      sync.Mutex // guards what follows
	pending map[AgentKey]struct{}
	last    AgentKey // one of pending; zero: not known
}

// Subscribe starts an empty subscription. Close ends it.
func (t *Table) Subscribe() *Subscription {
	c := make(chan struct{}, 1)
	s := &Subscription{C: c, c: c, table: t, pending: map[AgentKey]struct{}{}}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.subs[s] = struct{}{}
	return s
}

// Take gives the agents touched since the last Take, sorted.
func (s *Subscription) Take() []AgentKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.AppendSeq(slices.Grow([]AgentKey(nil), len(s.pending)), maps.Keys(s.pending))
	slices.SortFunc(out, func(a, b AgentKey) int {
		if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	clear(s.pending)
	s.last = AgentKey{}
	return out
}

// Close ends the subscription; it is safe twice. C is not closed.
func (s *Subscription) Close() {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	delete(s.table.subs, s)
}

func (s *Subscription) add(k AgentKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == k { // thousands of an agent's instances change one after the other
		return
	}
	s.pending[k], s.last = struct{}{}, k
	select {
	case s.c <- struct{}{}:
	default: // a token is there already
	}
}

// touch tells the subscribers that an instance of an agent changed. The table's mutex is held.
func (t *Table) touch(e *entry) {
	t.changes++
	e.changed = t.changes
	t.tell(e)
	for s := range t.subs {
		s.add(AgentKey{Namespace: e.inst.ID.Namespace, Name: e.inst.ID.Agent})
	}
}
