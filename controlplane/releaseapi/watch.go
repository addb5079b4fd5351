package releaseapi

import (
	"context"
	"fmt"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// The types of events that Watch makes. Others come from who adds to the Ring.
const (
	EventConnected    = "connected"
	EventDisconnected = "disconnected"
	EventApplied      = "applied"
	EventDegraded     = "degraded"
	EventRetrying     = "retrying"
	EventRefused      = "refused"
	EventStale        = "stale"
	EventOffline      = "offline"
	EventGone         = "gone"
	EventDuplicate    = "duplicate"
	EventDrift        = "drift"
	EventPromoted     = "promoted"
	EventRolledBack   = "rolled_back"
	EventHeld         = "held"
	// EventRestored is of no agent: the whole store began a new epoch.
	EventRestored = "restored"
)

// Watch turns changes of the fleet and of agents' heads into events until ctx ends. What was there at its start makes none.
func (s *Service) Watch(ctx context.Context) error {
	heads := s.cfg.View.Subscribe()
	defer heads.Close()
	instances := s.cfg.Fleet.Subscribe()
	defer instances.Close()
	w := watcher{svc: s, seen: map[fleet.AgentKey]*seen{}, moves: map[view.AgentKey]lastMove{}, era: s.cfg.View.Era()}
	_ = s.eachAgent("", func(namespace string, head view.AgentHead) error {
		w.moves[view.AgentKey{Namespace: namespace, Name: head.Name}] = lastMoveOf(head.State)
		return nil
	})
	rest := time.NewTimer(0)
	defer rest.Stop()
	ready := instances.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
			ready = instances.C
		case <-ready:
			n := 0
			for _, k := range instances.Take() {
				n += w.instances(k)
			}
			if n >= many {
				ready = nil
				rest.Reset(watchRest)
			}
		case <-heads.C:
			keys, _ := heads.Take()
			w.heads(keys)
		}
	}
}

// After a look that found many changed instances the next one waits: while thousands answer one change, the fleet isn't read for
// every answer.
const (
	many      = 20
	watchRest = 50 * time.Millisecond
)

// hearsay is how long it takes at most until a replica hears from another what happened there.
const hearsay = 5 * time.Second

type watcher struct {
	svc  *Service
	seen map[fleet.AgentKey]*seen
	// buffer is used again by every look.
	buffer []fleet.Instance
	moves  map[view.AgentKey]lastMove
	era    view.Era // in which moves are news
	// named is the config that was named last, config its name and serves what an instance is said to do: thousands serve the same.
	named          fleet.Ref
	config, serves string
}

// lastMove is what must be known of a head to tell its next move.
type lastMove struct {
	move    release.Move
	at      time.Time
	desired int64
}

func lastMoveOf(s release.State) lastMove {
	return lastMove{move: s.LastMove, at: s.LastMoveAt, desired: s.Desired()}
}

// seen is the instances of one agent as they were when last looked at.
type seen struct {
	stamp     uint64 // see fleet.Table.AppendChanged
	instances glances
}

// glance is what later looks at an instance are compared with.
type glance struct {
	id        snapshot.InstanceID
	connected bool
	phase     phase.Phase
	running   fleet.Ref
	takeovers uint32
	drifts    uint32
	refused   map[manifest.Hash][]phase.Fault
}

// instances tells what happened to an agent's instances and gives how many it looked at.
func (w *watcher) instances(k fleet.AgentKey) int {
	s := w.seen[k]
	if s == nil {
		s = &seen{}
		w.seen[k] = s
	}
	changed, all, stamp := w.svc.cfg.Fleet.AppendChanged(w.buffer[:0], k.Namespace, k.Name, s.stamp)
	w.buffer = changed
	s.stamp = stamp
	for _, i := range changed {
		was, known := s.instances.of(i.ID.Instance)
		if !known && w.longThere(i) {
			was, known = glance{connected: i.Connected, phase: i.Phase, running: i.Running, takeovers: i.Takeovers, drifts: i.Drifts, refused: i.Refused}, true
		}
		s.instances.set(glance{
			id: i.ID, connected: i.Connected, phase: i.Phase, running: i.Running, takeovers: i.Takeovers, drifts: i.Drifts,
			refused: i.Refused,
		})
		w.connection(i, was, known)
		w.oddities(i, was)
		if i.Phase != was.phase || i.Running.Token.Hash != was.running.Token.Hash {
			w.phase(i)
		}
		if known {
			w.refusals(i, was)
		}
	}
	if s.instances.len() > all {
		w.gone(k, s)
	}
	if s.instances.len() == 0 {
		delete(w.seen, k)
	}
	return len(changed)
}

// longThere reports whether another replica told of an instance that was there before this one heard that replica: nothing happened now.
func (w *watcher) longThere(i fleet.Instance) bool {
	return i.Replica != w.svc.cfg.Info.ReplicaID && w.svc.cfg.Now().Sub(i.Since) > hearsay
}

