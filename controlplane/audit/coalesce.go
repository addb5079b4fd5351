package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// maxWindows is how many different repeats are told apart at a time; more of a type are counted together.
	maxWindows = 1024
	// maxListed is how many instances, or objects of denied calls, the entry of repeats names.
	maxListed = 20
)

// sameness is what makes two events repeats of each other.
type sameness struct {
	kind                            Type
	actor, method, objects, outcome string
}

// window counts the repeats of an event that has its entry.
type window struct {
	ends      time.Time
	event     Event
	last      time.Time
	more      int
	instances []string
	objects   []string // of denied calls
}

// coalescer makes one entry of an event and one of all its repeats within a time. It is for one goroutine.
type coalescer struct {
	span    time.Duration
	windows map[sameness]*window
}

func sameAs(e Event) (sameness, bool) {
	s := sameness{kind: e.Type, actor: e.Actor, method: e.Method, outcome: e.Outcome}
	switch e.Type {
	case Denied, Unauthenticated:
		return s, true
	case CredentialUse:
		s.objects = e.Namespace + " " + strings.Join(e.Objects, " ")
		return s, true
	case Changed, Lost:
	}
	return sameness{}, false
}

// add gives the entry of an event, or counts it as a repeat.
func (c *coalescer) add(e Event, now time.Time) (Entry, bool) {
	same, may := sameAs(e)
	if !may {
		return e.entry(), true
	}
	w := c.windows[same]
	if w == nil && len(c.windows) >= maxWindows {
		same = sameness{kind: e.Type}
		e = Event{Type: e.Type, Call: Call{Actor: "several"}, Outcome: e.Outcome, Time: e.Time, Message: "more callers than are told apart"}
		w = c.windows[same]
	}
	if w == nil {
		c.windows[same] = &window{ends: now.Add(c.span), event: e}
		return e.entry(), true
	}
	w.more, w.last = w.more+1, e.Time
	if e.Type == Denied {
		for _, o := range e.entry().Objects {
			if len(w.objects) < maxListed && !slices.Contains(w.objects, o) {
				w.objects = append(w.objects, o)
			}
		}
	}
	if e.Instance != "" && len(w.instances) < maxListed && !slices.Contains(w.instances, e.Instance) {
		w.instances = append(w.instances, e.Instance)
	}
	return Entry{}, false
}

// due gives the entries of the repeats whose time is over.
func (c *coalescer) due(now time.Time) []Entry {
	var out []Entry
	for same, w := range c.windows {
		if now.Before(w.ends) {
			continue
		}
		delete(c.windows, same)
		if w.more > 0 {
			out = append(out, w.summary(c.span))
		}
	}
	slices.SortFunc(out, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return out
}

// next gives when due has something to say; false: nothing is counted.
func (c *coalescer) next() (time.Time, bool) {
	var first time.Time
	for _, w := range c.windows {
		if w.more > 0 && (first.IsZero() || w.ends.Before(first)) {
			first = w.ends
		}
	}
	return first, !first.IsZero()
}

func (w *window) summary(span time.Duration) Entry {
	e := w.event.entry()
	e.Time = w.last
	e.Message = fmt.Sprintf("%d more times within %s", w.more, span)
	if len(w.objects) > 0 {
		e.Objects = w.objects
	}
	if len(w.instances) > 0 {
		e.Message = fmt.Sprintf("handed out %d more times within %s, to %s", w.more, span, strings.Join(w.instances, ", "))
		if w.more > len(w.instances) {
			e.Message += ", ..."
		}
	}
	return e
}

func (e Event) entry() Entry {
	out := Entry{
		Time: e.Time, Type: e.Type, Actor: e.Actor, Method: e.Method, Permission: e.Permission, Namespace: e.Namespace,
		Objects: slices.Clone(e.Objects), Message: e.Message, RequestID: e.RequestID, Outcome: e.Outcome,
	}
	if e.Object != "" && !slices.Contains(out.Objects, e.Object) {
		out.Objects = append([]string{e.Object}, out.Objects...)
	}
	if out.Message == "" && e.Instance != "" {
		out.Message = "handed to " + e.Instance
	}
	if out.Outcome == "" && e.Type == CredentialUse {
		out.Outcome = OK
	}
	return out
}
