// Package publish turns changes of the view into configs that are ready to be sent. It follows the view, builds the
// snapshot of an affected agent once per class of instances, marshals every distinct content once, and wakes the
// streams; each stream then takes its own target from here. Package app wires it between view and stream. It sends
// nothing, stores nothing and holds no lock while it builds or marshals.
package publish

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// source is what an agent's configs are resolved from. A call sees at least everything that the subscription announced.
type source interface {
	Heads(namespace, agent string) (snapshot.Heads, snapshot.Immutables)
	// Reset gives the (epoch, generation) below which remembered refusals of an agent's configs are void; zero for none.
	Reset(namespace, name string) (epoch uint64, generation int64)
	// MoveUpTo gives the newest move of one head that isn't newer than a revision.
	MoveUpTo(namespace, kind, name string, revision int64) (view.Move, bool)
}

// changes is a subscription to the view: Take gives the agents touched since the last one.
type changes interface {
	Take() (agents []view.AgentKey, revision int64)
}

// sink is who has streams.
type sink interface {
	// Changed wakes the streams of an agent and says how many there are. It doesn't block.
	Changed(namespace, agent string) int
	// ChangedWithMany is Changed for one of many agents that changed together: its streams come after those of single changes.
	ChangedWithMany(namespace, agent string) int
	// Proven is Changed where nothing but the proven lines differs: it passes over streams whose instance serves one of configs.
	Proven(namespace, agent string, configs []manifest.Hash) int
}

// ChooseFunc is snapshot.Choose: instances with an equal Key get the same snapshot.
type ChooseFunc func(snapshot.Heads, snapshot.Immutables, snapshot.Instance) snapshot.Key

// BuildFunc is snapshot.BuildFor.
type BuildFunc func(snapshot.Heads, snapshot.Immutables, snapshot.Key) (snapshot.Snapshot, error)

// Config is what New needs; everything is required.
type Config struct {
	Logger  *slog.Logger
	Source  source
	Choose  ChooseFunc
	Build   BuildFunc
	Changed <-chan struct{} // holds a token while Changes has something
	Changes changes
}

// Stats counts what rendering costs.
type Stats struct {
	Builds   uint64 // snapshots built
	Marshals uint64 // contents marshalled
}

// Publisher renders configs. All methods are safe for concurrent use.
type Publisher struct {
	cfg       Config
	builds    atomic.Uint64
	writer    writer
	lastCause atomic.Pointer[caused]
	loaded    chan struct{} // closed

	mu     sync.Mutex // guards agents
	agents map[key]*agent
}

type key struct{ namespace, agent string }

// New makes a Publisher.
func New(cfg Config) (*Publisher, error) {
	if cfg.Logger == nil || cfg.Source == nil || cfg.Choose == nil || cfg.Build == nil || cfg.Changed == nil || cfg.Changes == nil {
		return nil, errs.New(errs.Invalid, "publish: logger, source, choose, build, changed and changes are required")
	}
	p := &Publisher{cfg: cfg, agents: map[key]*agent{}, loaded: make(chan struct{})}
	close(p.loaded)
	return p, nil
}

// Run follows the view until ctx ends and wakes the sink's streams after each change that matters to them.
func (p *Publisher) Run(ctx context.Context, streams sink) error {
	s := newSchedule()
	window := time.NewTimer(time.Hour)
	defer window.Stop()
	for {
		k, many, ok := s.next(time.Now())
		if ok {
			told := p.refresh(ctx, k, many, streams)
			s.went(k, told, time.Now())
			select { // what arrived meanwhile may overtake the rest
			case <-ctx.Done():
				return nil
			case <-p.cfg.Changed:
				touched, _ := p.cfg.Changes.Take()
				s.add(touched, time.Now())
			default:
			}
			continue
		}
		if at, open := s.due(); open {
			window.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-window.C:
		case <-p.cfg.Changed:
			touched, _ := p.cfg.Changes.Take()
			s.add(touched, time.Now())
		}
	}
}

