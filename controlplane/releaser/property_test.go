package releaser

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// TestReleaseWithSnapshotsAndInstances steps release.Step, snapshot.Build, the table of instances and a model of agentd together
// through applies, moves of shared heads, rollbacks, pins, retries, restarts of instances and of the control plane, lost
// reports, outages of servers and lagging replicas.
func TestReleaseWithSnapshotsAndInstances(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		defer func() {
			if p := recover(); p != nil {
				if s, ok := p.(string); ok {
					t.Fatalf("%s\n%s", s, strings.Join(w.log, "\n"))
				}
				panic(p)
			}
		}()
		w.draw(t)
		w.begin(t)
		t.Repeat(w.actions())
		if fault := w.quiesce(); fault != "" {
			t.Fatalf("%s\n%s", fault, strings.Join(w.log, "\n"))
		}
	})
}

// draw decides what instances will find wrong.
func (w *world) draw(t *rapid.T) {
	rare := func(name string) bool { return rapid.IntRange(0, 4).Draw(t, name) == 0 }
	lines := []string{"prompt/p 2", "prompt/p 3", "mcp/s 2", "mcp/m 2", "policy/s " + manifest.Sum([]byte(policyText(2))).String(), "credential/k 2"}
	for _, agent := range []string{"a", "b"} {
		for c := range contents {
			w.rules.spec[fmt.Sprint(agent, " ", c)] = rare("bad spec")
		}
		w.rules.pair[fmt.Sprint(agent, " 0|1")] = rare("bad pair")
		w.rules.pair[fmt.Sprint(agent, " 3|4")] = rare("bad pair")
	}
	for _, l := range lines {
		w.rules.line[l] = rapid.IntRange(0, 2).Draw(t, "bad line") == 0
	}
	odd := append(slices.Clone(lines), "a 0", "a 2", "b 3", "prompt/p 1", "prompt/p 4", "mcp/s 1", "credential/k 1")
	for _, in := range w.instances {
		if rare("odd") {
			w.rules.odd[in.id] = rapid.SampledFrom(odd).Draw(t, "odd line")
		}
	}
}

// begin often starts with agents that are stable and proven, where the long way there would hide what comes later.
func (w *world) begin(t *rapid.T) {
	for _, agent := range []string{"a", "b"} {
		c := rapid.IntRange(-1, contents-1).Draw(t, "first content")
		if c < 0 {
			continue
		}
		for _, in := range w.instances {
			if in.agent == agent && rapid.IntRange(0, 3).Draw(t, "starts") > 0 {
				w.connect(in, rapid.IntRange(0, 1).Draw(t, "replica"))
			}
		}
		w.person(agent, w.apply(agent, c))
	}
	for range 3 {
		w.settle()
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	instance, agent, replica := rapid.SampledFrom(w.instances), rapid.SampledFrom([]string{"a", "a", "b"}), rapid.IntRange(0, 1)
	all := map[string]func(*rapid.T){
		"prompt": func(t *rapid.T) { w.movePrompt(rapid.IntRange(1, 4).Draw(t, "version")) },
		"server": func(t *rapid.T) {
			w.moveServer(rapid.SampledFrom([]string{"s", "s", "m"}).Draw(t, "server"), rapid.IntRange(1, 3).Draw(t, "version"),
				rapid.IntRange(0, 2).Draw(t, "policy"))
		},
		"credential": func(*rapid.T) { w.rotate() },
		"connect":    func(t *rapid.T) { w.connect(instance.Draw(t, "instance"), replica.Draw(t, "replica")) },
		"disconnect": func(t *rapid.T) { w.disconnect(instance.Draw(t, "instance"), fleet.Lost) },
		"restart":    func(t *rapid.T) { w.restart(instance.Draw(t, "instance"), replica.Draw(t, "replica")) },
		"lose": func(t *rapid.T) { // the answer is lost with the stream
			in := instance.Draw(t, "instance")
			o := in.inbox
			w.disconnect(in, fleet.Lost)
			in.inbox = o
			w.work(in)
			w.connect(in, replica.Draw(t, "replica"))
		},
		"stop": func(t *rapid.T) {
			in := instance.Draw(t, "instance")
			w.disconnect(in, fleet.Stopped)
			in.up, in.inbox, in.trying = false, nil, nil
			switch rapid.IntRange(0, 3).Draw(t, "then") {
			case 0:
				in.running, in.memory, in.fence, in.disks = nil, nil, 0, in.disks+1
			case 1:
				in.version += "+"
			}
		},
		"reboot": func(t *rapid.T) {
			if rapid.IntRange(0, 3).Draw(t, "sure") == 0 {
				w.reboot()
			}
		},
		"outage": func(t *rapid.T) {
			m := rapid.SampledFrom([]string{"s", "m"}).Draw(t, "server")
			w.rules.down[m] = !w.rules.down[m]
			w.note("server %s down %v", m, w.rules.down[m])
		},
		"leader": func(t *rapid.T) {
			w.ahead = rapid.SampledFrom([]time.Duration{0, 45 * time.Second, -45 * time.Second, time.Hour, -time.Hour}).Draw(t, "ahead")
			w.note("the leader's clock is %s ahead", w.ahead)
		},
		"lag":  func(t *rapid.T) { w.views[replica.Draw(t, "replica")] = w.store },
		"time": func(t *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second) },
		"": func(t *rapid.T) {
			if fault := w.check(); fault != "" {
				t.Fatalf("%s\n%s", fault, strings.Join(w.log, "\n"))
			}
		},
	}
	for i := range 3 {
		n := fmt.Sprint(i)
		all["connect"+n] = func(t *rapid.T) { w.connect(instance.Draw(t, "instance"), replica.Draw(t, "replica")) }
		all["publish"+n] = func(t *rapid.T) { w.publish(instance.Draw(t, "instance")) }
		all["work"+n] = func(t *rapid.T) { w.work(instance.Draw(t, "instance")) }
		all["observe"+n] = func(t *rapid.T) { w.observe(agent.Draw(t, "agent")) }
		all["all"+n] = func(*rapid.T) { w.settle() }
	}
	w.people(all, agent)
	return all
}

