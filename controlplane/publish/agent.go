package publish

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// agent is one agent as of one reading of its heads. After loaded is closed only classes and contents change. There may be
// thousands, nearly all with one class and one content: hence slices where one would expect maps.
type agent struct {
	p      *Publisher
	loaded chan struct{}

	id         snapshot.InstanceID // without the instance
	heads      snapshot.Heads
	immutables snapshot.Immutables
	moved      int64 // the newest write among the heads
	common     common
	replaced   atomic.Bool // another reading is what streams take their targets from

	mu       sync.Mutex // guards what follows; never held while building
	classes  []*rendering
	contents []*contents
	adopted  []*contents // of the reading before; the same hash is the same content
}

// common is what all classes of an agent share, as in snapshot.Rendered.
type common struct {
	denied          []string
	deniedAt        int64
	resetEpoch      uint64
	resetGeneration int64
	returnedAt      int64
}

// rendering is one class's result.
type rendering struct {
	class snapshot.Key
	asked atomic.Bool // by a stream
	built atomic.Bool // r and err are there

	once sync.Once
	r    *snapshot.Rendered
	err  error
}

func newAgent(p *Publisher, namespace, name string) *agent {
	return &agent{p: p, id: snapshot.InstanceID{Namespace: namespace, Agent: name}}
}

// adopt takes over the contents of the reading before.
func (a *agent) adopt(old *agent) {
	old.mu.Lock()
	defer old.mu.Unlock()
	a.adopted = slices.Clone(old.contents)
}

// read reads the heads; old is the reading before, nil for the first.
func (a *agent) read(ctx context.Context, old *agent) {
	a.heads, a.immutables = a.p.cfg.Source.Heads(a.id.Namespace, a.id.Agent)
	if old != nil && a.heads.Stamp != 0 && a.heads.Stamp == old.heads.Stamp { // only which lines are proven may differ
		a.moved, a.common = old.moved, old.common
		return
	}
	a.moved = newest(a.heads)
	a.common.resetEpoch, a.common.resetGeneration = a.reset()
	a.common.denied, a.common.deniedAt = denied(a.heads)
	if a.heads.Agent.Returned {
		a.common.returnedAt = a.heads.Agent.MovedAt
	}
	if a.p.cfg.Logger.Enabled(ctx, slog.LevelDebug) {
		a.p.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "agent read", slog.String("namespace", a.id.Namespace),
			slog.String("agent", a.id.Agent), slog.Int64("head", a.heads.Agent.ModRevision))
	}
}

// reset gives the (epoch, generation) below which remembered refusals are void. A head that is newer than the heads
// that were read only voids earlier, which the next reading would do anyway.
func (a *agent) reset() (epoch uint64, generation int64) {
	return a.p.cfg.Source.Reset(a.id.Namespace, a.id.Agent)
}

func (a *agent) choose(in snapshot.Instance) snapshot.Key {
	return a.p.cfg.Choose(a.heads, a.immutables, in)
}

func (a *agent) target(in snapshot.Instance, refused func(manifest.Hash) bool) (*snapshot.Rendered, error) {
	r, err := a.render(a.choose(in))
	if err != nil || a.heads.Agent.Candidate == 0 || r.Snapshot.Absent != snapshot.Present || !refused(r.Snapshot.Token.Hash) {
		return r, err
	}
	// It refused what Build gives it while a candidate is open: where that is stable, the candidate comes next.
	in.RefusedStable = true
	return a.render(a.choose(in))
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
	was := make([]*rendering, 0, len(old.classes))
	for _, r := range old.classes {
		if r.asked.Load() {
			was = append(was, r)
		}
	}
	old.mu.Unlock()
	same = len(was) > 0
	alike := same // but for the proven lines
	for _, r := range was {
		before, errBefore := old.result(r)
		now, err := a.result(a.rendering(r.class))
		alike = alike && err == nil && errBefore == nil && equal(now, before)
		if !alike {
			return false, nil
		}
		same = same && now.ProvenKey == before.ProvenKey
		configs = append(configs, now.Snapshot.Token.Hash)
	}
	if !alike {
		return false, nil
	}
	for _, r := range was {
		a.rendering(r.class).asked.Store(true)
	}
	return same, configs
}