// refusals tells of those that were over before this look: the policy may have taken a config back within milliseconds.
func (w *watcher) refusals(i fleet.Instance, was glance) {
	for h, faults := range i.Refused {
		if _, told := was.refused[h]; told || i.Phase == phase.Rejected && i.Desired.Token.Hash == h {
			continue
		}
		config := fleet.Ref{Token: manifest.Token{Hash: h}, Revision: -1}.Config()
		w.add(i, EventRefused, "refused "+config+faultText(faults), config)
	}
}

// gone tells of the instances that the fleet has forgotten.
func (w *watcher) gone(k fleet.AgentKey, s *seen) {
	there := map[string]bool{}
	for _, i := range w.svc.cfg.Fleet.Agent(k.Namespace, k.Name) {
		there[i.ID.Instance] = true
	}
	for _, was := range s.instances.without(there) {
		w.add(fleet.Instance{ID: was.id}, EventGone, "the instance ended", was.running.Config())
	}
}

func (w *watcher) connection(i fleet.Instance, was glance, known bool) {
	switch {
	case i.Connected && (!known || !was.connected):
		w.add(i, EventConnected, "agentd "+i.Version, i.Running.Config())
	case !i.Connected && known && was.connected:
		w.add(i, EventDisconnected, "its stream ended", i.Running.Config())
	}
}

// duplicates is how many takeovers of an id in a minute make an event.
const duplicates = 3

// oddities tells of an id that is used twice and of an instance that ran something else than it acknowledged.
func (w *watcher) oddities(i fleet.Instance, was glance) {
	if i.Takeovers >= duplicates && was.takeovers < duplicates {
		w.add(i, EventDuplicate, "its id is used by several processes, and the newest stream wins: give each its own state directory or AGENTD_INSTANCE_ID",
			i.Running.Config())
	}
	if i.Drifts > was.drifts {
		w.add(i, EventDrift, "it was found running something else than it acknowledged; its config was offered again", i.Running.Config())
	}
}

func (w *watcher) phase(i fleet.Instance) {
	switch i.Phase {
	case phase.Applied:
		if w.serves == "" || w.named != i.Running {
			w.named, w.config = i.Running, i.Running.Config()
			w.serves = "serves " + w.config
		}
		w.add(i, EventApplied, w.serves, w.config)
	case phase.Degraded:
		w.add(i, EventDegraded, "serves "+i.Running.Config()+faultText(i.Faults), i.Running.Config())
	case phase.Received:
		if len(i.Faults) > 0 {
			w.add(i, EventRetrying, "retries "+i.Desired.Config()+faultText(i.Faults), i.Desired.Config())
		}
	case phase.Rejected:
		w.add(i, EventRefused, "refused "+i.Desired.Config()+faultText(i.Faults), i.Desired.Config())
	case phase.Stale:
		w.add(i, EventStale, "no word from it", i.Running.Config())
	case phase.Offline:
		w.add(i, EventOffline, "its lease ended", i.Running.Config())
	default: // on the way
	}
}

func faultText(faults []phase.Fault) string {
	for _, f := range faults {
		if f.Severity == phase.Error {
			return fmt.Sprintf(": %s %s: %s", f.Resource, f.Code, f.Message)
		}
	}
	return ""
}

func (w *watcher) add(i fleet.Instance, kind, message, config string) {
	w.svc.cfg.Events.Add(Event{
		Namespace: i.ID.Namespace, Agent: i.ID.Agent, Instance: i.ID.Instance, Type: kind, Message: message, Config: config,
	})
}

// heads tells of heads that moved. What a restore brings back are old moves, and no news.
func (w *watcher) heads(keys []view.AgentKey) {
	era := w.svc.cfg.View.Era()
	for _, k := range keys {
		if era == w.era {
			w.head(k)
		} else if head, _, ok := w.svc.cfg.View.Agent(k.Namespace, k.Name); ok {
			w.moves[k] = lastMoveOf(head.State)
		}
	}
	if era.Whole() {
		w.era = era
	}
}

// head tells of the moves that the policy made; those of persons are told by who asked for them.
func (w *watcher) head(k view.AgentKey) {
	head, _, ok := w.svc.cfg.View.Agent(k.Namespace, k.Name)
	if !ok {
		return
	}
	was := w.moves[k]
	now := head.State
	w.moves[k] = lastMoveOf(now)
	if now.LastMove == was.move && now.LastMoveAt.Equal(was.at) {
		return
	}
	e := Event{Namespace: k.Namespace, Agent: head.Name}
	switch now.LastMove {
	case release.MovePromote:
		e.Type, e.Message = EventPromoted, fmt.Sprintf("revision %d is stable", now.Stable)
	case release.MoveReturn:
		e.Type, e.Message = EventRolledBack, fmt.Sprintf("revision %d was refused, back to %d", was.desired, now.Stable)
	case release.MoveHold:
		e.Type, e.Message = EventHeld, fmt.Sprintf("revision %d was refused and is held", was.desired)
	default:
		return
	}
	if now.LastRefusal != nil {
		e.Instance, e.Config = now.LastRefusal.Instance, now.LastRefusal.Config
	}
	w.svc.cfg.Events.Add(e)
}
