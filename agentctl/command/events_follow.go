package command

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

const (
	// sameEvent is how far the clocks of two replicas may be apart, so that what both tell is known to be one event.
	sameEvent = 5 * time.Second
	// rememberedEvents bounds what is remembered of printed events for that; the oldest go.
	rememberedEvents = 1024
)

// followEvents prints every new event. Each replica numbers its own, so at another one they are told apart by what they say and when.
func (c *cli) followEvents(ctx context.Context, cl *client, out output, req *releasev1.WatchEventsRequest) error {
	var printed printedEvents
	open := func(ctx context.Context) (*connect.ServerStreamForClient[releasev1.WatchEventsResponse], error) {
		stream, err := cl.status.WatchEvents(ctx, connect.NewRequest(req))
		printed.begin()
		req.SinceSeq = 0 // at another replica, or the same one after a restart, numbers begin anew
		return stream, err
	}
	return follow(ctx, cl, open, func(m *releasev1.WatchEventsResponse) (bool, error) {
		d := toEvent(m.GetEvent())
		if !printed.add(d) {
			return false, nil
		}
		return false, c.printEvent(out, d)
	})
}

// printedEvents remembers what was printed.
type printedEvents struct {
	streams int
	before  int // how many of last are of earlier streams
	newest  time.Time
	last    []eventDoc
}

// begin notes that a stream begins.
func (p *printedEvents) begin() {
	p.streams++
	p.before = len(p.last)
}

// add remembers an event; false: it was printed already, or it is of before what was.
func (p *printedEvents) add(d eventDoc) bool {
	if p.streams > 1 && p.before > 0 {
		if d.Time.Before(p.newest.Add(-sameEvent)) || slices.ContainsFunc(p.last[:p.before], func(o eventDoc) bool { return same(o, d) }) {
			return false
		}
	}
	if len(p.last) == rememberedEvents {
		p.last = slices.Delete(p.last, 0, 1)
		p.before = max(0, p.before-1)
	}
	p.last = append(p.last, d)
	if d.Time.After(p.newest) {
		p.newest = d.Time
	}
	return true
}

func same(a, b eventDoc) bool {
	apart := a.Time.Sub(b.Time).Abs()
	a.Seq, b.Seq = 0, 0
	a.Time, b.Time = time.Time{}, time.Time{}
	return a == b && apart < sameEvent
}
