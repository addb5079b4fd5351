package releaser

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// agentd is a model of one instance and of its stream.
type agentd struct {
	agent   string
	id      string
	version string
	replica int
	key     fleet.Key
	up      bool
	conn    bool
	running *offer
	memory  []fleet.Refusal
	fence   int64
	inbox   *offer // sent and unanswered: nothing else is sent meanwhile
	trying  *offer
	disks   int                      // how often its disk was lost
	sent    map[manifest.Hash]string // content -> the proven lines that it was sent with last
	lived   map[manifest.Hash]int    // content -> the agent's life, counted from 1, when it was sent last
}

// offer is one config on its way to, or in, an instance.
type offer struct {
	ref    fleet.Ref
	lines  []manifest.Line
	proven map[string]bool
	key    string
	life   int // of the agent when it was offered
}

// publish is what the stream does for one instance.
func (w *world) publish(in *agentd) {
	if !in.conn {
		return
	}
	at := w.views[in.replica]
	s := w.see(at, in.agent)
	if s == nil {
		return
	}
	i := slices.IndexFunc(s.instances, func(f fleet.Instance) bool { return f.ID.Instance == in.id })
	if i < 0 {
		return
	}
	snap, err := snapshot.Build(s.heads, s.im, s.facts(s.instances[i]))
	if err != nil {
		panic(err)
	}
	if snap.Absent != snapshot.Present {
		w.absent(in, snap)
		return
	}
	o := &offer{
		ref: fleet.Ref{Token: snap.Token, Revision: snap.Revision}, lines: snap.Lines(), proven: map[string]bool{},
		key: strings.Join(snap.Proven, "\n"), life: at.agents[in.agent].life,
	}
	for _, p := range snap.Proven {
		o.proven[p] = true
	}
	fo := fleet.Offer{Desired: o.ref, Proven: o.key, ResetEpoch: s.head.ResetEpoch, ResetGeneration: s.head.ResetGeneration}
	if s.heads.Agent.Returned {
		fo.ReturnedAt = s.heads.Agent.MovedAt
	}
	refused := w.table.Offer(in.key, fo, w.now)
	w.send(in, o, refused, at == w.store)
}

func (w *world) absent(in *agentd, snap snapshot.Snapshot) {
	w.table.Offer(in.key, fleet.Offer{}, w.now)
	if snap.Token.Generation < in.fence {
		return
	}
	in.inbox, in.trying = nil, nil
	if snap.Absent == snapshot.Deleted {
		in.running, in.fence = nil, snap.Token.Generation
		w.table.Report(in.key, fleet.Report{Phase: phase.Applied}, w.now)
	}
}

// send is the stream's slot and what the instance does before it builds anything.
func (w *world) send(in *agentd, o *offer, refused, newest bool) {
	hash := o.ref.Token.Hash
	current := in.running != nil && in.running.ref.Token.Hash == hash
	switch {
	case in.inbox != nil:
		return // one in flight
	case !current && refused:
		// Never offered again; a newer wish ends what was being tried.
		if in.trying != nil && in.trying.ref.Token.Hash != hash {
			in.trying = nil
		}
		return
	case in.trying != nil && in.trying.ref.Token.Hash == hash && in.trying.key == o.key:
		w.gave(in, o) // it retries this very content
		return
	}
	if o.ref.Token.Generation < in.fence {
		if newest {
			panic(fmt.Sprintf("%s is at generation %d and was sent %d", in.id, in.fence, o.ref.Token.Generation))
		}
		w.table.Report(in.key, fleet.Report{Phase: phase.Fenced, Desired: o.ref.Token, Running: in.runs()}, w.now)
		return
	}
	if current {
		in.running.ref, in.fence, in.trying = o.ref, o.ref.Token.Generation, nil
		w.table.Report(in.key, fleet.Report{Phase: phase.Applied, Desired: o.ref.Token, Running: o.ref}, w.now)
		return
	}
	k := in.offerKey(o)
	// A change of the proven lines since the last offer of this content is no second offer (semantics.md 6).
	if w.offered[k] > 0 && in.sent[hash] == o.key {
		panic("refused content offered again: " + k)
	}
	if in.sent == nil {
		in.sent, in.lived = map[manifest.Hash]string{}, map[manifest.Hash]int{}
	}
	in.sent[hash] = o.key
	in.inbox, in.trying = o, nil
	w.gave(in, o)
	w.table.Sent(in.key, w.now)
}

// gave notes that an instance has a config before it, in the agent's present life.
func (w *world) gave(in *agentd, o *offer) {
	in.lived[o.ref.Token.Hash] = o.life + 1
	w.given[fmt.Sprintf("%s|%s|%d", in.agent, o.ref.Config(), o.life)] = true
}

func (in *agentd) offerKey(o *offer) string {
	return fmt.Sprintf("%s|%s|%s|%s|%d.%d", in.id, in.version, o.ref.Token.Hash, o.key, o.life, in.disks)
}

