// Package stream holds the connections of the instances: it welcomes them, sends each what it must run, one thing at a
// time and the newest only, and hands their answers to the fleet table (push-protocol.md rules 1 to 10). Package app
// registers the Hub at the runtime door. It decides neither what an instance must run (publish does) nor what a
// refusal means (the releaser does), and it stores nothing but the flag of the first Hello.
package stream

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// viewer is what this replica knows.
type viewer interface {
	Cluster() view.Cluster
	Revision() int64
	WaitFor(ctx context.Context, rev int64) error
	AppliedConfigs(namespace, agent string) []view.AppliedConfig
}

// targeter gives what an instance must run now. It may build, so it is called without a lock held.
type targeter interface {
	Target(id snapshot.InstanceID, runs int64, refused func(manifest.Hash) bool) (*snapshot.Rendered, error)
}

// Newest reads the store's newest revision, linearizably.
type Newest func(ctx context.Context) (int64, error)

// Reveal opens a credential's value, to be sent to an instance that needs it.
type Reveal func(namespace, name string, version int64) (secret.Value, error)

// Greet notes in the store that an instance said Hello. It is called until it succeeded once.
type Greet func(ctx context.Context) error

// Answer is the end of one snapshot: APPLIED, DEGRADED or REJECTED.
type Answer struct {
	Token  manifest.Token
	Phase  phase.Phase
	Faults []phase.Fault
	Joined time.Time // when the instance's stream began
}

// Config is what New needs. Durations that are zero mean the defaults; everything above them but Answered is required.
type Config struct {
	Logger    *slog.Logger
	ReplicaID string
	View      viewer
	Ready     func() bool // false: the view is not loaded, so streams are refused
	Targets   targeter
	Fleet     *fleet.Table
	Newest    Newest
	Reveal    Reveal
	Greet     Greet
	Identify  Identify
	// Denied, when set, hears of a caller who asked for what isn't its own.
	Denied func(ctx context.Context, who Caller, asked snapshot.InstanceID, why error)
	// HandedOut, when set, hears of every version of a credential that a stream hands to its instance, once per stream. It returns at once.
	HandedOut func(id snapshot.InstanceID, credential string, version int64)
	// Generation, when set, gives the generation that the view shows of an agent's configs now; false: it has none.
	Generation func(namespace, agent string) (int64, bool)
	// Answered, when set, hears how each snapshot ended. It returns at once.
	Answered func(Answer)

	HelloWait  time.Duration // for the first message, default 10 s
	BehindWait time.Duration // for our view to reach an instance's fence, default 2 s
	SendWait   time.Duration // for one message to be taken, default 20 s
	Spread     time.Duration // over which a stop asks many instances to come back, at most; default 30 s

	// OpenRate is how many streams a second may begin, default 1,000; OpenBurst how many more after a pause, default the same. 5,000
	// instances that come back together are in after some seconds.
	OpenRate, OpenBurst int
	// MaxAge is how long a stream lives, more or less a tenth, so that instances spread over the replicas again; default 30 min.
	MaxAge time.Duration
}

// Hub is the set of streams. All methods are safe for concurrent use.
type Hub struct {
	pushv1.UnimplementedConfigServiceServer

	cfg     Config
	greeted sync.Mutex // held by the one Hello that greets
	counts  counters
	gate    gate
	line    line
	last    atomic.Pointer[parts] // made for a stream last

	mu      sync.RWMutex // guards what follows
	agents  map[fleet.AgentKey]map[string]*conn
	early   map[introducing]*conn // before their hello
	streams int                   // handlers that run
	idle    chan struct{}         // closed when streams falls to 0 while closing; nil before
	closing bool                  // no new streams
	hello   bool                  // the flag is in the store
	ahead   map[string]bool       // agents of which an instance was ahead of the store
	back    bool                  // STORE_WENT_BACK: nothing is pushed any more

	children sync.WaitGroup // readers and senders of all streams
}

var _ pushv1.ConfigServiceServer = (*Hub)(nil)

// New makes a Hub without streams.
func New(cfg Config) (*Hub, error) {
	switch {
	case cfg.Logger == nil || cfg.View == nil || cfg.Ready == nil || cfg.Targets == nil || cfg.Fleet == nil:
		return nil, errs.New(errs.Invalid, "stream: logger, view, ready, targets and fleet are required")
	case cfg.Newest == nil || cfg.Reveal == nil || cfg.Greet == nil || cfg.Identify == nil:
		return nil, errs.New(errs.Invalid, "stream: newest, reveal, greet and identify are required")
	}
	cfg.HelloWait = cmp.Or(cfg.HelloWait, 10*time.Second)
	cfg.BehindWait = cmp.Or(cfg.BehindWait, 2*time.Second)
	cfg.SendWait = cmp.Or(cfg.SendWait, 20*time.Second)
	cfg.Spread = cmp.Or(cfg.Spread, 30*time.Second)
	cfg.OpenRate = cmp.Or(cfg.OpenRate, 1000)
	cfg.OpenBurst = cmp.Or(cfg.OpenBurst, cfg.OpenRate)
	cfg.MaxAge = cmp.Or(cfg.MaxAge, 30*time.Minute)
	h := &Hub{cfg: cfg, gate: gate{bucket: newBucket(cfg.OpenRate, cfg.OpenBurst)}, agents: map[fleet.AgentKey]map[string]*conn{}, early: map[introducing]*conn{}, ahead: map[string]bool{}}
	h.line.start = h.children.Go
	return h, nil
}