// people adds what persons ask.
func (w *world) people(all map[string]func(*rapid.T), agent *rapid.Generator[string]) {
	for i := range 2 {
		all["apply"+fmt.Sprint(i)] = func(t *rapid.T) {
			a := agent.Draw(t, "agent")
			w.person(a, w.apply(a, rapid.IntRange(0, contents-1).Draw(t, "content")))
		}
	}
	all["rollback"] = func(t *rapid.T) {
		a := agent.Draw(t, "agent")
		to := rapid.Int64Range(0, w.store.agents[a].head.State.Last).Draw(t, "to")
		w.person(a, release.Rollback{At: w.now, To: to, Force: rapid.Bool().Draw(t, "force")})
	}
	all["pin"] = func(t *rapid.T) {
		a := agent.Draw(t, "agent")
		if configs := w.store.applied[a]; len(configs) > 0 {
			c := rapid.SampledFrom(configs).Draw(t, "config")
			w.person(a, release.Rollback{At: w.now, Force: rapid.Bool().Draw(t, "force"), Pin: w.pinOf(c.Revision, c.Hash, c.Lines)})
		}
	}
	all["abort"] = func(t *rapid.T) { w.person(agent.Draw(t, "agent"), release.Abort{At: w.now}) }
	for i := range 2 {
		all["retry"+fmt.Sprint(i)] = func(t *rapid.T) {
			a := agent.Draw(t, "agent")
			w.person(a, release.Retry{At: w.now, Live: w.live(a), Manifest: w.retryable(a)})
		}
	}
	all["unhold"] = func(t *rapid.T) { w.person(agent.Draw(t, "agent"), release.Unhold{At: w.now}) }
	all["delete"] = func(t *rapid.T) {
		a := agent.Draw(t, "agent")
		if _, ok := w.store.agents[a]; ok && rapid.IntRange(0, 5).Draw(t, "sure") == 0 {
			w.person(a, release.Delete{At: w.now})
		}
	}
}

// pinOf is view.Pinnable.
func (w *world) pinOf(revision int64, hash manifest.Hash, lines []manifest.Line) *release.Pin {
	return &release.Pin{Revision: revision, Hash: hash, Lines: slices.DeleteFunc(release.Shared(lines), func(l manifest.Line) bool {
		return l.Kind == manifest.KindCredential &&
			!slices.ContainsFunc(w.store.credentials[l.Name].Kept, func(v int64) bool { return fmt.Sprint(v) == l.Version })
	}), Since: w.now}
}

// settle lets everyone do one thing in turn, as it is when nothing is slow.
func (w *world) settle() {
	for i := range w.views {
		w.views[i] = w.store
	}
	for _, in := range w.instances {
		w.publish(in)
		w.work(in)
	}
	for _, a := range []string{"a", "b"} {
		w.observe(a)
	}
}

// apply is the event of a person's apply, as the spec API makes it: an apply ends vetoes and pins.
func (w *world) apply(agent string, content int) release.Apply {
	raw := w.specs[agent][content]
	e := release.Apply{At: w.now, Spec: manifest.Sum(raw), Live: w.live(agent), Policy: release.Policy{ProgressDeadline: time.Minute}}
	if content == 1 {
		e.Policy.OnReject = release.OnRejectHold
	}
	h := w.store.heads(agent)
	h.Vetoes, h.Pins = nil, nil
	e.Manifest = w.resolve(h, agent, raw)
	return e
}

