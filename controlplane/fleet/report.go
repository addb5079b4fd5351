package fleet

import (
	"maps"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Hello is an instance's introduction.
type Hello struct {
	ID           snapshot.InstanceID
	Version      string
	Capabilities []string
	Labels       map[string]string
	Endpoints    []string
	Running      Ref
	Phase        phase.Phase
	ConfigState  phase.ConfigState
	Faults       []phase.Fault
	Refusals     []Refusal
}

// Greeting is the table's answer to a Hello.
type Greeting struct {
	Key Key
	// Replaced is the session of the older stream of the same instance at this replica that must go; 0: none.
	Replaced uint64
	// Takeovers is how often a living stream of this id was replaced in the last minute.
	Takeovers int
}

// maxHellos bounds the takeovers of one id that are remembered.
const maxHellos = 16

// Hello enters an instance. The newer stream of an id wins.
func (t *Table) Hello(h Hello, now time.Time) Greeting {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions++
	g := Greeting{Key: Key{ID: h.ID, Session: t.sessions}}
	key := keyOf(h.ID.Namespace, h.ID.Agent)
	all := t.agents[key]
	if all == nil {
		all = &group{byID: map[string]*entry{}}
		t.agents[key] = all
	}
	e := all.byID[h.ID.Instance]
	switch {
	case e == nil:
		d := t.departed[h.ID]
		e = &entry{refused: d.refused, stamp: d.stamp}
		all.add(h.ID.Instance, e)
		delete(t.departed, h.ID)
	case e.inst.Connected:
		if e.session == 0 {
			e.others = append(e.others, e.claim())
		}
		g.Replaced = e.session
		e.took(now)
		g.Takeovers = len(e.hellos)
	}
	e.session, e.lost = t.sessions, time.Time{}
	g.Key.entry = e
	e.stamp = max(uint64(now.UnixNano()), e.known()+1)
	e.inst = Instance{
		ID: h.ID, Replica: t.cfg.Replica, Version: h.Version, Capabilities: slices.Clone(h.Capabilities), Labels: maps.Clone(h.Labels),
		Endpoints: slices.Clone(h.Endpoints), ConfigState: h.ConfigState, Desired: e.inst.Desired, Running: h.Running,
		Faults: slices.Clone(h.Faults), Phase: e.inst.Phase, Since: e.inst.Since, Seen: now, Offered: e.inst.Offered,
		Connected: true, Requests: e.inst.Requests, Errors: e.inst.Errors, Drifts: e.inst.Drifts, Takeovers: uint32(len(e.hellos)), //nolint:gosec // see maxHellos
	}
	if h.Phase.Serving() {
		e.health = e.inst.Faults
	}
	for _, r := range h.Refusals {
		e.remember(refusal{Refusal: r})
	}
	p := h.Phase
	if p == "" || p == phase.Fenced {
		p = phase.Pending
	}
	t.enter(e, p, now)
	t.touch(e)
	return g
}

// Offer is what Build gives an instance now. A zero Desired: nothing (absent).
type Offer struct {
	Desired Ref
	Proven  string // the proven lines (kind/name) in order, with a line feed between
	// From the agent's head: refusals from below Reset are void; ReturnedAt as in snapshot.Rendered.
	ResetEpoch      uint64
	ResetGeneration int64
	ReturnedAt      int64
}

// Offer records what the instance should run and reports whether it may be sent: not what the instance refused and
// what still counts. Such an offer puts the instance into REJECTED as if it had just answered.
func (t *Table) Offer(k Key, o Offer, now time.Time) (refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return false
	}
	r, refused := e.void(o)
	moved := e.inst.Desired.Token.Hash != o.Desired.Token.Hash
	if e.inst.Desired != o.Desired {
		e.inst.Desired = o.Desired
		t.touch(e)
	}
	hash := o.Desired.Token.Hash
	switch {
	case hash.IsZero():
		return false
	case e.inst.Running.Token.Hash == hash:
		if !e.base.Serving() { // what it runs is (again) what it should run; its own words follow with the answer
			e.inst.Faults = slices.Clone(e.health)
			t.enter(e, servingWith(e.health), now)
			t.touch(e)
		}
		return false
	case refused && e.base != phase.Rejected:
		e.inst.Faults = slices.Clone(r.Faults)
		t.enter(e, phase.Rejected, now)
		t.touch(e)
	case !refused && (moved || e.base.Serving()):
		t.enter(e, phase.Pending, now)
	}
	return refused
}

