package publish

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// agent is one agent as of one reading of its heads. After loaded is closed only classes and contents change.
type agent struct {
	p      *Publisher
	loaded chan struct{}

	id         snapshot.InstanceID // without the instance
	heads      snapshot.Heads
	immutables snapshot.Immutables
	base       snapshot.Rendered // what all its classes share
	moved      int64             // the newest write among the heads

	mu       sync.Mutex // guards what follows; never held while building
	classes  map[snapshot.Key]*rendering
	contents map[manifest.Hash]*contents
	adopted  map[manifest.Hash]*contents // of the reading before; the same hash is the same content
}

// rendering is one class's result; done is closed when it is there.
type rendering struct {
	done  chan struct{}
	asked atomic.Bool // by a stream
	r     *snapshot.Rendered
	err   error
}

func newAgent(p *Publisher) *agent {
	return &agent{
		p: p, loaded: make(chan struct{}), classes: map[snapshot.Key]*rendering{}, contents: map[manifest.Hash]*contents{},
	}
}

// adopt takes over the contents of the reading before.
func (a *agent) adopt(old *agent) {
	old.mu.Lock()
	defer old.mu.Unlock()
	a.adopted = make(map[manifest.Hash]*contents, len(old.contents))
	maps.Copy(a.adopted, old.contents)
}

func (a *agent) read(ctx context.Context, namespace, name string) {
	defer close(a.loaded)
	a.id = snapshot.InstanceID{Namespace: namespace, Agent: name}
	a.heads, a.immutables = a.p.cfg.Source.Heads(namespace, name)
	a.moved = newest(a.heads)
	a.base.ResetEpoch, a.base.ResetGeneration = a.reset()
	a.base.Denied, a.base.DeniedAt = denied(a.heads)
	if a.heads.Agent.Returned {
		a.base.ReturnedAt = a.heads.Agent.MovedAt
	}
	a.p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "agent read", slog.String("namespace", namespace),
		slog.String("agent", name), slog.Int64("head", a.heads.Agent.ModRevision))
}

// reset gives the (epoch, generation) below which remembered refusals are void. A head that is newer than the heads
// that were read only voids earlier, which the next reading would do anyway.
func (a *agent) reset() (epoch uint64, generation int64) {
	head, _, ok := a.p.cfg.Source.Agent(a.id.Namespace, a.id.Agent)
	if !ok {
		return 0, 0
	}
	return head.ResetEpoch, head.ResetGeneration
}

func (a *agent) choose(in snapshot.Instance) snapshot.Key {
	return a.p.cfg.Choose(a.heads, a.immutables, in)
}

func (a *agent) target(in snapshot.Instance, refused func(manifest.Hash) bool) (*snapshot.Rendered, error) {
	r, err := a.render(a.choose(in), true)
	if err != nil || a.heads.Agent.Candidate == 0 || r.Snapshot.Absent != snapshot.Present || !refused(r.Snapshot.Token.Hash) {
		return r, err
	}
	// It refused what Build gives it while a candidate is open: where that is stable, the candidate comes next.
	in.RefusedStable = true
	return a.render(a.choose(in), true)
}

