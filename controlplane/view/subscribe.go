package view

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// AgentKey names an agent; Name is as written in its head.
type AgentKey struct {
	Namespace string
	Name      string
}

// Subscription collects the agents whose configs a change may have touched. It is a set, so it is bounded by the
// number of agents however slow its reader is, and the view never waits for one.
type Subscription struct {
	// C holds one token while something is there to Take.
	C <-chan struct{}

	c    chan struct{}
	view *View
	// moves is true when newly proven lines don't count.
	moves bool

	mu       sync.Mutex
	pending  map[AgentKey]struct{}
	revision int64
}

// Subscribe starts a subscription. It begins empty at the view's revision; the caller lists what is there itself,
// after subscribing. Close ends it.
func (v *View) Subscribe() *Subscription { return v.subscribe(false) }

// SubscribeMoves is Subscribe for a reader that doesn't care which lines are proven.
func (v *View) SubscribeMoves() *Subscription { return v.subscribe(true) }

func (v *View) subscribe(moves bool) *Subscription {
	c := make(chan struct{}, 1)
	s := &Subscription{C: c, c: c, view: v, moves: moves, pending: map[AgentKey]struct{}{}}
	v.mu.Lock()
	defer v.mu.Unlock()
	s.revision = v.revision
	v.subs[s] = struct{}{}
	return s
}

// Take gives the agents touched since the last Take, sorted, and the revision up to which that is everything. The
// view is at that revision or above it.
func (s *Subscription) Take() (agents []AgentKey, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	agents = slices.AppendSeq(slices.Grow([]AgentKey(nil), len(s.pending)), maps.Keys(s.pending))
	slices.SortFunc(agents, compareAgents)
	clear(s.pending)
	return agents, s.revision
}

// Close ends the subscription; it is safe twice. C is not closed.
func (s *Subscription) Close() {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	delete(s.view.subs, s)
}

func (s *Subscription) add(touched map[AgentKey]struct{}, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revision = revision
	if len(touched) == 0 {
		return
	}
	maps.Copy(s.pending, touched)
	select {
	case s.c <- struct{}{}:
	default: // a token is there already
	}
}

func compareAgents(a, b AgentKey) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