// faults is what an instance finds wrong with a config: only in lines that it doesn't run.
func (w *world) faults(in *agentd, o *offer) (refuse, retry []phase.Fault) {
	content, prompt, fresh := "", "", false
	for _, l := range o.lines {
		carried := in.running != nil && slices.Contains(in.running.lines, l)
		text := l.Kind + "/" + l.Name + " " + l.Version
		switch l.Kind {
		case manifest.KindAgent:
			i := slices.IndexFunc(w.specs[in.agent], func(b []byte) bool { return manifest.Sum(b) == l.SHA256 })
			content = fmt.Sprint(in.agent, " ", i)
			text, fresh = content, fresh || !carried
			if !carried && w.rules.spec[content] {
				refuse = append(refuse, invalid(l.Resource()))
			}
		case manifest.KindPrompt:
			prompt, fresh = l.Version, fresh || !carried
		case manifest.KindPolicy:
			text = l.Kind + "/" + l.Name + " " + l.SHA256.String()
		case manifest.KindMCP:
			if !carried && !o.proven[l.Resource()] && w.rules.down[l.Name] {
				retry = append(retry, unreachable(l.Resource()))
			}
		}
		if !carried && (w.rules.line[text] || w.rules.odd[in.id] == text) {
			refuse = append(refuse, invalid(l.Resource()))
		}
	}
	if fresh && w.rules.pair[content+"|"+prompt] {
		refuse = append(refuse, invalid("agent/"+in.agent))
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
	if o.ref.Token.Generation < in.fence {
		w.report(in, o, phase.Fenced, nil)
		return
	}
	refuse, retry := w.faults(in, o)
	switch {
	case len(refuse) > 0:
		w.refuse(in, o, refuse)
	case len(retry) > 0:
		in.trying = o
		w.report(in, o, phase.Received, retry)
	default:
		in.running, in.fence = o, o.ref.Token.Generation
		in.forget(o.ref.Token.Hash)
		w.report(in, o, phase.Applied, nil)
		w.note("%s applied %s", in.id, o.ref.Config())
	}
}

func (in *agentd) forget(h manifest.Hash) {
	in.memory = slices.DeleteFunc(in.memory, func(r fleet.Refusal) bool { return r.Token.Hash == h })
}

func (w *world) refuse(in *agentd, o *offer, faults []phase.Fault) {
	in.trying = nil
	w.offered[in.offerKey(o)]++
	in.forget(o.ref.Token.Hash)
	in.memory = append(in.memory, fleet.Refusal{Token: o.ref.Token, Version: in.version, Faults: faults})
	if len(in.memory) > 8 {
		for k := range w.offered { // what it has forgotten may be offered again
			if strings.HasPrefix(k, in.id+"|") && strings.Contains(k, in.memory[0].Token.Hash.String()) {
				delete(w.offered, k)
			}
		}
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

// drop is Command {drop}.
func (w *world) drop(agent string, d release.Drop) {
	for _, in := range w.instances {
		if in.agent == agent && in.id == d.Instance && in.conn && in.trying != nil && in.trying.ref.Token.Hash == d.Hash {
			_, retry := w.faults(in, in.trying)
			if len(retry) == 0 { // the server came back just now
				retry = []phase.Fault{unreachable("mcp/m")}
			}
			w.refuse(in, in.trying, retry)
		}
	}
}

func unreachable(resource string) phase.Fault {
	return phase.Fault{Resource: resource, Code: phase.Unreachable, Severity: phase.Error, Retryable: true}
}

func invalid(resource string) phase.Fault {
	return phase.Fault{Resource: resource, Code: phase.Invalid, Severity: phase.Error}
}

// connect opens a stream to a replica, which waits until it isn't behind the instance.
func (w *world) connect(in *agentd, replica int) {
	if in.conn {
		return
	}
	if in.fence > w.views[replica].rev {
		w.views[replica] = w.store
	}
	in.up, in.conn, in.replica, in.trying = true, true, replica, nil // the stream's own offer takes its place
	h := fleet.Hello{
		ID: snapshot.InstanceID{Namespace: "d", Agent: in.agent, Instance: in.id}, Version: in.version,
		Running: in.runs(), Refusals: slices.Clone(in.memory),
	}
	if in.running != nil {
		h.Phase, h.Running.Revision = phase.Applied, w.known(in)
	}
	in.key = w.table.Hello(h, w.now).Key
	w.note("%s connects to replica %d with %s", in.id, replica, h.Running.Config())
}

// known is what a replica knows of the revision that an instance runs.
func (w *world) known(in *agentd) int64 {
	for _, c := range w.views[in.replica].applied[in.agent] {
		if c.Hash == in.running.ref.Token.Hash {
			return c.Revision
		}
	}
	return -1
}

func (w *world) disconnect(in *agentd, how fleet.Departure) {
	if in.conn {
		w.table.Leave(in.key, how, w.now)
		in.conn, in.inbox = false, nil
		w.note("%s disconnects", in.id)
	}
}

// restart is a new process of the instance: it keeps what is on its disk.
func (w *world) restart(in *agentd, replica int) {
	w.disconnect(in, fleet.Lost)
	in.inbox, in.trying = nil, nil
	w.connect(in, replica)
}

// reboot is a new control plane: what it held in memory is gone.
func (w *world) reboot() {
	w.note("the control plane restarts")
	for _, in := range w.instances {
		in.conn, in.inbox = false, nil
	}
	w.table, _ = fleet.New(fleet.Config{Started: w.now, Greeted: true})
	w.memo = memo{agents: map[view.AgentKey]*agentMemo{}}
	for i := range w.views {
		w.views[i] = w.store
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
