package releaser

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// world is a model of everything around release.Step and snapshot.Build: agents that share heads, their instances, replicas
// whose views lag. The table of instances is the real one; the store, the streams and the instances are models.
type world struct {
	now       time.Time
	ahead     time.Duration // how much the clock of the releaser's replica is ahead of the others'
	store     *stored
	views     []*stored // what each replica shows; the releaser is with the first
	table     *fleet.Table
	memo      memo
	blobs     map[manifest.Hash][]byte
	specs     map[string][][]byte // agent -> by content
	instances []*agentd
	rules     rules
	log       []string

	generation map[string]int64
	offered    map[string]int    // instance|version|hash|proven|lives -> refusals
	given      map[string]bool   // agent|hash|life: offered to some instance
	closed     map[string]string // agent|release -> the move that ended it
	retried    map[string]int    // agent|release -> the life that the operator's retry began
	afresh     bool              // a person asks for what was refused to be offered again
}

// stored is the store's content at one revision. It is never changed.
type stored struct {
	rev         int64
	agents      map[string]record
	prompts     map[string]snapshot.PromptHead
	mcp         map[string]snapshot.MCPHead
	credentials map[string]snapshot.CredentialHead
	written     map[string]time.Time // kind/name of shared lines
	applied     map[string][]view.AppliedConfig
}

// record is an agent's head.
type record struct {
	head view.AgentHead
	mod  int64
	life int
	seen view.Seen // by a right clock
}

// rules say what instances find wrong with content.
type rules struct {
	spec map[string]bool   // agent content
	line map[string]bool   // kind/name version
	pair map[string]bool   // agent content|prompt version
	odd  map[string]string // instance -> line that it alone refuses
	down map[string]bool   // MCP servers that don't answer
}

const contents = 5

func newWorld() *world {
	w := &world{
		now: time.Unix(1_000_000, 0), blobs: map[manifest.Hash][]byte{}, specs: map[string][][]byte{},
		memo: memo{agents: map[view.AgentKey]*agentMemo{}},
		rules: rules{
			spec: map[string]bool{}, line: map[string]bool{}, pair: map[string]bool{}, odd: map[string]string{}, down: map[string]bool{},
		},
		generation: map[string]int64{}, offered: map[string]int{}, given: map[string]bool{}, closed: map[string]string{},
		retried: map[string]int{},
		store: &stored{
			rev: 1, agents: map[string]record{}, prompts: map[string]snapshot.PromptHead{}, mcp: map[string]snapshot.MCPHead{},
			credentials: map[string]snapshot.CredentialHead{}, written: map[string]time.Time{}, applied: map[string][]view.AppliedConfig{},
		},
	}
	w.table, _ = fleet.New(fleet.Config{Started: w.now})
	for _, name := range []string{"a", "b"} {
		for i := range contents {
			w.specs[name] = append(w.specs[name], w.content(name, i))
		}
		for i := range 2 {
			w.instances = append(w.instances, &agentd{agent: name, id: name + strconv.Itoa(i), version: "v1"})
		}
	}
	w.movePrompt(1)
	w.moveServer("s", 1, 0)
	w.moveServer("m", 1, 0)
	w.rotate()
	w.views = []*stored{w.store, w.store}
	return w
}

// content is own spec i of an agent. All refer to the prompt; some to the servers s and m and to the credential k.
func (w *world) content(agent string, i int) []byte {
	a := spec.Agent{
		AgentName: agent, Description: fmt.Sprint("content ", i), PromptKey: "p", PromptLabel: "latest", MaxIterations: 10,
		Release: spec.Release{Strategy: "immediate", OnReject: "rollback", ProgressDeadline: spec.Duration(time.Minute)},
		Model:   spec.Model{Model: "m", API: "chat-completions"},
		Memory:  spec.Memory{StorageType: "in-process", CompressionStrategy: "none", SearchStrategy: "recency"},
	}
	if i == 1 {
		a.Release.OnReject = "hold"
	}
	if i == 2 || i == 4 {
		a.MCPServers = append(a.MCPServers, spec.MCPServerRef{MCPServerName: "s", Required: true})
		a.Model.APIKey = spec.Value{Ref: "k"}
	}
	if i >= 3 {
		a.MCPServers = append(a.MCPServers, spec.MCPServerRef{MCPServerName: "m", Required: true})
	}
	b, err := spec.Canonical(a)
	if err != nil {
		panic(err)
	}
	w.blobs[manifest.Sum(b)] = b
	return b
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%s r%d ", w.now.Format("04:05"), w.store.rev)+fmt.Sprintf(format, args...))
}