// retryable is what the revision that a retry reopens resolves to without vetoes.
func (w *world) retryable(agent string) manifest.Hash {
	s := w.store.agents[agent].head.State
	r, ok := s.Find(s.Retryable())
	if !ok {
		return manifest.Hash{}
	}
	h := w.store.heads(agent)
	h.Vetoes = nil
	return w.resolve(h, agent, w.blobs[r.Spec])
}

func (w *world) resolve(h snapshot.Heads, agent string, raw []byte) manifest.Hash {
	resources, err := snapshot.Resolve(h, reading{w: w, at: w.store, agent: agent}, agent, raw, manifest.Sum(raw))
	if err != nil {
		panic(err.Error())
	}
	return manifest.Of(snapshot.Snapshot{Resources: resources}.Lines())
}

// check is what holds after every step.
func (w *world) check() string {
	for agent, r := range w.store.agents {
		if fault := w.checkAgent(agent, r); fault != "" {
			return fmt.Sprintf("%s: %s\nstate %+v", agent, fault, r.head.State)
		}
	}
	return ""
}

func (w *world) checkAgent(agent string, rec record) string {
	s := rec.head.State
	if fault := checkRevisions(s); fault != "" {
		return fault
	}
	for _, v := range s.Vetoes {
		if slices.Contains(v.Refused, v.Use) || len(v.Refused) == 0 {
			return fmt.Sprintf("veto %+v uses what it refuses", v)
		}
	}
	if rec.head.Deleted {
		if len(s.Vetoes) > 0 || s.Pin != nil || len(s.Refusals) > 0 {
			return "a deleted agent is held"
		}
		return ""
	}
	if s.Stable == 0 && s.Held() == 0 && s.Candidate == nil {
		return "nothing to give"
	}
	snap, err := snapshot.BuildFor(w.store.heads(agent), reading{w: w, at: w.store, agent: agent}, snapshot.Key{Agent: agent, Target: s.Desired()})
	if err != nil {
		return err.Error()
	}
	if snap.Token.Generation < w.generation[agent] {
		return fmt.Sprintf("generation fell from %d to %d", w.generation[agent], snap.Token.Generation)
	}
	w.generation[agent] = snap.Token.Generation
	return checkHeld(s, snap)
}

// checkHeld compares a config with what the head holds back and pins.
func checkHeld(s release.State, snap snapshot.Snapshot) string {
	for _, l := range snap.Lines() {
		if s.Pin != nil && slices.Contains(snap.Pinned, l.Resource()) && !slices.Contains(s.Pin.Lines, l) {
			return fmt.Sprintf("%s %s is given, pinned are %+v", l.Resource(), l.Version, s.Pin.Lines)
		}
		for _, v := range s.Vetoes {
			held := slices.Contains(snap.Vetoed, l.Resource())
			if v.Resource() == l.Resource() && held != (release.VersionOf(l) == v.Use) && held {
				return fmt.Sprintf("%s %s is given under veto %+v", l.Resource(), l.Version, v)
			}
		}
	}
	return ""
}

func checkRevisions(s release.State) string {
	stable, candidate := 0, 0
	for _, r := range s.Revisions {
		switch r.State {
		case phase.StateStable:
			stable++
			if r.N != s.Stable {
				return fmt.Sprintf("revision %d says stable, the head says %d", r.N, s.Stable)
			}
		case phase.StateCandidate:
			candidate++
			if s.Candidate == nil || r.N != s.Candidate.Revision {
				return fmt.Sprintf("revision %d says candidate", r.N)
			}
		case phase.StateSuperseded, phase.StateRefused, phase.StateRolledBack:
		default:
			return fmt.Sprintf("revision %d has state %q", r.N, r.State)
		}
	}
	switch {
	case stable > 1 || candidate > 1 || (stable == 1) != (s.Stable != 0) || (candidate == 1) != (s.Candidate != nil):
		return fmt.Sprintf("%d stable, %d candidates", stable, candidate)
	case s.Candidate != nil && s.Hold != nil:
		return "a candidate and a hold at once"
	case s.Held() != 0 && s.Stable != 0:
		return "a served hold beside a stable revision"
	case s.Proven != 0 && !s.Unproven && s.Stable != s.Proven:
		return fmt.Sprintf("stable %d is proven, but the last proven is %d", s.Stable, s.Proven)
	}
	if r, ok := s.Find(s.Proven); s.Proven != 0 && (!ok || !r.Proven || r.State == phase.StateRefused) {
		return fmt.Sprintf("fallback %d is %+v", s.Proven, r)
	}
	return ""
}