// Run lets time pass for the fleet table until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			h.cfg.Fleet.Tick(now)
		}
	}
}

// Changed wakes the streams of an agent and says how many there are: a few at once, many in line.
func (h *Hub) Changed(namespace, agent string) int { return h.changed(namespace, agent, few) }

// ChangedWithMany is Changed for one of many agents that changed together: even a few of its streams stand in line.
func (h *Hub) ChangedWithMany(namespace, agent string) int { return h.changed(namespace, agent, 0) }

// Proven is Changed where nothing but the proven lines of configs differs: that matters only to who was sent one of them and
// doesn't serve it. A stream that waits for an answer looks again when it comes.
func (h *Hub) Proven(namespace, agent string, configs []manifest.Hash) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	conns := h.agents[fleet.AgentKey{Namespace: namespace, Name: agent}]
	for _, c := range conns {
		c.mu.Lock()
		indifferent := c.slot.open || slices.Contains(configs, c.slot.running.Token.Hash)
		c.mu.Unlock()
		if !indifferent {
			c.poke()
		}
	}
	return len(conns)
}

func (h *Hub) changed(namespace, agent string, atOnce int) int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	conns := h.agents[fleet.AgentKey{Namespace: namespace, Name: agent}]
	if len(conns) > atOnce {
		h.line.join(conns)
		return len(conns)
	}
	for _, c := range conns {
		c.poke()
	}
	return len(conns)
}

// Drop ends an instance's retry, because the releaser's verdict fell: what it retries counts as refused. It reports
// whether there was one.
func (h *Hub) Drop(id snapshot.InstanceID) bool {
	h.mu.RLock()
	c := h.agents[fleet.AgentKey{Namespace: id.Namespace, Name: id.Agent}][id.Instance]
	h.mu.RUnlock()
	return c != nil && c.drop()
}

// Alarm says why this replica stopped pushing or refused a stream for good; "" if it didn't.
func (h *Hub) Alarm() string {
	if r := h.cfg.View.Cluster().Restoring; r != nil {
		return restoringAlarm(r)
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.back:
		return "STORE_WENT_BACK: instances of several agents have seen newer configs than the store holds; nothing is pushed"
	case len(h.ahead) > 0:
		return "STORE_WENT_BACK: an instance has seen a newer config than the store holds"
	default:
		return ""
	}
}

// Shutdown sends every instance away, each with its own moment to come back, and waits until all streams have ended or
// ctx does. New streams are refused from now on.
func (h *Hub) Shutdown(ctx context.Context) error {
	h.mu.Lock()
	h.closing = true
	if h.idle == nil {
		h.idle = make(chan struct{})
		if h.streams == 0 {
			close(h.idle)
		}
	}
	idle := h.idle
	spread := h.spread(h.streams)
	for _, conns := range h.agents {
		for _, c := range conns {
			c.stop(end{goaway: goaway("shutdown", spread)})
		}
	}
	h.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		<-idle
		h.children.Wait()
	}()
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return errs.New(errs.Timeout, "streams still open at the end of the drain: %w", ctx.Err())
	}
}

// open counts a new stream, or refuses it.
func (h *Hub) open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closing:
		return errs.New(errs.Unavailable, "this replica is stopping")
	case h.back:
		return errs.New(errs.Unavailable, "STORE_WENT_BACK: this replica doesn't push until an operator looked at the store")
	case !h.cfg.Ready():
		return errs.New(errs.Unavailable, "this replica's view is not loaded yet")
	case !h.whole():
		return errRestoring()
	}
	h.streams++
	return nil
}

func (h *Hub) closed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams--
	if h.streams == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// enter registers a stream and sends an older one of the same instance away.
func (h *Hub) enter(c *conn, hello fleet.Hello) fleet.Greeting {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.cfg.Fleet.Hello(hello, time.Now())
	k := fleet.AgentKey{Namespace: hello.ID.Namespace, Name: hello.ID.Agent}
	if h.agents[k] == nil {
		h.agents[k] = map[string]*conn{}
	}
	if old := h.agents[k][hello.ID.Instance]; old != nil {
		old.stop(end{goaway: goaway("duplicate", duplicateSpread)})
	}
	h.agents[k][hello.ID.Instance] = c
	c.key = g.Key
	if h.closing { // Shutdown ran between open and here
		c.stop(end{goaway: goaway("shutdown", h.spread(h.streams))})
	}
	return g
}

// Displace sends a stream away because another replica holds a newer one of the same instance. It does nothing where that stream has
// ended, or was replaced, meanwhile.
func (h *Hub) Displace(k fleet.Key) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	c := h.agents[fleet.AgentKey{Namespace: k.ID.Namespace, Name: k.ID.Agent}][k.ID.Instance]
	if c == nil || c.key.Session != k.Session {
		return
	}
	h.cfg.Logger.LogAttrs(context.Background(), slog.LevelInfo, "stream ends: another replica holds a newer one of the same instance", c.who())
	c.stop(end{goaway: goaway("duplicate", duplicateSpread)})
}

func (h *Hub) leave(c *conn, how fleet.Departure) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := fleet.AgentKey{Namespace: c.key.ID.Namespace, Name: c.key.ID.Agent}
	if h.agents[k][c.key.ID.Instance] == c {
		delete(h.agents[k], c.key.ID.Instance)
		if len(h.agents[k]) == 0 {
			delete(h.agents, k)
		}
	}
	h.cfg.Fleet.Leave(c.key, how, time.Now())
}

func (h *Hub) pushing() bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return !h.back && h.whole()
}
