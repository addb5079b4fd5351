package releaser

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// sight is one agent as it is judged: its head, what it resolves to, who is live.
type sight struct {
	key       view.AgentKey
	head      view.AgentHead
	mod       int64
	heads     snapshot.Heads
	im        snapshot.Immutables
	configs   map[int64]*resolved // by revision: stable, candidate, held
	instances []fleet.Instance    // live ones
	seen      view.Seen           // by this machine's clock
	applied   []view.AppliedConfig
}

// resolved is one revision as Build gives it.
type resolved struct {
	config release.Config
	token  manifest.Token
	// policies are the bytes of its policy lines: what a head renders is nowhere else once the head has moved.
	policies map[manifest.Hash][]byte
	// im is held so that what was built here is shared with who reads the same heads later.
	im snapshot.Immutables
}

// see reads an agent; false when there is nothing to judge.
func (r *Releaser) see(key view.AgentKey) (*sight, bool) {
	s := &sight{key: key, configs: map[int64]*resolved{}}
	for {
		var ok bool
		s.head, s.mod, ok = r.cfg.View.Agent(key.Namespace, key.Name)
		if !ok || s.head.Deleted {
			return nil, false
		}
		s.key.Name = s.head.Name
		s.heads, s.im = r.cfg.View.Heads(key.Namespace, s.head.Name)
		if s.heads.Agent.ModRevision == s.mod {
			break // else the head moved between the two reads; each turn sees a newer one
		}
	}
	for _, n := range []int64{s.heads.Agent.Stable, s.heads.Agent.Candidate, s.heads.Agent.Held} {
		if n != 0 {
			s.resolve(n)
		}
	}
	s.instances = slices.DeleteFunc(r.cfg.Fleet.AppendAgent(r.buffer(), key.Namespace, s.head.Name), func(in fleet.Instance) bool {
		return in.ID.Agent != s.head.Name || in.Phase == phase.Offline
	})
	s.applied = r.cfg.View.AppliedConfigs(key.Namespace, s.head.Name)
	s.seen = r.cfg.View.SeenAgent(key.Namespace, s.head.Name) // of a newer head at most, which fails the write
	return s, true
}

// buffer gives a slice for an agent's instances, that of a former look if there is one.
func (r *Releaser) buffer() []fleet.Instance {
	if b, ok := r.buffers.Get().(*[]fleet.Instance); ok {
		return (*b)[:0]
	}
	return nil
}

// giveBack ends the use of a sight.
func (r *Releaser) giveBack(s *sight) {
	clear(s.instances)
	r.buffers.Put(&s.instances)
}

// resolve builds a revision. One that can't be built is left out: nobody is offered it.
func (s *sight) resolve(n int64) {
	if c := resolve(s.heads, s.im, s.key.Namespace, s.head.Name, n); c != nil {
		s.configs[n] = c
	}
}

// resolve gives one revision as Build gives it; nil where it can't be built.
func resolve(heads snapshot.Heads, im snapshot.Immutables, namespace, agent string, n int64) *resolved {
	snap, err := snapshot.Unproven(heads, im, snapshot.Key{Namespace: namespace, Agent: agent, Target: n})
	if err != nil || snap.Absent != snapshot.Present {
		return nil
	}
	c := release.Config{
		Revision: n, Hash: snap.Token.Hash, Generation: snap.Token.Generation, Lines: snap.Lines(), Vetoed: snap.Vetoed,
	}
	if p, err := snapshot.ParsedSpec(im, agent, n); err == nil {
		c.Policy = release.Policy{OnReject: p.Release.OnReject, ProgressDeadline: p.Release.ProgressDeadline.Std()}
	}
	return &resolved{config: c, token: snap.Token, policies: policiesOf(snap), im: im}
}

func policiesOf(snap snapshot.Snapshot) map[manifest.Hash][]byte {
	var out map[manifest.Hash][]byte
	for _, r := range snap.Resources {
		if r.Line.Kind != manifest.KindPolicy {
			continue
		}
		if out == nil {
			out = map[manifest.Hash][]byte{}
		}
		out[r.Line.SHA256] = r.JSON
	}
	return out
}

func (s *sight) config(n int64) *release.Config {
	if c := s.configs[n]; c != nil {
		return &c.config
	}
	return nil
}

// observe turns what was seen into the event. written is only called while an instance retries.
func (s *sight) observe(now time.Time, complete bool, known map[manifest.Hash]release.Config, written func() map[string]time.Time) release.Observe {
	e := release.Observe{
		At: now, Complete: complete, Known: known,
		Stable: s.config(s.heads.Agent.Stable), Candidate: s.config(s.heads.Agent.Candidate), Held: s.config(s.heads.Agent.Held),
		Seen: release.Seen{Opened: s.seen.Opened, Moved: s.seen.Moved},
	}
	retrying := false
	e.Instances = make([]release.Instance, 0, len(s.instances))
	for _, in := range s.instances {
		i := s.instance(in)
		retrying = retrying || i.Retrying
		e.Instances = append(e.Instances, i)
	}
	for _, a := range slices.Backward(s.applied) { // the view lists them newest first
		e.Applied = append(e.Applied, release.Config{Revision: a.Revision, Hash: a.Hash, Lines: a.Lines})
	}
	if retrying {
		e.Seen.Written = written()
	}
	return e
}

