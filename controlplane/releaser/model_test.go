package releaser

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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

// world is a model of everything around release.Step and snapshot.Build: one agent, its shared heads, its instances.
// The table of instances is the real one; the instances, the store and the streams are models.
type world struct {
	now        time.Time
	rev        int64
	head       view.AgentHead
	mod        int64
	exists     bool
	prompt     snapshot.PromptHead
	written    map[string]time.Time
	mcp        map[string]snapshot.MCPHead
	blobs      map[manifest.Hash][]byte
	specs      [][]byte // by content
	promptN    int
	applied    []view.AppliedConfig
	table      *fleet.Table
	instances  []*agentd
	generation int64
	memo       memo

	badSpec   map[int]bool    // content -> refused by every instance
	badPrompt map[int]bool    // prompt version -> refused by every instance
	badPair   map[[2]int]bool // content, prompt
	odd       map[string]int  // instance -> content that it alone refuses
	down      map[string]bool // MCP servers that don't answer
	refusedBy map[string]int  // instance|hash|proven|life -> times offered after a refusal
	log       []string
	closed    map[string]string // release id -> the move that ended it
	lives     int               // operator retries, re-creations: refusals before are void
}

// agentd is a model of one instance.
type agentd struct {
	id      string
	key     fleet.Key
	up      bool
	conn    bool
	running *offer
	memory  []fleet.Refusal
	inbox   *offer
	trying  *offer
	sent    map[manifest.Hash]string // content -> the proven lines that it was sent with last
}

// offer is one config on its way to, or in, an instance.
type offer struct {
	ref    fleet.Ref
	lines  []manifest.Line
	proven map[string]bool
	key    string
	life   int // of the agent when it was offered
}

const contents = 5

func newWorld() *world {
	w := &world{
		now: time.Unix(1_000_000, 0), rev: 1, mcp: map[string]snapshot.MCPHead{}, blobs: map[manifest.Hash][]byte{},
		head:    view.AgentHead{Name: "a"},
		written: map[string]time.Time{}, badSpec: map[int]bool{}, badPrompt: map[int]bool{}, badPair: map[[2]int]bool{},
		odd: map[string]int{}, down: map[string]bool{}, refusedBy: map[string]int{}, closed: map[string]string{},
		memo: memo{agents: map[view.AgentKey]*agentMemo{}},
	}
	w.table, _ = fleet.New(fleet.Config{Started: w.now})
	for i := range contents {
		a := spec.Agent{
			AgentName: "a", Description: fmt.Sprint("content ", i), PromptKey: "p", PromptLabel: "latest", MaxIterations: 10,
			Release: spec.Release{Strategy: "immediate", OnReject: "rollback", ProgressDeadline: spec.Duration(time.Minute)},
			Model:   spec.Model{Model: "m", API: "chat-completions"},
			Memory:  spec.Memory{StorageType: "in-process", CompressionStrategy: "none", SearchStrategy: "recency"},
		}
		if i == 2 {
			a.Release.OnReject = "hold"
		}
		if i >= 3 {
			a.MCPServers = []spec.MCPServerRef{{MCPServerName: fmt.Sprint("m", i), Required: true}}
		}
		b, err := spec.Canonical(a)
		if err != nil {
			panic(err)
		}
		w.specs = append(w.specs, b)
		w.blobs[manifest.Sum(b)] = b
	}
	for i := 3; i < contents; i++ {
		name := fmt.Sprint("m", i)
		b := []byte(`{"name":"` + name + `"}`)
		w.blobs[manifest.Sum(b)] = b
		w.mcp[name] = snapshot.MCPHead{ModRevision: w.tick(), Current: "1", Versions: map[string]manifest.Hash{"1": manifest.Sum(b)}}
		w.written["mcp/"+name] = w.now
	}
	w.movePrompt(1)
	for i := range 3 {
		w.instances = append(w.instances, &agentd{id: fmt.Sprint("i", i)})
	}
	return w
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%s r%d ", w.now.Format("04:05"), w.rev)+fmt.Sprintf(format, args...))
}

func (w *world) tick() int64 {
	w.rev++
	return w.rev
}