// refresh renders an agent anew for the classes that its instances fell into so far, then wakes their streams. An
// agent that nobody asked for isn't rendered. It reports whether a head moved that they are told of.
func (p *Publisher) refresh(ctx context.Context, agent view.AgentKey, many bool, streams sink) (told bool) {
	k := key{agent.Namespace, agent.Name}
	p.mu.Lock()
	old := p.agents[k]
	p.mu.Unlock()
	if old == nil {
		return false
	}
	// gofail: var beforeRefresh struct{}

	// gofail: var mutateDropPush struct{}
	// return false

	next := p.load(ctx, agent.Namespace, agent.Name, old)
	p.mu.Lock()
	p.agents[k] = next
	p.mu.Unlock()
	old.replaced.Store(true)
	// gofail: var mutateReorder struct{}
	// time.AfterFunc(time.Second, func() { p.mu.Lock(); p.agents[k] = old; old.replaced.Store(false); p.mu.Unlock(); streams.Changed(agent.Namespace, agent.Name) })

	// Only now: whoever still took a target from old noted it there before, or takes it from next instead (see Target).
	same, configs := next.renderLike(old)
	switch {
	case same:
		return false
	case len(configs) > 0:
		if streams.Proven(agent.Namespace, agent.Name, configs) == 0 {
			p.forget(k, next)
		}
		return false // no head moved
	}
	wake := streams.Changed
	if many {
		wake = streams.ChangedWithMany
	}
	if wake(agent.Namespace, agent.Name) == 0 {
		p.forget(k, next)
		return false
	}
	return next.moved > old.moved
}

// newest gives the newest write among an agent's heads.
func newest(h snapshot.Heads) int64 {
	at := h.Agent.ModRevision
	for _, p := range h.Prompts {
		at = max(at, p.ModRevision)
	}
	for _, m := range h.MCP {
		at = max(at, m.ModRevision)
	}
	for _, c := range h.Credentials {
		at = max(at, c.ModRevision)
	}
	return at
}

func (p *Publisher) forget(k key, a *agent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.agents[k] == a {
		delete(p.agents, k)
		a.replaced.Store(true)
	}
}

// Target gives what an instance must run now. runs is the revision it runs (0: nothing, -1: one we don't know);
// refused tells whether it refused a config. A stream that is registered with the sink before it calls, and calls
// again whenever it is woken, misses nothing. On an error it keeps what it has.
func (p *Publisher) Target(
	id snapshot.InstanceID, runs int64, refused func(manifest.Hash) bool,
) (*snapshot.Rendered, error) {
	for {
		a := p.agent(id.Namespace, id.Agent)
		r, err := a.target(snapshot.Instance{ID: id, RunsRevision: runs}, refused)
		if !a.replaced.Load() {
			return r, err
		}
	}
}

// Note gives the reason why an agent's config can't be built; "" if it can.
func (p *Publisher) Note(namespace, name string) string {
	p.mu.Lock()
	a := p.agents[key{namespace, name}]
	p.mu.Unlock()
	if a == nil {
		return ""
	}
	return a.fault()
}

// Stats gives the counters since the start.
func (p *Publisher) Stats() Stats {
	return Stats{Builds: p.builds.Load(), Marshals: p.writer.marshals.Load()}
}

// agent gives the agent as of now, or as of the last refresh. What is put into the map reads its heads only after
// it is there, so a change either is in them or finds it there.
func (p *Publisher) agent(namespace, name string) *agent {
	k := key{namespace, name}
	p.mu.Lock()
	a := p.agents[k]
	if a != nil {
		p.mu.Unlock()
		<-a.loaded
		return a
	}
	a = newAgent(p, namespace, name)
	a.loaded = make(chan struct{})
	p.agents[k] = a
	p.mu.Unlock()
	defer close(a.loaded)
	a.read(context.Background(), nil)
	return a
}

func (p *Publisher) load(ctx context.Context, namespace, name string, old *agent) *agent {
	a := newAgent(p, namespace, name)
	a.loaded = p.loaded // nobody sees it before
	<-old.loaded
	a.adopt(old)
	a.read(ctx, old)
	return a
}