// Sent records that the desired config was put on the wire.
func (t *Table) Sent(k Key, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.inst.Offered = now
	if e.inst.Running.Token.Hash != e.inst.Desired.Token.Hash {
		t.enter(e, phase.Pending, now)
	}
	t.touch(e)
}

// Report is an instance's answer.
type Report struct {
	Phase   phase.Phase
	Desired manifest.Token
	Running Ref
	Faults  []phase.Fault
	// Unasked is true for a report that answers nothing sent on this stream: a refusal in it only updates what runs.
	Unasked bool
	Proven  string // as in Offer: those that were sent with what it answers
}

// Report records an answer.
func (t *Table) Report(k Key, r Report, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.inst.Seen = now
	if e.inst.Running != r.Running {
		e.inst.Running = r.Running
		t.touch(e)
	}
	if r.Phase.Serving() {
		delete(e.refused, r.Running.Token.Hash)
		e.health = slices.Clone(r.Faults)
	}
	if r.Phase == phase.Rejected && !r.Unasked {
		e.remember(refusal{
			Refusal: Refusal{Token: r.Desired, Version: e.inst.Version, Faults: r.Faults}, proven: r.Proven, provenKnown: true,
		})
		t.touch(e)
	}
	if !e.speaksOfDesired(r) {
		t.enter(e, e.base, now)
		return
	}
	if r.Phase.Serving() && !r.Unasked {
		e.inst.ConfigState = phase.Live
	}
	if !slices.Equal(e.inst.Faults, r.Faults) {
		e.inst.Faults = slices.Clone(r.Faults)
		t.touch(e)
	}
	t.enter(e, r.Phase, now)
}

// speaksOfDesired reports whether a report says how the instance stands to what it should run.
func (e *entry) speaksOfDesired(r Report) bool {
	desired := e.inst.Desired.Token.Hash
	switch {
	case r.Phase == "" || r.Phase == phase.Fenced:
		return false // an answer, never a state
	case r.Phase.Serving():
		return r.Running.Token.Hash == desired || desired.IsZero()
	case r.Unasked:
		return false
	default:
		return r.Desired.Hash == desired
	}
}

// Refuse records the releaser's verdict that the instance's retry of what it was sent has failed for good.
func (t *Table) Refuse(k Key, token manifest.Token, proven string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.remember(refusal{
		Refusal: Refusal{Token: token, Version: e.inst.Version, Faults: e.inst.Faults}, proven: proven, provenKnown: true,
	})
	t.touch(e)
	if e.inst.Desired.Token.Hash == token.Hash && e.inst.Running.Token.Hash != token.Hash {
		t.enter(e, phase.Rejected, now)
	}
}

// Beat records a sign of life.
func (t *Table) Beat(k Key, running Ref, state phase.ConfigState, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.inst.Seen = now
	if e.inst.Running != running || (state != "" && e.inst.ConfigState != state) {
		e.inst.Running = running
		if state != "" {
			e.inst.ConfigState = state
		}
		t.touch(e)
	}
	t.enter(e, e.base, now)
	t.tell(e)
}

// Departure says how a stream ended.
type Departure int

// The departures.
const (
	Lost    Departure = iota // broken: the instance keeps its lease
	Stopped                  // closed by the instance: it is gone
)

// Leave records the end of a stream. The end of one that was replaced by a newer changes nothing.
func (t *Table) Leave(k Key, how Departure, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return
	}
	e.inst.Connected, e.lost = false, now
	switch {
	case t.fallBack(e, now):
	case how == Stopped:
		t.drop(e, now)
	default:
		t.touch(e)
	}
}

func servingWith(faults []phase.Fault) phase.Phase {
	for _, f := range faults {
		if f.Severity == phase.Error {
			return phase.Degraded
		}
	}
	return phase.Applied
}

// Refused reports whether an instance remembers having refused a config, void or not.
func (t *Table) Refused(k Key, h manifest.Hash) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.live(k)
	if e == nil {
		return false
	}
	_, ok := e.refused[h]
	return ok
}
