package releaser

import (
	"slices"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
)

// glance is the look at an agent where nothing is under way and no instance complains, which is what nearly all are most of the
// time: there a step only keeps what instances apply, and what is kept may be written together with other agents' (records).
// False: the agent must be seen whole.
func (r *Releaser) glance(key view.AgentKey, now time.Time) (outcome, bool) {
	at, ok := r.cfg.View.Standing(key.Namespace, key.Name)
	if !ok || !at.Quiet || at.Name != key.Name || !r.cfg.Fleet.Complete(now) {
		return outcome{}, false
	}
	buffer, ok := r.servings.Get().(*[]fleet.Serving)
	if !ok {
		buffer = new([]fleet.Serving)
	}
	defer r.servings.Put(buffer)
	*buffer, ok = r.cfg.Fleet.AppendServing((*buffer)[:0], key.Namespace, key.Name)
	if !ok || !r.current(key, at) {
		return outcome{}, false
	}
	out := outcome{rest: restFor(len(*buffer))}
	held, since, alone := r.keep(key, *buffer, now)
	due := r.recordAt(since)
	switch {
	case held == 0:
	case alone:
		return outcome{}, false
	case held < maxHeld && now.Before(due):
		out.due = due
	default:
		r.records.add(key)
	}
	return out, true
}

// restFor is how long an agent with so many live instances rests after a look.
func restFor(instances int) time.Duration {
	if instances < 100 {
		return 0
	}
	return min(time.Duration(instances)*restPerInstance, restMax)
}

// current makes sure that the memo holds what stable resolves to now; false when it can't be resolved.
func (r *Releaser) current(key view.AgentKey, at view.Standing) bool {
	r.memo.mu.Lock()
	a := r.memo.of(key)
	fresh := a.stable != nil && a.moved == at.Moved
	r.memo.mu.Unlock()
	if fresh {
		return true
	}
	heads, im := r.cfg.View.Heads(key.Namespace, at.Name)
	if h := heads.Agent; h.Stable == 0 || h.Candidate != 0 || h.Held != 0 { // it moved since
		return false
	}
	c := resolve(heads, im, key.Namespace, at.Name, heads.Agent.Stable)
	if c == nil {
		return false
	}
	r.memo.mu.Lock()
	defer r.memo.mu.Unlock()
	a = r.memo.of(key)
	a.stable, a.moved = c, at.Moved
	a.configs = slices.DeleteFunc(a.configs, func(o *resolved) bool { return o.config.Hash == c.config.Hash })
	a.remember(c)
	return true
}

// keep holds what instances serve and no record holds, and tells how many records are held of the agent, since when, and whether
// its own look writes them.
func (r *Releaser) keep(key view.AgentKey, serving []fleet.Serving, now time.Time) (held int, since time.Time, alone bool) {
	r.memo.mu.Lock()
	defer r.memo.mu.Unlock()
	a := r.memo.of(key)
	a.held = slices.DeleteFunc(a.held, func(h heldApplied) bool { return r.cfg.View.Recorded(key.Namespace, key.Name, h.Config.Hash) })
	settled := a.stable != nil
	for i, in := range serving {
		settled = settled && in.Config == a.stable.config.Hash
		if in.Config.IsZero() || i > 0 && in.Config == serving[i-1].Config {
			continue
		}
		at := slices.IndexFunc(a.configs, func(c *resolved) bool { return c.config.Hash == in.Config })
		if at < 0 || a.holds(in.Config) || r.cfg.View.Recorded(key.Namespace, key.Name, in.Config) {
			continue
		}
		c := a.configs[at]
		a.held = append(a.held, heldApplied{
			KeepApplied: release.KeepApplied{Config: c.config, Instance: in.Instance, At: now}, since: now, policies: c.policies,
		})
	}
	if settled && len(serving) > 0 && len(a.configs) > 1 { // nobody answers for an older one any more
		a.configs = []*resolved{a.stable}
	}
	if len(a.held) == 0 {
		a.held, a.alone = nil, false
		return 0, time.Time{}, false
	}
	return len(a.held), a.held[0].since, a.alone
}
