package fleet

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// Config says how long silence is tolerated. Zero durations mean the defaults.
type Config struct {
	// Started is when this replica started. Required.
	Started time.Time
	// Replica is this replica's id. Required where there are peers.
	Replica string
	// Greeted is whether an instance ever said Hello to this store, as of the start.
	Greeted     bool
	StaleAfter  time.Duration // without a message, default 45 s
	Lease       time.Duration // from the loss of a stream to OFFLINE, default 30 s
	RemoveAfter time.Duration // from the loss of a stream until the instance is forgotten, default 10 min
	Settle      time.Duration // from the start until the fleet counts as complete at the latest, default 35 s
	LinkGrace   time.Duration // for which a registered peer may be unheard before the fleet counts as incomplete, default 3 s
}

// AgentKey names an agent, as its instances write it: another case is another agent, which doesn't exist.
type AgentKey struct {
	Namespace string
	Name      string
}

// Table is the live instances of all replicas, as this one knows them. It never reads a clock. All methods are safe for concurrent
// use: one mutex guards everything, and nothing blocks or calls out under it.
type Table struct {
	cfg     Config
	settled atomic.Bool               // the fleet was complete once; written under the mutex
	renewed atomic.Pointer[renewal]   // the last end of an era; nil: there was none; written under the mutex
	blind   atomic.Pointer[time.Time] // from when on a registered peer is unheard for too long; written under the mutex

	mu       sync.Mutex // guards what follows
	agents   map[AgentKey]*group
	changes  uint64 // stamps of touch
	departed map[snapshot.InstanceID]departed
	sessions uint64
	subs     map[*Subscription]struct{}
	usage    map[AgentKey]*counted
	peers    map[string]*peer // by replica
	told     bool             // which peers are registered is known
	orphans  bool             // instances of a lost peer may be alive and are nowhere else
	exports  map[*Export]struct{}
}

// group is the instances of one agent.
type group struct {
	byID  map[string]*entry
	order []*entry // sorted by id; nil: to be made
}

// entry is one instance. base is its phase without regard to silence; inst.Phase is what is shown.
type entry struct {
	inst    Instance
	base    phase.Phase
	session uint64    // 0: another replica holds its stream, or held it last
	stamp   uint64    // of the stream that counts, over all replicas
	past    uint64    // the greatest stamp of a stream that is over
	changed uint64    // stamp of its last change that subscribers were told of
	lost    time.Time // when its stream was lost; zero while connected
	hellos  []time.Time
	refused map[manifest.Hash]refusal
	reset   manifest.Token // of the last offer: refusals from below it are void
	health  []phase.Fault  // of what it runs, as last heard
	servers []server       // its words on the MCP servers that it uses
	told    uint64         // the session of those words
	words   uint64         // how often they changed
	others  []claim        // of peers that say it is connected to them, too; nil as a rule
}

// New makes an empty table.
func New(cfg Config) (*Table, error) {
	if cfg.Started.IsZero() {
		return nil, errs.New(errs.Invalid, "fleet: no start time")
	}
	cfg.StaleAfter = cmp.Or(cfg.StaleAfter, 45*time.Second)
	cfg.Lease = cmp.Or(cfg.Lease, 30*time.Second)
	cfg.RemoveAfter = cmp.Or(cfg.RemoveAfter, 10*time.Minute)
	cfg.Settle = cmp.Or(cfg.Settle, 35*time.Second)
	cfg.LinkGrace = cmp.Or(cfg.LinkGrace, 3*time.Second)
	t := &Table{
		cfg: cfg, agents: map[AgentKey]*group{}, departed: map[snapshot.InstanceID]departed{},
		subs: map[*Subscription]struct{}{}, usage: map[AgentKey]*counted{}, peers: map[string]*peer{}, exports: map[*Export]struct{}{},
	}
	t.settled.Store(!cfg.Greeted)
	return t, nil
}

// Agent gives the instances of one agent, sorted by id. The values are the caller's own.
func (t *Table) Agent(namespace, name string) []Instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.agents[keyOf(namespace, name)].copied(nil)
}

// AppendAgent is Agent into a slice that the caller uses again: an agent may have thousands.
func (t *Table) AppendAgent(to []Instance, namespace, name string) []Instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.agents[keyOf(namespace, name)].copied(to)
}

// AppendChanged appends those instances of one agent that changed after a stamp (0: all), sorted by id, and gives how many the
// agent has and the stamp to ask with next time. The values are the caller's own.
func (t *Table) AppendChanged(to []Instance, namespace, name string, after uint64) (changed []Instance, all int, stamp uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.agents[keyOf(namespace, name)]
	for _, e := range g.sorted() {
		all++
		if e.changed > after {
			to = append(to, e.copied())
		}
	}
	return to, all, t.changes
}