func (w *world) movePrompt(n int) {
	b := fmt.Append(nil, `{"prompt":`, n, `}`)
	w.blobs[manifest.Sum(b)] = b
	versions := map[string]manifest.Hash{}
	maps.Copy(versions, w.prompt.Versions)
	versions[fmt.Sprint(n)] = manifest.Sum(b)
	w.prompt = snapshot.PromptHead{ModRevision: w.tick(), Labels: map[string]string{"latest": fmt.Sprint(n)}, Versions: versions}
	w.promptN = n
	w.written["prompt/p"] = w.now
	w.note("prompt %d", n)
}

// world is snapshot.Immutables.

func (w *world) Spec(n int64) (json.RawMessage, manifest.Hash, bool) {
	r, ok := w.head.State.Find(n)
	return w.blobs[r.Spec], r.Spec, ok
}

func (w *world) Blob(h manifest.Hash) ([]byte, bool) {
	b, ok := w.blobs[h]
	return b, ok
}

func (w *world) Applied(l manifest.Line) bool {
	return slices.ContainsFunc(w.applied, func(a view.AppliedConfig) bool { return slices.Contains(a.Lines, l) })
}

func (w *world) heads() snapshot.Heads {
	h := snapshot.Heads{Epoch: 1, Prompts: map[string]snapshot.PromptHead{"p": w.prompt}, MCP: w.mcp}
	if !w.exists {
		return h
	}
	s := w.head.State
	h.Agent = snapshot.AgentHead{
		ModRevision: w.mod, Exists: true, Deleted: w.head.Deleted, Stable: s.Stable, Held: s.Held(), Returned: s.Returned(),
		MovedAt: w.head.MovedAt,
	}
	if w.head.MovedAt == 0 {
		h.Agent.MovedAt = w.mod
	}
	if s.Candidate != nil {
		h.Agent.Candidate = s.Candidate.Revision
	}
	return h
}

// see is what the releaser sees.
func (w *world) see() *sight {
	s := &sight{
		key: view.AgentKey{Namespace: "d", Name: "a"}, head: w.head, mod: w.mod, heads: w.heads(), im: w, configs: map[int64]*resolved{},
	}
	for _, n := range []int64{s.heads.Agent.Stable, s.heads.Agent.Candidate, s.heads.Agent.Held} {
		if n != 0 {
			s.resolve(n)
		}
	}
	for _, in := range w.table.Agent("d", "a") {
		if in.Phase != phase.Offline {
			s.instances = append(s.instances, in)
		}
	}
	for _, a := range slices.Backward(w.applied) {
		s.applied = append(s.applied, a)
	}
	return s
}

func (w *world) live() bool { return len(w.see().instances) > 0 }

// write performs actions as the releaser and the spec API do and reports whether anything was written.
func (w *world) write(next release.State, actions []release.Action) bool {
	before := w.head.State
	write, own := false, 0
	for _, a := range actions {
		switch a := a.(type) {
		case release.Write:
			write = true
		case release.Reset:
			w.head.ResetHere = true
			w.lives++
		case release.Moved:
			write = true
			if a.Move != release.MoveProve {
				own++
			}
			w.note("%s %d -> %d (%s)", a.Move, a.From, a.To, a.Cause)
			w.closing(before, next, a)
		case release.KeepApplied:
			w.applied = append(w.applied, view.AppliedConfig{
				Applied: view.Applied{Revision: a.Config.Revision, Lines: a.Config.Lines}, Hash: a.Config.Hash, Seq: w.tick(),
			})
		}
	}
	if own > 1 {
		panic(fmt.Sprintf("%d moves in one step", own))
	}
	if !write {
		return false
	}
	if release.OwnMove(actions) {
		w.head = w.head.Moved(next)
	} else {
		w.head = w.head.Noted(next, w.mod)
	}
	w.mod = w.tick()
	w.exists = true
	w.head.Deleted = next.LastMove == release.MoveDelete
	if w.head.ResetHere {
		w.head.ResetHere, w.head.ResetEpoch, w.head.ResetGeneration = false, 1, w.mod
	}
	return true
}

// closing notes how a release ended: exactly once.
func (w *world) closing(before, after release.State, m release.Moved) {
	if before.Candidate == nil || after.Candidate != nil && after.Candidate.Release == before.Candidate.Release {
		return
	}
	if m.Move == release.MoveProve {
		return
	}
	id := before.Candidate.Release
	if was, twice := w.closed[id]; twice {
		panic(fmt.Sprintf("release %s ended by %s and by %s", id, was, m.Move))
	}
	w.closed[id] = string(m.Move)
}

