package fleet

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
)

// Told is an instance as the replica that holds its stream tells of it. Its times are in the clock of whoever has the value.
type Told struct {
	Instance

	// Stamp orders the streams of one instance over all replicas: the greater one is the newer.
	Stamp uint64
	// Refusals are those that count; Instance.Refused is not used.
	Refusals []Refusal
	// Servers are its words on the MCP servers that it uses; they replace what was told before where ServersTold is set.
	Servers     []Server
	ServersTold bool
}

// Gone is an instance that ended, with the stamp of its last stream.
type Gone struct {
	ID    snapshot.InstanceID
	Stamp uint64
}

// Delta is what changed at a replica, and how it stands.
type Delta struct {
	Upserts []Told
	Removed []Gone
	// Synced: everything that was there when the link began has been told.
	Synced bool
	// Complete: the replica knows every instance that may be alive.
	Complete bool
}

// Heard takes what a peer told over its link. It gives the streams of this replica that must end, because the peer holds a newer one
// of the same instance: the caller ends them, outside of the table.
func (t *Table) Heard(from string, d Delta, now time.Time) (displaced []Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, told := range d.Upserts {
		if k, ok := t.upsert(from, told, now); ok {
			displaced = append(displaced, k)
		}
	}
	for _, g := range d.Removed {
		t.ended(from, g, now)
	}
	p := t.peers[from]
	if p == nil { // not registered (any more), and heard all the same
		p = &peer{since: now}
		t.peers[from] = p
	}
	if news := p.synced != (p.synced || d.Synced) || p.complete != d.Complete; news || !t.settled.Load() {
		p.synced, p.complete = p.synced || d.Synced, d.Complete
		t.judge()
	}
	return displaced
}

// newer orders two streams of one instance: by stamp, then by replica.
func newer(stamp uint64, replica string, than uint64, thanReplica string) bool {
	return cmp.Or(cmp.Compare(stamp, than), strings.Compare(replica, thanReplica)) > 0
}

// upsert enters what a peer says of an instance. It counts unless a better claim is known, and is remembered as long as the peer stands
// by it. A stream of this replica that is older is given, if it lives.
func (t *Table) upsert(from string, told Told, now time.Time) (displaced Key, ended bool) {
	e := t.find(told.ID)
	if e == nil {
		d := t.departed[told.ID]
		if !told.Connected && told.Stamp <= d.stamp {
			return Key{}, false // it ended since
		}
		delete(t.departed, told.ID)
		e = &entry{past: d.stamp}
		key := keyOf(told.ID.Namespace, told.ID.Agent)
		if t.agents[key] == nil {
			t.agents[key] = &group{byID: map[string]*entry{}}
		}
		t.agents[key].add(told.ID.Instance, e)
		t.adopt(e, from, told, now)
		return Key{}, false
	}
	switch was, ok := e.retract(from); {
	case ok && was.Stamp > told.Stamp: // of a stream before
		e.others = append(e.others, was)
		return Key{}, false
	case ok && !told.ServersTold:
		told.Servers, told.ServersTold = was.Servers, true
	}
	if !e.yields(from, told) {
		if told.Connected {
			e.others = append(e.others, claim{from: from, Told: told})
		}
		return Key{}, false
	}
	switch {
	case e.session != 0:
		displaced, ended = Key{ID: e.inst.ID, Session: e.session}, e.inst.Connected
		t.leaves(e)
	case e.inst.Connected && e.inst.Replica != from:
		e.others = append(e.others, e.claim())
	}
	t.adopt(e, from, told, now)
	t.fallBack(e, now)
	return displaced, ended
}

// yields reports whether what a peer tells takes the place of what counts now. A peer knows its own streams. Else a stream that lives
// counts more than one that is lost, whatever their stamps: clocks differ, and who lost it may be gone. Of two that live, or are lost,
// the newer counts.
func (e *entry) yields(from string, told Told) bool {
	switch {
	case e.inst.Replica == from:
		return told.Stamp >= e.stamp
	case e.inst.Connected != told.Connected:
		return told.Connected
	default:
		return newer(told.Stamp, from, e.stamp, e.inst.Replica)
	}
}

// claim is what a peer says of an instance that counts less than what another says: that it is connected to it as well.
type claim struct {
	from string
	Told
}

// claim is what the peer that holds an instance says of it.
func (e *entry) claim() claim {
	c := claim{from: e.inst.Replica, Told: Told{Instance: e.inst, Stamp: e.stamp, ServersTold: true}}
	for _, r := range e.refused {
		c.Refusals = append(c.Refusals, r.Refusal)
	}
	for _, s := range e.servers {
		c.Servers = append(c.Servers, s.value())
	}
	return c
}

// retract takes back what a peer claimed.
func (e *entry) retract(from string) (was claim, ok bool) {
	i := slices.IndexFunc(e.others, func(c claim) bool { return c.from == from })
	if i < 0 {
		return claim{}, false
	}
	was = e.others[i]
	e.others = slices.Delete(e.others, i, i+1)
	return was, true
}

// fallBack has the best of the other claims count where the instance is connected nowhere else, and reports whether there is one.
func (t *Table) fallBack(e *entry, now time.Time) bool {
	if e.inst.Connected || len(e.others) == 0 {
		return false
	}
	best := slices.MaxFunc(e.others, func(a, b claim) int { return cmp.Or(cmp.Compare(a.Stamp, b.Stamp), strings.Compare(a.from, b.from)) })
	e.retract(best.from)
	if e.session != 0 {
		t.leaves(e)
	}
	t.adopt(e, best.from, best.Told, now)
	return true
}