// All gives every instance, sorted by namespace, agent and id. The values are the caller's own.
func (t *Table) All() []Instance {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all(func(*entry) bool { return true })
}

func (t *Table) all(which func(*entry) bool) []Instance {
	var out []Instance
	keys := slices.SortedFunc(maps.Keys(t.agents), func(a, b AgentKey) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	for _, k := range keys {
		g := t.agents[k]
		out = slices.Grow(out, len(g.byID))
		for _, e := range g.sorted() {
			if which(e) {
				out = append(out, e.copied())
			}
		}
	}
	return out
}

// Tick lets time pass: the silent become STALE, the lost OFFLINE, the long lost are forgotten. Call it about once a second.
func (t *Table) Tick(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orphans = false
	for key, g := range t.agents {
		for id, e := range g.byID {
			t.age(e, now)
			t.orphans = t.orphans || !e.inst.Connected && e.inst.Phase != phase.Offline && t.orphan(e)
			if !e.inst.Connected && now.Sub(e.lost) >= t.cfg.RemoveAfter {
				t.touch(e)
				t.gone(e)
				g.remove(id)
			}
		}
		if len(g.byID) == 0 {
			delete(t.agents, key)
		}
	}
	for id, d := range t.departed {
		if now.Sub(d.at) >= t.cfg.RemoveAfter {
			delete(t.departed, id)
		}
	}
	if !t.settled.Load() {
		t.judge()
	}
}

func (t *Table) age(e *entry, now time.Time) {
	switch {
	case !e.inst.Connected && now.Sub(e.lost) >= t.cfg.Lease:
		t.show(e, phase.Offline, now)
	case e.session != 0 && e.inst.Connected && now.Sub(e.inst.Seen) >= t.cfg.StaleAfter: // a peer judges its own
		t.show(e, phase.Stale, now)
	}
}

// enter sets what the instance does; a message proves that it is neither silent nor gone.
func (t *Table) enter(e *entry, p phase.Phase, now time.Time) {
	e.base = p
	t.show(e, p, now)
}

func (t *Table) show(e *entry, p phase.Phase, now time.Time) {
	if e.inst.Phase == p {
		return
	}
	e.inst.Phase, e.inst.Since = p, now
	t.touch(e)
}

// live finds the entry of a session. A message of a stream that a newer one replaced finds none.
func (t *Table) live(k Key) *entry {
	if k.entry != nil {
		if k.entry.session == k.Session {
			return k.entry
		}
		return nil
	}
	e := t.find(k.ID)
	if e == nil || e.session != k.Session {
		return nil
	}
	return e
}

func (t *Table) find(id snapshot.InstanceID) *entry {
	g := t.agents[keyOf(id.Namespace, id.Agent)]
	if g == nil {
		return nil
	}
	return g.byID[id.Instance]
}

func keyOf(namespace, name string) AgentKey { return AgentKey{Namespace: namespace, Name: name} }

func (g *group) add(id string, e *entry) {
	g.byID[id] = e
	g.order = nil
}

func (g *group) remove(id string) {
	if e := g.byID[id]; e != nil {
		e.session = 0 // that of no stream: keys find it no more
	}
	delete(g.byID, id)
	g.order = nil
}

// sorted gives the entries by id. They are sorted once for all readers until one comes or goes: an agent may have thousands.
func (g *group) sorted() []*entry {
	if g == nil {
		return nil
	}
	if g.order == nil {
		g.order = slices.SortedFunc(maps.Values(g.byID), func(a, b *entry) int { return strings.Compare(a.inst.ID.Instance, b.inst.ID.Instance) })
	}
	return g.order
}

func (g *group) copied(to []Instance) []Instance {
	entries := g.sorted()
	to = slices.Grow(to, len(entries))
	for _, e := range entries {
		to = append(to, e.copied())
	}
	return to
}

func (e *entry) copied() Instance {
	i := e.inst
	i.Capabilities = slices.Clone(i.Capabilities)
	i.Labels = maps.Clone(i.Labels)
	i.Endpoints = slices.Clone(i.Endpoints)
	i.Faults = slices.Clone(i.Faults)
	if len(e.refused) > 0 {
		i.Refused = make(map[manifest.Hash][]phase.Fault, len(e.refused))
		for h, r := range e.refused {
			i.Refused[h] = slices.Clone(r.Faults)
		}
	}
	return i
}

// Key names one stream of an instance: a newer stream of the same instance has a greater session.
type Key struct {
	ID      snapshot.InstanceID
	Session uint64

	entry *entry // where Hello put it; nil: it is looked for
}