// refused gives the refusals that count. Until the table was offered something from after an operator's retry, it still
// shows those from before (semantics.md 7.6).
func (s *sight) refused(in fleet.Instance) map[manifest.Hash][]phase.Fault {
	desired := in.Desired.Token
	if desired.Epoch < s.head.ResetEpoch || desired.Epoch == s.head.ResetEpoch && desired.Generation < s.head.ResetGeneration {
		return nil
	}
	return in.Refused
}

// facts is what Build must know of an instance.
func (s *sight) facts(in fleet.Instance) snapshot.Instance {
	at := snapshot.Instance{ID: in.ID, RunsRevision: in.Running.Revision}
	if at.RunsRevision == 0 && !in.Running.Token.Hash.IsZero() {
		at.RunsRevision = -1 // it runs something whose revision nobody knows any more
	}
	if stable := s.config(s.heads.Agent.Stable); stable != nil {
		_, at.RefusedStable = s.refused(in)[stable.Hash]
	}
	return at
}

// instance gives the facts of one instance.
func (s *sight) instance(in fleet.Instance) release.Instance {
	out := release.Instance{
		ID: in.ID.Instance, Runs: in.Running.Revision, Running: in.Running.Token.Hash, Refused: s.refused(in),
	}
	out.Target = snapshot.Choose(s.heads, s.im, s.facts(in)).Target
	if c := s.config(out.Target); c != nil {
		out.Desired = c.Hash
	}
	if in.Phase != phase.Received || in.Desired.Token.Hash != out.Desired || out.Desired.IsZero() {
		return out
	}
	for _, f := range in.Faults {
		if f.Retryable && f.Severity == phase.Error {
			out.Retrying, out.Faults = true, in.Faults
		}
	}
	return out
}

// written tells when this replica saw the newest writes of the shared heads behind the configs.
func (r *Releaser) written(s *sight) map[string]time.Time {
	out := map[string]time.Time{}
	for _, c := range s.configs {
		for _, l := range c.config.Lines {
			if at := r.cfg.View.SeenLine(s.key.Namespace, l); !at.IsZero() {
				out[l.Resource()] = at
			}
		}
	}
	return out
}

// look judges one agent and performs what was decided.
func (r *Releaser) look(ctx context.Context, key view.AgentKey) outcome {
	if out, enough := r.glance(key, time.Now()); enough {
		return out
	}
	s, ok := r.see(key)
	if !ok {
		r.memo.forget(key)
		return outcome{}
	}
	defer r.giveBack(s)
	now := time.Now()
	known, policies := r.memo.known(s)
	event := s.observe(now, r.cfg.Fleet.Complete(now), known, func() map[string]time.Time { return r.written(s) })
	for _, h := range r.memo.held(s) {
		event.Applied = append(event.Applied, h.Config)
	}
	next, actions := release.Step(s.head.State, event)
	out := outcome{rest: restFor(len(s.instances))}
	if !event.Complete {
		out.due = now.Add(incompleteWait)
	}
	for _, a := range actions {
		switch a := a.(type) {
		case release.Check:
			if out.due.IsZero() || a.At.Before(out.due) {
				out.due = a.At
			}
		case release.Drop:
			r.drop(ctx, s, a, now)
			if again := now.Add(dropAgain); out.due.IsZero() || again.Before(out.due) {
				out.due = again
			}
		}
	}
	actions, later := r.settle(s, actions, policies, now)
	if !later.IsZero() && (out.due.IsZero() || later.Before(out.due)) {
		out.due = later
	}
	t := s.transaction(next, actions, policies, now, r.cfg.Term)
	if len(t.Puts) == 0 {
		r.memo.succeeded(key)
		return out
	}
	return r.write(ctx, s, t, actions, out)
}

// drop ends a retry, unless that was asked for a moment ago.
func (r *Releaser) drop(ctx context.Context, s *sight, d release.Drop, now time.Time) {
	for _, c := range s.configs {
		if c.config.Hash != d.Hash || !r.memo.mayDrop(s.key, d, now) {
			continue
		}
		id := snapshot.InstanceID{Namespace: s.key.Namespace, Agent: s.head.Name, Instance: d.Instance}
		r.cfg.Drops.Drop(id, c.token)
		r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "retry ended", slog.String("namespace", id.Namespace),
			slog.String("agent", id.Agent), slog.String("instance", id.Instance),
			slog.String("config", manifest.ConfigName(c.config.Revision, c.config.Hash)))
		return
	}
}