// known gives the greatest stamp that is known of an instance.
func (e *entry) known() uint64 {
	stamp := max(e.stamp, e.past)
	for _, c := range e.others {
		stamp = max(stamp, c.Stamp)
	}
	return stamp
}

// adopt makes an entry what a peer says. Subscribers hear of it unless only counters and the time of the last message differ.
func (t *Table) adopt(e *entry, from string, told Told, now time.Time) {
	was := e.inst
	if told.Stamp != e.stamp && was.Connected && told.Connected {
		e.took(now)
	}
	i := told.Instance
	i.Replica, i.Refused = from, nil
	i.Takeovers = max(i.Takeovers, uint32(len(e.hellos))) //nolint:gosec // see maxHellos
	if i.Phase == was.Phase && !was.Since.IsZero() {
		i.Since = was.Since
	}
	if near(i.Offered, was.Offered) {
		i.Offered = was.Offered
	}
	e.session, e.told = 0, 0
	e.past, e.stamp = e.known(), told.Stamp
	e.base = i.Phase
	switch {
	case i.Connected:
		e.lost = time.Time{}
	case was.Connected || e.lost.IsZero():
		e.lost = now
	}
	refused := e.recall(told.Refusals)
	if told.ServersTold {
		e.servers = nil
		for _, s := range told.Servers[:min(len(told.Servers), maxServers)] {
			e.servers = append(e.servers, keep(s))
		}
	}
	e.inst = i
	if i.Phase.Serving() {
		e.health = i.Faults
	}
	if refused || !same(was, i) {
		t.touch(e)
	}
}

// near reports whether two times differ by no more than a message takes.
func near(a, b time.Time) bool { return a.Sub(b).Abs() < 2*time.Second }

// same compares what subscribers care about.
func same(a, b Instance) bool {
	return a.ID == b.ID && a.Replica == b.Replica && a.Connected == b.Connected && a.Phase == b.Phase && a.ConfigState == b.ConfigState &&
		a.Desired == b.Desired && a.Running == b.Running && a.Offered.Equal(b.Offered) && a.Drifts == b.Drifts && a.Takeovers == b.Takeovers &&
		a.Version == b.Version && slices.Equal(a.Faults, b.Faults) && slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Capabilities, b.Capabilities)
}

// recall replaces the refusals by those that a peer tells, and reports whether they differ.
func (e *entry) recall(told []Refusal) bool {
	differs := len(told) != len(e.refused)
	var next map[manifest.Hash]refusal
	for _, r := range told[:min(len(told), maxRefusals)] {
		if next == nil {
			next = make(map[manifest.Hash]refusal, len(told))
		}
		old, ok := e.refused[r.Token.Hash]
		differs = differs || !ok || old.Token != r.Token
		next[r.Token.Hash] = refusal{Refusal: r}
	}
	e.refused = next
	return differs
}

// ended takes a peer's word that an instance stopped.
func (t *Table) ended(from string, gone Gone, now time.Time) {
	e := t.find(gone.ID)
	if e == nil {
		t.depart(gone.ID, nil, gone.Stamp, now)
		return
	}
	if was, ok := e.retract(from); ok && was.Stamp > gone.Stamp {
		e.others = append(e.others, was)
	}
	switch {
	case e.inst.Replica == from && e.session == 0 && gone.Stamp >= e.stamp: // it was there
		e.inst.Connected = false
		if t.fallBack(e, now) {
			return
		}
	case e.inst.Connected || gone.Stamp <= e.stamp:
		return
	}
	t.drop(e, now)
}

// took notes that a newer stream took over from a living one.
func (e *entry) took(now time.Time) {
	e.hellos = slices.DeleteFunc(append(e.hellos, now), func(at time.Time) bool { return now.Sub(at) > time.Minute })
	e.hellos = slices.Delete(e.hellos, 0, max(0, len(e.hellos)-maxHellos))
}

// drop removes an instance that stopped and remembers it for a while. The mutex is held.
func (t *Table) drop(e *entry, now time.Time) {
	t.touch(e)
	t.gone(e)
	key := keyOf(e.inst.ID.Namespace, e.inst.ID.Agent)
	g := t.agents[key]
	g.remove(e.inst.ID.Instance)
	t.depart(e.inst.ID, e.refused, e.known(), now)
	if len(g.byID) == 0 {
		delete(t.agents, key)
	}
}

// depart remembers who stopped: what it refused, for when it comes back, and, where there are peers, its stamp, because word of it may
// come late.
func (t *Table) depart(id snapshot.InstanceID, refused map[manifest.Hash]refusal, stamp uint64, now time.Time) {
	if len(refused) == 0 && len(t.peers) == 0 || len(t.departed) >= maxDeparted {
		return
	}
	if d, ok := t.departed[id]; ok {
		stamp = max(stamp, d.stamp)
	}
	t.departed[id] = departed{refused: refused, at: now, stamp: stamp}
}

// Holder gives the replica that holds an instance's stream and what the instance should run; false: it is connected nowhere.
func (t *Table) Holder(id snapshot.InstanceID) (replica string, desired manifest.Token, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.find(id)
	if e == nil || !e.inst.Connected {
		return "", manifest.Token{}, false
	}
	return e.inst.Replica, e.inst.Desired.Token, true
}
