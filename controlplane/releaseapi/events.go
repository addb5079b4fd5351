package releaseapi

import (
	"slices"
	"sync"
	"time"
)

// maxEvents is how many events are held; older ones are dropped.
const maxEvents = 1000

// Event is something that happened to an agent or an instance. Seq and Time are set by Ring.Add.
type Event struct {
	Seq       int64
	Time      time.Time
	Namespace string
	Agent     string
	Instance  string
	Type      string // applied, refused, rolled_back, connected, disconnected, duplicate, ...
	Message   string
	Config    string
}

// Ring holds the newest 1,000 events of this process in memory. Adding never waits: a reader that falls behind
// finds the oldest gone, which it sees by the gap in Seq. It is safe for concurrent use.
type Ring struct {
	now     func() time.Time
	mu      sync.Mutex
	seq     int64         // of the newest; guarded by mu, like the two below
	events  []Event       // a ring: that of seq s lies at (s-1) % maxEvents
	changed chan struct{} // closed at the next Add; nil: nobody waits for it
}

// NewRing makes an empty ring; now is time.Now outside tests.
func NewRing(now func() time.Time) *Ring {
	return &Ring{now: now}
}

// Add appends an event.
func (r *Ring) Add(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	e.Seq, e.Time = r.seq, r.now()
	if len(r.events) < maxEvents {
		r.events = append(r.events, e)
	} else {
		r.events[(e.Seq-1)%maxEvents] = e
	}
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Since gives the held events after seq, oldest first, and a channel that is closed when there is a newer one.
func (r *Ring) Since(seq int64) ([]Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := max(seq+1, r.seq-int64(len(r.events))+1)
	var out []Event
	for s := first; s <= r.seq; s++ {
		out = append(out, r.events[(s-1)%maxEvents])
	}
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return out, r.changed
}

// Recent gives the held events, newest first.
func (s *Service) Recent() []Event {
	events, _ := s.cfg.Events.Since(0)
	slices.Reverse(events)
	return events
}
