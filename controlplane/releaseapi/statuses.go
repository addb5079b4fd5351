package releaseapi

import (
	"context"
	"crypto/sha256"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

const (
	// refresh is how often a status is looked at again that time alone may change: of an agent whose instances aren't all
	// where they should be.
	refresh = time.Second
	// sweep is how many refreshes pass between looks at every agent with instances: their counters announce nothing.
	sweep = 5
	// statusPage is how many agents are read from the view at once.
	statusPage = 500
)

// Statuses gives the status of every agent of a namespace ("": all) in name order.
func (s *Service) Statuses(namespace string) []*releasev1.AgentStatus {
	var out []*releasev1.AgentStatus
	_ = s.eachAgent(namespace, func(namespace string, head view.AgentHead) error {
		if st := s.status(namespace, head); shown(st) {
			out = append(out, st)
		}
		return nil
	})
	return out
}

// shown reports whether an agent is listed: it isn't deleted, or is and still has instances.
func shown(st *releasev1.AgentStatus) bool {
	return st.GetCondition() != string(phase.CondDeleted) || len(st.GetInstances()) > 0
}

// eachAgent reads the agents of a namespace a page at a time, in name order.
func (s *Service) eachAgent(namespace string, f func(namespace string, head view.AgentHead) error) error {
	page := view.Page{Namespace: namespace, Limit: statusPage}
	for {
		entries := s.cfg.View.AgentPage(page)
		for _, e := range entries {
			if err := f(e.Namespace, e.Head); err != nil {
				return err
			}
		}
		if len(entries) < statusPage {
			return nil
		}
		last := entries[len(entries)-1]
		page.AfterNamespace, page.AfterName = last.Namespace, last.Head.Name
	}
}

// WatchStatus sends the present status of one agent, or of all, and then every change. Only the newest status of an
// agent is kept for a slow reader. A change costs the agents that it touches.
func (s *Service) WatchStatus(ctx context.Context, req *connect.Request[releasev1.WatchStatusRequest], stream *connect.ServerStream[releasev1.WatchStatusResponse]) error {
	w := statusWatch{
		svc: s, namespace: namespaceOf(req.Msg.GetNamespace()), agent: req.Msg.GetAgent(), sent: map[view.AgentKey]*sentStatus{},
		visible: func(namespace, agent string) bool { return s.visible(ctx, namespace, agent) },
		send:    func(st *releasev1.AgentStatus) error { return stream.Send(&releasev1.WatchStatusResponse{Status: st}) },
	}
	changes := s.cfg.View.Subscribe()
	defer changes.Close()
	reports := s.cfg.Fleet.Subscribe()
	defer reports.Close()
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	if err := stream.Send(nil); err != nil { // the headers: the caller knows that it is being served
		return err
	}
	if err := w.all(); err != nil {
		return err
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-changes.C:
			touched, _ := changes.Take()
			err = w.look(touched)
		case <-reports.C:
			var touched []view.AgentKey
			for _, k := range reports.Take() {
				touched = append(touched, view.AgentKey(k))
			}
			err = w.look(touched)
		case <-tick.C:
			err = w.tick()
		}
		if err != nil {
			return err
		}
	}
}

// statusWatch is one WatchStatus under way.
type statusWatch struct {
	svc       *Service
	namespace string
	agent     string // "": all
	sent      map[view.AgentKey]*sentStatus
	send      func(*releasev1.AgentStatus) error
	visible   func(namespace, agent string) bool
	complete  bool
	ticks     int
}

// sentStatus is what must be known of a status that was sent.
type sentStatus struct {
	digest    [sha256.Size]byte
	instances bool
	unsettled bool // time alone may change it
}

// all looks at every agent that the watch is about.
func (w *statusWatch) all() error {
	w.complete = w.svc.FleetComplete()
	if w.agent != "" {
		return w.one(view.AgentKey{Namespace: w.namespace, Name: w.agent})
	}
	return w.svc.eachAgent(w.namespace, w.status)
}

func (w *statusWatch) look(keys []view.AgentKey) error {
	for _, k := range keys {
		if err := w.one(k); err != nil {
			return err
		}
	}
	return nil
}

func (w *statusWatch) one(k view.AgentKey) error {
	if k.Namespace != w.namespace || (w.agent != "" && k.Name != w.agent) {
		return nil
	}
	head, _, ok := w.svc.cfg.View.Agent(k.Namespace, k.Name)
	if !ok || head.Name != k.Name {
		return nil
	}
	return w.status(k.Namespace, head)
}

// status sends an agent's status if it differs from the one sent. A deletion is told to who saw the agent; what the caller may not see
// any more is gone for it in the same way.
func (w *statusWatch) status(namespace string, head view.AgentHead) error {
	k := view.AgentKey{Namespace: namespace, Name: head.Name}
	was := w.sent[k]
	if !w.visible(namespace, head.Name) {
		if was == nil {
			return nil
		}
		delete(w.sent, k)
		return w.send(&releasev1.AgentStatus{Namespace: namespace, Agent: head.Name, Condition: string(phase.CondDeleted), FleetComplete: w.complete})
	}
	st := w.svc.status(namespace, head)
	if !shown(st) {
		if was == nil {
			return nil
		}
		delete(w.sent, k)
		return w.send(st)
	}
	now, err := sentOf(st)
	if err != nil {
		return err
	}
	w.sent[k] = now
	if was != nil && was.digest == now.digest {
		return nil
	}
	return w.send(st)
}

// tick looks at what nobody announces.
func (w *statusWatch) tick() error {
	w.ticks++
	if w.complete != w.svc.FleetComplete() {
		return w.all()
	}
	var again []view.AgentKey
	for k, st := range w.sent {
		if st.unsettled || (st.instances && w.ticks%sweep == 0) {
			again = append(again, k)
		}
	}
	return w.look(again)
}

// sentOf digests a status without its instances' ages, which always differ.
func sentOf(st *releasev1.AgentStatus) (*sentStatus, error) {
	out := &sentStatus{instances: len(st.GetInstances()) > 0}
	ages := make([]*durationpb.Duration, len(st.GetInstances()))
	for i, in := range st.GetInstances() {
		ages[i], in.Age = in.GetAge(), nil
		settled := in.GetPhase() == string(phase.Applied) && len(in.GetFaults()) == 0 && in.GetDesired().GetHash() == in.GetRunning().GetHash()
		out.unsettled = out.unsettled || !settled
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(st)
	for i, in := range st.GetInstances() {
		in.Age = ages[i]
	}
	if err != nil {
		return nil, errs.New(errs.Internal, "digest a status: %w", err)
	}
	out.digest = sha256.Sum256(b)
	return out, nil
}
