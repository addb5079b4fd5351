package fleet

import (
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
)

// Export is what one peer is still to be told of the instances of this replica. It holds sets of instances, so it is bounded by
// their number however slow the peer is, and the table never waits for one.
type Export struct {
	// C holds one token while something is there to Take.
	C <-chan struct{}

	c     chan struct{}
	table *Table

	// The table's mutex guards what follows.
	pending map[*entry]struct{}
	removed map[snapshot.InstanceID]uint64 // the stamps of those that ended
	moved   map[snapshot.InstanceID]uint64 // the stamps that those which went to another replica had here
	servers map[*entry]uint64              // which words on servers were told
	full    bool                           // too many ended since the last Take: the link must begin anew
}

// maxEnded bounds what ended or moved and was not told yet.
const maxEnded = 100_000

// Export starts an export with everything that this replica holds, and those that ended lately. Close ends it.
func (t *Table) Export() *Export {
	c := make(chan struct{}, 1)
	x := &Export{
		C: c, c: c, table: t, pending: map[*entry]struct{}{}, removed: map[snapshot.InstanceID]uint64{},
		moved: map[snapshot.InstanceID]uint64{}, servers: map[*entry]uint64{},
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range t.agents {
		for _, e := range g.byID {
			if e.session != 0 {
				x.pending[e] = struct{}{}
			}
		}
	}
	for id, d := range t.departed {
		if d.stamp != 0 {
			x.removed[id] = d.stamp
		}
	}
	t.exports[x] = struct{}{}
	x.wake()
	return x
}

// Take gives at most so many instances that changed since the last Take, and those that ended; more: there are more. The values are the
// caller's own. An error: the peer was too slow for all that ended, and must be told everything anew.
func (x *Export) Take(most int, now time.Time) (d Delta, more bool, err error) {
	t := x.table
	t.mu.Lock()
	defer t.mu.Unlock()
	d.Complete = t.Complete(now) && !t.orphans // a peer that just started relies on it
	if x.full {
		return Delta{}, false, errs.New(errs.Exhausted, "fleet: more than %d instances ended before a peer was told", maxEnded)
	}
	for e := range x.pending {
		if len(d.Upserts) == most {
			return d, true, nil
		}
		delete(x.pending, e)
		if e.session != 0 {
			d.Upserts = append(d.Upserts, x.tells(e))
		}
	}
	for id, stamp := range x.moved {
		if len(d.Upserts) == most {
			return d, true, nil
		}
		delete(x.moved, id)
		switch e := t.find(id); {
		case e == nil: // it ended there
			d.Removed = append(d.Removed, Gone{ID: id, Stamp: stamp})
		case e.session == 0:
			told := x.tells(e)
			told.Stamp, told.Connected = stamp, false
			d.Upserts = append(d.Upserts, told)
		}
	}
	for id, stamp := range x.removed {
		if len(d.Removed) == most {
			return d, true, nil
		}
		delete(x.removed, id)
		d.Removed = append(d.Removed, Gone{ID: id, Stamp: stamp})
	}
	return d, false, nil
}

// Close ends the export; it is safe twice. C is not closed.
func (x *Export) Close() {
	x.table.mu.Lock()
	defer x.table.mu.Unlock()
	delete(x.table.exports, x)
}

func (x *Export) wake() {
	select {
	case x.c <- struct{}{}:
	default: // a token is there already
	}
}

// tells copies an entry for the peer.
func (x *Export) tells(e *entry) Told {
	told := Told{Instance: e.copied(), Stamp: e.stamp}
	told.Refused = nil
	for _, r := range e.refused {
		told.Refusals = append(told.Refusals, r.Refusal)
	}
	if at, ok := x.servers[e]; !ok || at != e.words {
		x.servers[e] = e.words
		told.ServersTold = true
		for _, s := range e.servers {
			told.Servers = append(told.Servers, s.value())
		}
	}
	return told
}

// tell notes that peers must hear of an instance. The mutex is held.
func (t *Table) tell(e *entry) {
	if len(t.exports) == 0 || e.session == 0 {
		return
	}
	for x := range t.exports {
		x.pending[e] = struct{}{}
		if len(x.removed) > 0 {
			delete(x.removed, e.inst.ID) // it came back
		}
		x.wake()
	}
}

// gone notes that peers must hear of the end of an instance of this replica. The mutex is held.
func (t *Table) gone(e *entry) {
	for x := range t.exports {
		delete(x.pending, e)
		delete(x.servers, e)
		if e.session != 0 {
			x.end(x.removed, e.inst.ID, e.stamp)
		}
	}
}

// leaves notes that peers must hear that an instance of this replica is now at another. The mutex is held.
func (t *Table) leaves(e *entry) {
	for x := range t.exports {
		delete(x.pending, e)
		delete(x.servers, e)
		x.end(x.moved, e.inst.ID, e.stamp)
	}
}

func (x *Export) end(in map[snapshot.InstanceID]uint64, id snapshot.InstanceID, stamp uint64) {
	if len(in) >= maxEnded {
		x.full = true
		return
	}
	in[id] = max(in[id], stamp)
	x.wake()
}