// observe is one look of the releaser.
func (w *world) observe() bool {
	if !w.exists || w.head.Deleted {
		return false
	}
	s := w.see()
	known, _ := w.memo.known(s)
	e := s.observe(w.now, true, known, func() map[string]time.Time { return w.written })
	next, actions := release.Step(w.head.State, e)
	for _, a := range actions {
		if d, ok := a.(release.Drop); ok {
			w.drop(d)
		}
	}
	wrote := w.write(next, actions)
	return wrote || slices.ContainsFunc(actions, func(a release.Action) bool { _, ok := a.(release.KeepApplied); return ok })
}

func (w *world) drop(d release.Drop) {
	for _, in := range w.instances {
		if in.id == d.Instance && in.conn && in.trying != nil && in.trying.ref.Token.Hash == d.Hash {
			w.refuse(in, in.trying, []phase.Fault{unreachable("mcp/dropped")})
		}
	}
}

func unreachable(resource string) phase.Fault {
	return phase.Fault{Resource: resource, Code: phase.Unreachable, Severity: phase.Error, Retryable: true}
}

func invalid(resource string) phase.Fault {
	return phase.Fault{Resource: resource, Code: phase.Invalid, Severity: phase.Error}
}

// publish is what the stream does for one instance.
func (w *world) publish(in *agentd) {
	if !in.conn {
		return
	}
	s := w.see()
	i := slices.IndexFunc(s.instances, func(f fleet.Instance) bool { return f.ID.Instance == in.id })
	if i < 0 {
		return
	}
	snap, err := snapshot.Build(s.heads, w, s.facts(s.instances[i]))
	if err != nil {
		panic(err)
	}
	if snap.Absent != snapshot.Present {
		w.table.Offer(in.key, fleet.Offer{}, w.now)
		in.inbox, in.trying = nil, nil
		if snap.Absent == snapshot.Deleted {
			in.running = nil
			w.table.Report(in.key, fleet.Report{Phase: phase.Applied}, w.now)
		}
		return
	}
	o := &offer{
		ref: fleet.Ref{Token: snap.Token, Revision: snap.Revision}, lines: snap.Lines(), proven: map[string]bool{},
		key: strings.Join(snap.Proven, ","), life: w.lives,
	}
	for _, p := range snap.Proven {
		o.proven[p] = true
	}
	fo := fleet.Offer{Desired: o.ref, Proven: o.key, ResetEpoch: w.head.ResetEpoch, ResetGeneration: w.head.ResetGeneration}
	if s.heads.Agent.Returned {
		fo.ReturnedAt = s.heads.Agent.MovedAt
	}
	refused := w.table.Offer(in.key, fo, w.now)
	hash := o.ref.Token.Hash
	switch {
	case in.running != nil && in.running.ref.Token.Hash == hash: // Current
		in.running.ref = o.ref
		in.inbox, in.trying = nil, nil
		w.table.Report(in.key, fleet.Report{Phase: phase.Applied, Desired: o.ref.Token, Running: o.ref}, w.now)
	case refused:
		// Never offered again; a newer wish ends what was being tried.
		if in.trying != nil && in.trying.ref.Token.Hash != hash {
			in.trying = nil
		}
	case in.inbox != nil && in.inbox.ref.Token.Hash == hash && in.inbox.key == o.key,
		in.trying != nil && in.trying.ref.Token.Hash == hash && in.trying.key == o.key:
		// On its way, or being tried.
	default:
		k := w.offerKey(in, o)
		// A change of the proven lines since the last offer of this content is no second offer (semantics.md 6).
		if w.refusedBy[k] > 0 && in.sent[hash] == o.key {
			panic("refused content offered again: " + k)
		}
		if in.sent == nil {
			in.sent = map[manifest.Hash]string{}
		}
		in.sent[hash] = o.key
		in.inbox, in.trying = o, nil
		w.table.Sent(in.key, w.now)
	}
}

func (*world) offerKey(in *agentd, o *offer) string {
	return fmt.Sprintf("%s|%s|%s|%d", in.id, o.ref.Token.Hash, o.key, o.life)
}

