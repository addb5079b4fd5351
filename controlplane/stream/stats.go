package stream

import "sync/atomic"

// Stats counts what the streams did since the start.
type Stats struct {
	Streams   int    // open now
	Snapshots uint64 // sent
	Currents  uint64
	Resends   uint64 // of a hash whose proven lines changed
	Adrift    uint64 // instances found running something else than what they acknowledged
	Withheld  uint64 // refused configs that were not sent again
	Bytes     uint64 // of content sent
	Unknown   uint64 // messages and phases of a newer agentd that were passed over
	Stuck     uint64 // streams ended because their reader was stuck
	Early     uint64 // streams sent away because too many began at once
}

type counters struct {
	snapshots, currents, resends, adrift, withheld, bytes, stuck, unknown, early atomic.Uint64
}

// Stats gives the counters.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	open := h.streams
	h.mu.RUnlock()
	c := &h.counts
	return Stats{
		Streams: open, Snapshots: c.snapshots.Load(), Currents: c.currents.Load(), Resends: c.resends.Load(), Adrift: c.adrift.Load(),

		Early:    c.early.Load(),
		Withheld: c.withheld.Load(), Bytes: c.bytes.Load(), Stuck: c.stuck.Load(), Unknown: c.unknown.Load(),
	}
}
