package publish

import (
	"container/heap"
	"time"

	"github.com/agentry/agentry/controlplane/view"
)

// together is how many agents may change at once and still count as single changes.
const together = 8

// schedule orders the agents that changed: single changes before those of many agents that changed together (a shared head moved),
// and each agent at its own pace. It is pure, owned by the publisher's one goroutine, and bounded by the number of agents.
type schedule struct {
	single, many []view.AgentKey
	queued       map[view.AgentKey]bool // true: in single; false: in many
	paces        map[view.AgentKey]*timed
	windows      windows
}

// timed is one agent's pace and its place among the open windows.
type timed struct {
	pace

	key   view.AgentKey
	many  bool // what waits came with many others
	index int  // in windows; -1: not there
}

func newSchedule() *schedule {
	return &schedule{queued: map[view.AgentKey]bool{}, paces: map[view.AgentKey]*timed{}}
}

// add takes the agents that changed together.
func (s *schedule) add(agents []view.AgentKey, now time.Time) {
	many := len(agents) > together
	for _, k := range agents {
		if t := s.paces[k]; t != nil && !t.quiet(now) {
			t.many = many && (t.many || !t.waiting)
			t.waiting = true
			continue
		}
		s.enqueue(k, many)
	}
}

func (s *schedule) enqueue(k view.AgentKey, many bool) {
	single, ok := s.queued[k]
	switch {
	case ok && (single || many):
		return
	case many:
		s.many = append(s.many, k)
	default: // perhaps in many too, where it is passed over then
		s.single = append(s.single, k)
	}
	s.queued[k] = !many
}

// next gives the agent that goes out now. Windows that have ended are looked at first.
func (s *schedule) next(now time.Time) (k view.AgentKey, many, ok bool) {
	for len(s.windows) > 0 && !now.Before(s.windows[0].until) {
		t := s.windows[0]
		heap.Pop(&s.windows)
		if !t.waiting {
			delete(s.paces, t.key)
			continue
		}
		s.enqueue(t.key, t.many)
	}
	if k, ok = take(&s.single); ok {
		delete(s.queued, k)
		return k, false, true
	}
	for {
		if k, ok = take(&s.many); !ok {
			return k, false, false
		}
		if single, queued := s.queued[k]; queued && !single {
			delete(s.queued, k)
			return k, true, true
		}
	}
}

func take(from *[]view.AgentKey) (view.AgentKey, bool) {
	q := *from
	if len(q) == 0 {
		*from = nil // gives its memory back
		return view.AgentKey{}, false
	}
	*from = q[1:]
	return q[0], true
}

// went notes that next's agent was looked at. told: its instances were told of something new; what they can't see is no churn.
func (s *schedule) went(k view.AgentKey, told bool, now time.Time) {
	t := s.paces[k]
	if !told {
		if t != nil && t.index < 0 {
			delete(s.paces, k) // an empty window, seen from outside
		}
		return
	}
	if t == nil {
		t = &timed{key: k, index: -1}
		s.paces[k] = t
	}
	t.sent(now)
	if t.index < 0 {
		heap.Push(&s.windows, t)
		return
	}
	heap.Fix(&s.windows, t.index)
}

// due gives the end of the earliest window.
func (s *schedule) due() (time.Time, bool) {
	if len(s.windows) == 0 {
		return time.Time{}, false
	}
	return s.windows[0].until, true
}

// windows is a heap by end.
type windows []*timed

var _ heap.Interface = (*windows)(nil)

// Len is the number of open windows.
func (w windows) Len() int { return len(w) }

// Less orders by end.
func (w windows) Less(i, j int) bool { return w[i].until.Before(w[j].until) }

// Swap swaps two.
func (w windows) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].index, w[j].index = i, j
}

// Push adds one; heap calls it.
func (w *windows) Push(x any) {
	t, ok := x.(*timed)
	if !ok {
		return
	}
	t.index = len(*w)
	*w = append(*w, t)
}

// Pop takes the last; heap calls it.
func (w *windows) Pop() any {
	old := *w
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*w, t.index = old[:len(old)-1], -1
	return t
}