// faults is what an instance finds wrong with a config: only in lines that it doesn't run.
func (w *world) faults(in *agentd, o *offer) (refuse, retry []phase.Fault) {
	carried := func(l manifest.Line) bool { return in.running != nil && slices.Contains(in.running.lines, l) }
	content, prompt, fresh := -1, -1, false
	for _, l := range o.lines {
		switch l.Kind {
		case manifest.KindAgent:
			content = slices.IndexFunc(w.specs, func(b []byte) bool { return manifest.Sum(b) == l.SHA256 })
			fresh = fresh || !carried(l)
			c, isOdd := w.odd[in.id]
			if !carried(l) && (w.badSpec[content] || isOdd && c == content) {
				refuse = append(refuse, invalid("agent/a"))
			}
		case manifest.KindPrompt:
			_, _ = fmt.Sscan(l.Version, &prompt)
			fresh = fresh || !carried(l)
			if !carried(l) && w.badPrompt[prompt] {
				refuse = append(refuse, invalid("prompt/p"))
			}
		case manifest.KindMCP:
			if !carried(l) && !o.proven[l.Resource()] && w.down[l.Name] {
				retry = append(retry, unreachable(l.Resource()))
			}
		}
	}
	if fresh && w.badPair[[2]int{content, prompt}] {
		refuse = append(refuse, invalid("agent/a"))
	}
	return refuse, retry
}

// work lets an instance answer what it holds.
func (w *world) work(in *agentd) {
	if !in.up {
		return
	}
	o := in.inbox
	if o == nil {
		o = in.trying
	}
	if o == nil {
		return
	}
	in.inbox, in.trying = nil, nil
	refuse, retry := w.faults(in, o)
	switch {
	case len(refuse) > 0:
		w.refuse(in, o, refuse)
	case len(retry) > 0:
		in.trying = o
		w.report(in, o, phase.Received, retry)
	default:
		in.running = o
		in.memory = slices.DeleteFunc(in.memory, func(r fleet.Refusal) bool { return r.Token.Hash == o.ref.Token.Hash })
		w.report(in, o, phase.Applied, nil)
		w.note("%s applied %s", in.id, o.ref.Config())
	}
}

func (w *world) refuse(in *agentd, o *offer, faults []phase.Fault) {
	in.trying = nil
	w.refusedBy[w.offerKey(in, o)]++
	in.memory = append(slices.DeleteFunc(in.memory, func(r fleet.Refusal) bool { return r.Token.Hash == o.ref.Token.Hash }),
		fleet.Refusal{Token: o.ref.Token, Version: "v", Faults: faults})
	if len(in.memory) > 8 {
		in.memory = in.memory[1:]
	}
	w.report(in, o, phase.Rejected, faults)
	w.note("%s refused %s", in.id, o.ref.Config())
}

func (w *world) report(in *agentd, o *offer, p phase.Phase, faults []phase.Fault) {
	if in.conn {
		w.table.Report(in.key, fleet.Report{Phase: p, Desired: o.ref.Token, Running: in.runs(), Faults: faults, Proven: o.key}, w.now)
	}
}

func (in *agentd) runs() fleet.Ref {
	if in.running == nil {
		return fleet.Ref{}
	}
	return in.running.ref
}

func (w *world) connect(in *agentd) {
	if in.conn {
		return
	}
	in.up, in.conn = true, true
	h := fleet.Hello{
		ID: snapshot.InstanceID{Namespace: "d", Agent: "a", Instance: in.id}, Version: "v", Running: in.runs(),
		Refusals: slices.Clone(in.memory),
	}
	if in.running != nil {
		h.Phase = phase.Applied
	}
	in.key = w.table.Hello(h, w.now).Key
	w.note("%s connects with %s", in.id, h.Running.Config())
}

func (w *world) disconnect(in *agentd, how fleet.Departure) {
	if in.conn {
		w.table.Leave(in.key, how, w.now)
		in.conn = false
		w.note("%s disconnects", in.id)
	}
}

func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, in := range w.instances {
		if in.conn {
			w.table.Beat(in.key, in.runs(), "", w.now)
		}
	}
	w.table.Tick(w.now)
}