// renderLike renders the classes that streams asked for in old and reports whether nothing that they can see differs. Then
// nobody is woken to ask again, so they count as asked for.
// Where nothing differs but the proven lines, it gives the configs, so that only those are woken who don't serve them.
// A move of the agent's own head makes other classes: they are rendered when streams ask.
func (a *agent) renderLike(old *agent) (same bool, configs []manifest.Hash) {
	if a.heads.Agent != old.heads.Agent {
		return false, nil
	}
	old.mu.Lock()
	was := make(map[snapshot.Key]*rendering, len(old.classes))
	for c, r := range old.classes {
		if r.asked.Load() {
			was[c] = r
		}
	}
	old.mu.Unlock()
	same = len(was) > 0
	alike := same // but for the proven lines
	for c, r := range was {
		<-r.done
		now, err := a.render(c, false)
		alike = alike && err == nil && r.err == nil && equal(now, r.r)
		if !alike {
			return false, nil
		}
		same = same && now.ProvenKey == r.r.ProvenKey
		configs = append(configs, now.Snapshot.Token.Hash)
	}
	if !alike {
		return false, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range was {
		a.classes[c].asked.Store(true)
	}
	return same, configs
}

// equal passes over the proven lines.
func equal(a, b *snapshot.Rendered) bool {
	return a.Snapshot.Absent == b.Snapshot.Absent && a.Snapshot.Token == b.Snapshot.Token &&
		a.Snapshot.Revision == b.Snapshot.Revision && slices.Equal(a.Denied, b.Denied) &&
		a.ResetEpoch == b.ResetEpoch && a.ResetGeneration == b.ResetGeneration && a.ReturnedAt == b.ReturnedAt
}

// render gives a class's config, built by the first who asks.
func (a *agent) render(c snapshot.Key, asked bool) (*snapshot.Rendered, error) {
	a.mu.Lock()
	r, ok := a.classes[c]
	if !ok {
		r = &rendering{done: make(chan struct{}), err: errs.New(errs.Internal, "the build did not end")}
		a.classes[c] = r
	}
	a.mu.Unlock()
	if asked {
		r.asked.Store(true)
	}
	if ok {
		<-r.done
		return r.r, r.err
	}
	defer close(r.done)
	r.r, r.err = a.build(c)
	if r.err != nil {
		a.p.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, "config can't be built; instances keep what they run",
			slog.String("namespace", a.id.Namespace), slog.String("agent", a.id.Agent), slog.Any("error", r.err))
	}
	return r.r, r.err
}

func (a *agent) build(c snapshot.Key) (*snapshot.Rendered, error) {
	a.p.builds.Add(1)
	s, err := a.p.cfg.Build(a.heads, a.immutables, c)
	if err != nil {
		return nil, err
	}
	r := a.base
	r.Snapshot, r.ProvenKey = s, strings.Join(s.Proven, "\n")
	r.Cause = a.cause(s.Token.Generation)
	if s.Absent != snapshot.Present {
		return &r, nil
	}
	cs := a.contentsOf(s)
	r.Lines, r.Content = cs.lines, cs.get
	return &r, nil
}

func (a *agent) contentsOf(s snapshot.Snapshot) *contents {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := s.Token.Hash
	if c, ok := a.contents[h]; ok {
		return c
	}
	c, ok := a.adopted[h]
	if !ok {
		c = newContents(s.Resources, &a.p.marshals)
	}
	a.contents[h] = c
	return c
}

func (a *agent) fault() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.classes {
		select {
		case <-r.done:
			if r.err != nil {
				return r.err.Error()
			}
		default: // still being built
		}
	}
	return ""
}

// denied gives the whole deny list and the revision that orders it: it falls never, because a server leaves the list
// only by a write to its own head or to the agent's.
func denied(h snapshot.Heads) (names []string, at int64) {
	at = h.Agent.ModRevision
	for server, head := range h.MCP {
		at = max(at, head.ModRevision)
		for _, tool := range head.Denied {
			if tool == "*" {
				names = append(names, server)
				continue
			}
			names = append(names, server+"/"+tool)
		}
	}
	slices.Sort(names)
	return names, at
}

// cause finds who moved which head so that the generation came about.
func (a *agent) cause(generation int64) snapshot.Cause {
	kind, name := a.headAt(generation)
	if kind == "" {
		return snapshot.Cause{}
	}
	for _, m := range a.p.cfg.Source.Moves(a.id.Namespace, kind, name) {
		if m.Seq > generation {
			continue
		}
		c := snapshot.Cause{Actor: m.Actor, Reason: m.Cause, Head: kind + "/" + name, Time: m.Time}
		if m.Message != "" {
			c.Reason += ": " + m.Message
		}
		return c
	}
	return snapshot.Cause{Head: kind + "/" + name}
}

// headAt gives the head whose last write made the generation.
func (a *agent) headAt(generation int64) (kind, name string) {
	if a.heads.Agent.ModRevision == generation {
		return manifest.KindAgent, a.id.Agent
	}
	for n, h := range a.heads.Prompts {
		if h.ModRevision == generation {
			return manifest.KindPrompt, n
		}
	}
	for n, h := range a.heads.MCP {
		if h.ModRevision == generation {
			return manifest.KindMCP, n
		}
	}
	for n, h := range a.heads.Credentials {
		if h.ModRevision == generation {
			return manifest.KindCredential, n
		}
	}
	return "", ""
}