// change writes the store: f gets a copy at the next revision.
func (w *world) change(f func(s *stored)) {
	s := *w.store
	s.rev++
	s.agents, s.prompts, s.mcp = maps.Clone(s.agents), maps.Clone(s.prompts), maps.Clone(s.mcp)
	s.credentials, s.written, s.applied = maps.Clone(s.credentials), maps.Clone(s.written), maps.Clone(s.applied)
	f(&s)
	w.store = &s
}

func (w *world) blob(text string) manifest.Hash {
	h := manifest.Sum([]byte(text))
	w.blobs[h] = []byte(text)
	return h
}

func (w *world) movePrompt(n int) {
	w.change(func(s *stored) {
		was := s.prompts["p"]
		versions := maps.Clone(was.Versions)
		if versions == nil {
			versions = map[string]manifest.Hash{}
		}
		versions[strconv.Itoa(n)] = w.blob(fmt.Sprint("prompt ", n))
		s.prompts["p"] = snapshot.PromptHead{ModRevision: s.rev, Labels: map[string]string{"latest": strconv.Itoa(n)}, Versions: versions}
		s.written["prompt/p"] = w.now
	})
	w.note("prompt %d", n)
}

// moveServer moves an entry to a version and a policy (0: none).
func (w *world) moveServer(name string, n, policy int) {
	w.change(func(s *stored) {
		was := s.mcp[name]
		versions := maps.Clone(was.Versions)
		if versions == nil {
			versions = map[string]manifest.Hash{}
		}
		versions[strconv.Itoa(n)] = w.blob(fmt.Sprint("server ", name, n))
		h := snapshot.MCPHead{ModRevision: s.rev, Current: strconv.Itoa(n), Versions: versions}
		if policy > 0 {
			h.Policy = []byte(policyText(policy))
		}
		s.mcp[name] = h
		s.written["mcp/"+name], s.written["policy/"+name] = w.now, w.now
	})
	w.note("server %s %d policy %d", name, n, policy)
}

func policyText(n int) string { return fmt.Sprint("policy ", n) }

// rotate gives the credential a new version and keeps the old values that someone may need.
func (w *world) rotate() {
	w.change(func(s *stored) {
		h := s.credentials["k"]
		h.Version++
		h.ModRevision = s.rev
		var kept []int64
		for _, v := range h.Kept {
			if v >= h.Version-1 || s.needs(strconv.FormatInt(v, 10)) {
				kept = append(kept, v)
			}
		}
		kept = append(kept, h.Version)
		h.Kept = kept
		s.credentials["k"] = h
		s.written["credential/k"] = w.now
	})
	w.note("credential %d", w.store.credentials["k"].Version)
}

// needs is view.NeededVersions for the credential.
func (s *stored) needs(version string) bool {
	line := manifest.Line{Kind: manifest.KindCredential, Name: "k", Version: version}
	for name, a := range s.agents {
		for _, v := range a.head.State.Vetoes {
			if v.Kind == manifest.KindCredential && v.Use == version {
				return true
			}
		}
		if p := a.head.State.Pin; p != nil && slices.Contains(p.Lines, line) {
			return true
		}
		all := s.applied[name]
		for _, c := range all[max(0, len(all)-3):] {
			if slices.Contains(c.Lines, line) {
				return true
			}
		}
	}
	return false
}

// reading is snapshot.Immutables for one agent as a replica shows it.
type reading struct {
	w     *world
	at    *stored
	agent string
}

func (r reading) Spec(n int64) (json.RawMessage, manifest.Hash, bool) {
	v, ok := r.at.agents[r.agent].head.State.Find(n)
	return r.w.blobs[v.Spec], v.Spec, ok
}

func (r reading) Blob(h manifest.Hash) ([]byte, bool) {
	b, ok := r.w.blobs[h]
	return b, ok
}

func (r reading) Applied(l manifest.Line) bool {
	return slices.ContainsFunc(r.at.applied[r.agent], func(a view.AppliedConfig) bool { return slices.Contains(a.Lines, l) })
}