// quiesce lets everything answer until nothing happens any more, and says what is wrong then.
func (w *world) quiesce() string {
	w.note("quiesce")
	quiet := 0
	for round := 0; quiet < 8; round++ {
		if round == 80 {
			return "never quiet"
		}
		rev := w.store.rev
		for i := range w.views {
			w.views[i] = w.store
		}
		for _, in := range w.instances {
			w.publish(in)
			w.work(in)
		}
		for _, agent := range []string{"a", "b"} {
			for i := 0; w.observe(agent); i++ {
				if i == 20 {
					return "the releaser never stops writing"
				}
				if fault := w.check(); fault != "" {
					return fault
				}
				w.views[0] = w.store
			}
		}
		w.pass(20 * time.Second)
		if quiet++; w.store.rev != rev {
			quiet = 0
		}
	}
	if fault := w.check(); fault != "" {
		return fault
	}
	for agent, r := range w.store.agents {
		if fault := w.checkQuiet(agent, r); fault != "" {
			return fmt.Sprintf("%s: %s\nstate %+v", agent, fault, r.head.State)
		}
	}
	return ""
}

func (w *world) checkQuiet(agent string, r record) string {
	if r.head.Deleted {
		return ""
	}
	if r.head.State.Candidate != nil {
		return "a candidate is open for ever"
	}
	s := w.see(w.store, agent)
	held := r.head.State.Held()
	for _, in := range s.instances {
		f := s.instance(in)
		_, refused := in.Refused[f.Desired]
		switch {
		case f.Running == f.Desired:
			if r.head.State.Unproven || held != 0 {
				return fmt.Sprintf("%s serves revision %d, which counts as unproven", in.ID.Instance, f.Target)
			}
		case refused:
			if !w.since(in.ID.Instance, f.Desired, r.life) {
				return fmt.Sprintf("%s was not offered %s after the operator's retry", in.ID.Instance, in.Desired.Config())
			}
			if fault := w.unvetoed(s, in, f); fault != "" {
				return fault
			}
		case f.Retrying && (f.Target == held || w.served(s, f)):
		case !w.connected(in.ID.Instance):
		default:
			return fmt.Sprintf("%s runs %s, Build gives revision %d %s", in.ID.Instance, in.Running.Config(), f.Target, f.Desired)
		}
	}
	return ""
}

func (w *world) connected(id string) bool {
	return slices.ContainsFunc(w.instances, func(m *agentd) bool { return m.id == id && m.conn })
}

// served reports whether another instance serves what this one retries: then it is lagging.
func (w *world) served(s *sight, f release.Instance) bool {
	return slices.ContainsFunc(s.instances, func(o fleet.Instance) bool {
		return o.ID.Instance != f.ID && o.Running.Token.Hash == f.Desired
	})
}

// unvetoed names a line that should have been held back: an instance runs stable's spec and refused it with another version.
func (w *world) unvetoed(s *sight, in fleet.Instance, f release.Instance) string {
	now, state := s.config(f.Target), s.head.State
	at := slices.IndexFunc(s.applied, func(c view.AppliedConfig) bool { return c.Hash == f.Running })
	if now == nil || f.Target != state.Stable || state.Unproven || at < 0 || slices.ContainsFunc(s.applied, func(c view.AppliedConfig) bool { return c.Hash == now.Hash }) {
		return ""
	}
	base := s.applied[at].Lines
	find := func(lines []manifest.Line, resource string) (manifest.Line, bool) {
		i := slices.IndexFunc(lines, func(l manifest.Line) bool { return l.Resource() == resource })
		if i < 0 {
			return manifest.Line{}, false
		}
		return lines[i], true
	}
	for _, l := range now.Lines {
		was, ok := find(base, l.Resource())
		if !ok || was == l {
			continue
		}
		if l.Kind == manifest.KindAgent {
			return "" // it runs another spec
		}
		if state.Pin != nil {
			if _, pinned := find(state.Pin.Lines, l.Resource()); pinned {
				continue
			}
		}
		if v, ok := s.heads.Vetoes[l.Resource()]; ok && (slices.Contains(v.Refused, release.VersionOf(was)) || v.Use == release.VersionOf(was)) {
			continue // what it runs was refused too, or isn't there any more
		}
		return fmt.Sprintf("%s refused %s and %s %s is not held back", in.ID.Instance, in.Desired.Config(), l.Resource(), l.Version)
	}
	return ""
}

// since reports whether an instance was offered a config in the agent's present life: since the last operator's retry.
func (w *world) since(id string, h manifest.Hash, life int) bool {
	m := w.instances[slices.IndexFunc(w.instances, func(m *agentd) bool { return m.id == id })]
	return m.lived[h] == life+1
}