// equal passes over the proven lines.
func equal(a, b *snapshot.Rendered) bool {
	return a.Snapshot.Absent == b.Snapshot.Absent && a.Snapshot.Token == b.Snapshot.Token &&
		a.Snapshot.Revision == b.Snapshot.Revision && slices.Equal(a.Denied, b.Denied) &&
		a.ResetEpoch == b.ResetEpoch && a.ResetGeneration == b.ResetGeneration && a.ReturnedAt == b.ReturnedAt
}

// render gives a class's config to a stream.
func (a *agent) render(c snapshot.Key) (*snapshot.Rendered, error) {
	r := a.rendering(c)
	r.asked.Store(true)
	return a.result(r)
}

// rendering gives a class's place.
func (a *agent) rendering(c snapshot.Key) *rendering {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.classes {
		if r.class == c {
			return r
		}
	}
	r := &rendering{class: c, err: errs.New(errs.Internal, "the build did not end")}
	a.classes = append(a.classes, r)
	return r
}

// result gives a class's config, built by the first who asks.
func (a *agent) result(r *rendering) (*snapshot.Rendered, error) {
	r.once.Do(func() {
		r.r, r.err = a.build(r.class)
		r.built.Store(true)
		if r.err != nil {
			a.p.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, "config can't be built; instances keep what they run",
				slog.String("namespace", a.id.Namespace), slog.String("agent", a.id.Agent), slog.Any("error", r.err))
		}
	})
	return r.r, r.err
}

func (a *agent) build(c snapshot.Key) (*snapshot.Rendered, error) {
	a.p.builds.Add(1)
	s, err := a.p.cfg.Build(a.heads, a.immutables, c)
	if err != nil {
		return nil, err
	}
	r := &snapshot.Rendered{
		Snapshot: s, Denied: a.common.denied, DeniedAt: a.common.deniedAt, ResetEpoch: a.common.resetEpoch,
		ResetGeneration: a.common.resetGeneration, ReturnedAt: a.common.returnedAt, ProvenKey: strings.Join(s.Proven, "\n"),
		Cause: a.cause(s.Token.Generation),
	}
	if s.Absent != snapshot.Present {
		return r, nil
	}
	r.Lines, r.Content = s.Lines(), a.contentsOf(s).get
	return r, nil
}

func (a *agent) contentsOf(s snapshot.Snapshot) *contents {
	a.mu.Lock()
	defer a.mu.Unlock()
	this := func(c *contents) bool { return c.hash == s.Token.Hash }
	if at := slices.IndexFunc(a.contents, this); at >= 0 {
		return a.contents[at]
	}
	var c *contents
	if at := slices.IndexFunc(a.adopted, this); at >= 0 {
		c = a.adopted[at]
	} else {
		c = newContents(s, &a.p.writer)
	}
	a.contents = append(a.contents, c)
	return c
}

func (a *agent) fault() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.classes {
		if r.built.Load() && r.err != nil { // else it is still being built, or can be
			return r.err.Error()
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
	// One move of a shared head is the cause for thousands of agents.
	moved := moving{namespace: a.id.Namespace, kind: kind, name: name, generation: generation}
	if last := a.p.lastCause.Load(); last != nil && last.moving == moved {
		return last.cause
	}
	c := snapshot.Cause{Head: kind + "/" + name}
	if m, ok := a.p.cfg.Source.MoveUpTo(a.id.Namespace, kind, name, generation); ok {
		c.Actor, c.Reason, c.Time = m.Actor, m.Cause, m.Time
		if m.Message != "" {
			c.Reason += ": " + m.Message
		}
		a.p.lastCause.Store(&caused{moving: moved, cause: c})
	}
	return c
}

// caused is the cause of one generation, moving what it was found for.
type caused struct {
	moving moving
	cause  snapshot.Cause
}

type moving struct {
	namespace, kind, name string
	generation            int64
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