// heads is view.Heads.
func (s *stored) heads(agent string) snapshot.Heads {
	h := snapshot.Heads{Epoch: 1, Prompts: s.prompts, MCP: s.mcp, Credentials: s.credentials}
	r, ok := s.agents[agent]
	if !ok {
		return h
	}
	st := r.head.State
	h.Agent = snapshot.AgentHead{
		ModRevision: r.mod, Exists: true, Deleted: r.head.Deleted, Stable: st.Stable, Held: st.Held(), Returned: st.Returned(),
		MovedAt: r.head.MovedAt,
	}
	if r.head.MovedAt == 0 {
		h.Agent.MovedAt = r.mod
	}
	if st.Candidate != nil {
		h.Agent.Candidate = st.Candidate.Revision
	}
	if st.Pin != nil {
		h.Pins = map[string]manifest.Line{}
		for _, l := range st.Pin.Lines {
			h.Pins[l.Resource()] = l
		}
	}
	for _, v := range st.Vetoes {
		if h.Vetoes == nil {
			h.Vetoes = map[string]snapshot.Veto{}
		}
		h.Vetoes[v.Resource()] = snapshot.Veto{Refused: v.Refused, Use: v.Use}
	}
	return h
}

// see is what someone at a replica sees of an agent; nil where it doesn't exist.
func (w *world) see(at *stored, agent string) *sight {
	r, ok := at.agents[agent]
	if !ok {
		return nil
	}
	s := &sight{
		key: view.AgentKey{Namespace: "d", Name: agent}, head: r.head, mod: r.mod, heads: at.heads(agent),
		im: reading{w: w, at: at, agent: agent}, configs: map[int64]*resolved{},
		seen: view.Seen{Opened: r.seen.Opened.Add(w.ahead), Moved: r.seen.Moved.Add(w.ahead)},
	}
	for _, n := range []int64{s.heads.Agent.Stable, s.heads.Agent.Candidate, s.heads.Agent.Held} {
		if n != 0 {
			s.resolve(n)
		}
	}
	for _, in := range w.table.Agent("d", agent) {
		if in.Phase != phase.Offline {
			s.instances = append(s.instances, in)
		}
	}
	s.applied = slices.Clone(at.applied[agent])
	slices.Reverse(s.applied)
	return s
}

func (w *world) live(agent string) bool {
	if !w.table.Complete(w.now) {
		return true
	}
	return slices.ContainsFunc(w.table.Agent("d", agent), func(in fleet.Instance) bool { return in.Phase != phase.Offline })
}

// write performs actions as the releaser and the spec API do, if the agent's head is still the one that was judged.
func (w *world) write(agent string, mod int64, next release.State, actions []release.Action, policies map[manifest.Hash][]byte) bool {
	was := w.store.agents[agent]
	if was.mod != mod {
		return false // a lost race
	}
	others := w.builds(agent)
	write, reset, own, veto := false, false, 0, false
	var kept []release.KeepApplied
	for _, a := range actions {
		switch a := a.(type) {
		case release.Write:
			write = true
		case release.Reset:
			reset = true
		case release.Moved:
			write = true
			veto = veto || a.Move == release.MoveVeto
			if release.OwnMove([]release.Action{a}) {
				own++
			}
			w.note("%s: %s %d -> %d %s (%s)", agent, a.Move, a.From, a.To, a.Config, a.Cause)
			w.hurried(agent, was, a)
		case release.KeepApplied:
			if slices.ContainsFunc(w.store.applied[agent], func(c view.AppliedConfig) bool { return c.Hash == a.Config.Hash }) {
				return false // stored since: the condition fails
			}
			kept = append(kept, a)
		}
	}
	if own > 1 {
		panic(fmt.Sprintf("%d moves in one step", own))
	}
	if !write && len(kept) == 0 {
		return false
	}
	w.change(func(s *stored) {
		for _, k := range kept {
			s.applied[agent] = append(slices.Clone(s.applied[agent]), view.AppliedConfig{
				Applied: view.Applied{Revision: k.Config.Revision, Lines: k.Config.Lines}, Hash: k.Config.Hash, Seq: s.rev,
			})
			for _, l := range k.Config.Lines {
				if b, ok := policies[l.SHA256]; ok && l.Kind == manifest.KindPolicy {
					w.blobs[l.SHA256] = b
				}
			}
		}
		if !write {
			return
		}
		r := was
		if next.Candidate != nil && (was.head.State.Candidate == nil || was.head.State.Candidate.Release != next.Candidate.Release) {
			r.seen.Opened = w.now
		}
		if release.OwnMove(actions) {
			r.seen.Moved = w.now
			r.head = r.head.Moved(next)
		} else {
			r.head = r.head.Noted(next, was.mod)
		}
		r.head.Name, r.mod, r.head.Deleted = agent, s.rev, next.LastMove == release.MoveDelete
		if reset || w.afresh {
			r.life++
		}
		if reset {
			r.head.ResetEpoch, r.head.ResetGeneration = 1, s.rev
		}
		s.agents[agent] = r
	})
	w.closing(agent, was.head.State, next, actions)
	if veto {
		if after := w.builds(agent); !maps.Equal(others, after) {
			panic(fmt.Sprintf("a veto of %s changed another agent: %v, %v", agent, others, after))
		}
	}
	return true
}

