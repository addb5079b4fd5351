package releaseapi

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
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
)

// Watch turns changes of the fleet and of agents' heads into events until ctx ends. What was there at its start makes none.
func (s *Service) Watch(ctx context.Context) error {
	heads := s.cfg.View.Subscribe()
	defer heads.Close()
	instances := s.cfg.Fleet.Subscribe()
	defer instances.Close()
	w := watcher{svc: s, seen: map[fleet.AgentKey]map[string]fleet.Instance{}, moves: map[view.AgentKey]lastMove{}}
	_ = s.eachAgent("", func(namespace string, head view.AgentHead) error {
		w.moves[view.AgentKey{Namespace: namespace, Name: head.Name}] = lastMoveOf(head.State)
		return nil
	})
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-instances.C:
			for _, k := range instances.Take() {
				w.instances(k)
			}
		case <-heads.C:
			keys, _ := heads.Take()
			for _, k := range keys {
				w.head(k)
			}
		}
	}
}

type watcher struct {
	svc   *Service
	seen  map[fleet.AgentKey]map[string]fleet.Instance // agents in lower case
	moves map[view.AgentKey]lastMove
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

func (w *watcher) instances(k fleet.AgentKey) {
	key := fleet.AgentKey{Namespace: k.Namespace, Name: strings.ToLower(k.Name)}
	now := map[string]fleet.Instance{}
	for _, i := range w.svc.cfg.Fleet.Agent(k.Namespace, k.Name) {
		now[i.ID.Instance] = i
		was, known := w.seen[key][i.ID.Instance]
		w.connection(i, was, known)
		w.oddities(i, was)
		if i.Phase != was.Phase || i.Running.Token.Hash != was.Running.Token.Hash {
			w.phase(i)
		}
	}
	for id, was := range w.seen[key] {
		if _, there := now[id]; !there {
			w.add(was, EventGone, "the instance ended", was.Running.Config())
		}
	}
	w.seen[key] = now
	if len(now) == 0 {
		delete(w.seen, key)
	}
}

func (w *watcher) connection(i, was fleet.Instance, known bool) {
	switch {
	case i.Connected && (!known || !was.Connected):
		w.add(i, EventConnected, "agentd "+i.Version, i.Running.Config())
	case !i.Connected && known && was.Connected:
		w.add(i, EventDisconnected, "its stream ended", i.Running.Config())
	}
}

// duplicates is how many takeovers of an id in a minute make an event.
const duplicates = 3

// oddities tells of an id that is used twice and of an instance that ran something else than it acknowledged.
func (w *watcher) oddities(i, was fleet.Instance) {
	if i.Takeovers >= duplicates && was.Takeovers < duplicates {
		w.add(i, EventDuplicate, "its id is used by several processes, and the newest stream wins: give each its own state directory or AGENTD_INSTANCE_ID",
			i.Running.Config())
	}
	if i.Drifts > was.Drifts {
		w.add(i, EventDrift, "it was found running something else than it acknowledged; its config was offered again", i.Running.Config())
	}
}

func (w *watcher) phase(i fleet.Instance) {
	switch i.Phase {
	case phase.Applied:
		w.add(i, EventApplied, "serves "+i.Running.Config(), i.Running.Config())
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