// hurried finds a candidate that is given up for the deadline before that has passed, whatever the clocks of the replicas say.
func (w *world) hurried(agent string, was record, m release.Moved) {
	s := was.head.State
	if s.Candidate == nil || m.From != s.Candidate.Revision || !strings.Contains(m.Cause, "progress deadline") {
		return
	}
	tried, _ := s.Find(s.Candidate.Revision)
	proven, _ := s.Find(s.Proven)
	// Where only shared lines differ the deadline is theirs.
	if passed := w.now.Sub(was.seen.Opened); passed < time.Minute && tried.Spec != proven.Spec {
		panic(fmt.Sprintf("%s: candidate %d is given up after %s: %s", agent, m.From, passed, m.Cause))
	}
}

// builds is what every other agent is given.
func (w *world) builds(but string) map[string]manifest.Token {
	out := map[string]manifest.Token{}
	for name, r := range w.store.agents {
		if name == but || r.head.Deleted {
			continue
		}
		for _, n := range []int64{r.head.State.Stable, r.head.State.Desired()} {
			s, err := snapshot.BuildFor(w.store.heads(name), reading{w: w, at: w.store, agent: name}, snapshot.Key{Agent: name, Target: n})
			if err == nil {
				out[fmt.Sprint(name, n)] = s.Token
			}
		}
	}
	return out
}

// closing notes how a release ended: exactly once.
func (w *world) closing(agent string, before, after release.State, actions []release.Action) {
	var m release.Moved
	for _, a := range actions {
		if moved, ok := a.(release.Moved); ok && moved.Move != release.MoveProve {
			m = moved
		}
	}
	if after.Candidate != nil && (before.Candidate == nil || before.Candidate.Release != after.Candidate.Release) {
		id := agent + "|" + after.Candidate.Release
		if was, old := w.closed[id]; old {
			panic(fmt.Sprintf("release %s is open again after %s", id, was))
		}
		if m.Move == release.MoveRetry {
			w.retried[id] = w.store.agents[agent].life
		}
	}
	if before.Candidate == nil || after.Candidate != nil && after.Candidate.Release == before.Candidate.Release {
		return
	}
	id := agent + "|" + before.Candidate.Release
	if was, twice := w.closed[id]; twice {
		panic(fmt.Sprintf("release %s ended by %s and by %s", id, was, m.Move))
	}
	w.closed[id] = string(m.Move)
	life, retried := w.retried[id]
	if retried && life == w.store.agents[agent].life && (m.Move == release.MoveReturn || m.Move == release.MoveHold && m.Config != "") &&
		!w.given[fmt.Sprintf("%s|%s|%d", agent, m.Config, life)] {
		panic(fmt.Sprintf("release %s, which the operator retried, ended without an offer of %s", id, m.Config))
	}
}

// person performs what a person asks: always on the newest state.
func (w *world) person(agent string, e release.Event) {
	r := w.store.agents[agent]
	next, actions := release.Step(r.head.State, e)
	if len(actions) == 1 {
		switch actions[0].(type) {
		case release.Refuse, release.Unchanged:
			return
		}
	}
	w.note("%s: person: %T", agent, e)
	_, retry := e.(release.Retry)
	_, unhold := e.(release.Unhold)
	w.afresh = retry || unhold && len(r.head.State.Vetoes) > 0
	w.write(agent, r.mod, next, actions, nil)
	w.afresh = false
}

// observe is one look of the releaser at an agent.
func (w *world) observe(agent string) bool {
	s := w.see(w.views[0], agent)
	if s == nil || s.head.Deleted {
		return false
	}
	known, policies := w.memo.known(s)
	e := s.observe(w.now.Add(w.ahead), w.table.Complete(w.now), known, func() map[string]time.Time {
		out := map[string]time.Time{}
		for line, at := range w.views[0].written {
			out[line] = at.Add(w.ahead)
		}
		return out
	})
	next, actions := release.Step(s.head.State, e)
	for _, a := range actions {
		if d, ok := a.(release.Drop); ok {
			w.drop(agent, d)
		}
	}
	return w.write(agent, s.mod, next, actions, policies)
}
