// Package releaseapi is the service that tells what became of every change: the status of agents and their instances, and
// recent events. The people door mounts it; agentctl, the Studio and the debug page read it. It writes nothing.
package releaseapi

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// Info is what Info answers beside what changes.
type Info struct {
	ReplicaID      string
	Version        string
	RuntimeAddress string
	// Insecure: the people door is without TLS, and so on the loopback only. The runtime door never is.
	Insecure bool
}

// Config is what a Service needs; everything is required.
type Config struct {
	View  *view.View
	Fleet *fleet.Table
	// Desired gives the config that an agent is meant to run now; an error where it doesn't resolve.
	Desired func(namespace, agent string) (fleet.Ref, error)
	// Note gives the reason why a config that instances of an agent ask for can't be built; "" if it can. nil: never one.
	Note func(namespace, agent string) string
	// Progress tells how an agent's release stands; false where there is no such agent.
	Progress func(namespace, agent string, now time.Time) (release.Progress, bool)
	Events   *Ring
	Now      func() time.Time
	Info     Info
}

// Service implements agentry.release.v1.StatusService. It is safe for concurrent use.
type Service struct {
	releasev1connect.UnimplementedStatusServiceHandler

	cfg     Config
	desired *desired
}

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.View == nil || cfg.Fleet == nil || cfg.Desired == nil || cfg.Progress == nil || cfg.Events == nil || cfg.Now == nil {
		return nil, errs.New(errs.Invalid, "releaseapi: something required is missing")
	}
	if cfg.Note == nil {
		cfg.Note = func(string, string) string { return "" }
	}
	return &Service{cfg: cfg, desired: newDesired(cfg)}, nil
}

// Condition gives an agent's condition: the first that holds (semantics.md 15).
func (s *Service) Condition(namespace, agent string) phase.Condition {
	head, _, ok := s.cfg.View.Agent(namespace, agent)
	if !ok {
		return ""
	}
	now := s.cfg.Now()
	instances := s.cfg.Fleet.Agent(namespace, agent)
	return condition(head, instances, s.had(namespace, head), s.cfg.Fleet.Complete(now), s.held(s.standing(namespace, head, now)), s.broken(namespace, head) != nil)
}

// FleetComplete reports whether every instance that may be alive is known.
func (s *Service) FleetComplete() bool { return s.cfg.Fleet.Complete(s.cfg.Now()) }

// had reports whether the agent, as it is since its creation, ever had an instance that served it.
func (s *Service) had(_ string, head view.AgentHead) bool {
	return head.State.Proven != 0
}

// GetStatus answers one agent.
func (s *Service) GetStatus(_ context.Context, req *connect.Request[releasev1.GetStatusRequest]) (*connect.Response[releasev1.GetStatusResponse], error) {
	namespace := namespaceOf(req.Msg.GetNamespace())
	head, _, ok := s.cfg.View.Agent(namespace, req.Msg.GetAgent())
	if !ok || head.Name != req.Msg.GetAgent() {
		return nil, access.Missing(agentOf(namespace, req.Msg.GetAgent()))
	}
	return connect.NewResponse(&releasev1.GetStatusResponse{Status: s.status(namespace, head)}), nil
}

// ListStatus answers all agents that the caller may see and that aren't deleted, or are and still have instances.
func (s *Service) ListStatus(ctx context.Context, req *connect.Request[releasev1.ListStatusRequest]) (*connect.Response[releasev1.ListStatusResponse], error) {
	namespace := namespaceOf(req.Msg.GetNamespace())
	if req.Msg.GetAllNamespaces() {
		namespace = ""
	}
	resp := &releasev1.ListStatusResponse{}
	err := s.eachAgent(namespace, s.visibleOnly(ctx, func(namespace string, head view.AgentHead) error {
		if st := s.status(namespace, head); shown(st) {
			resp.Statuses = append(resp.Statuses, st)
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// WatchEvents sends the events held in memory of the agents that the caller may see, then new ones if follow is set.
func (s *Service) WatchEvents(ctx context.Context, req *connect.Request[releasev1.WatchEventsRequest], stream *connect.ServerStream[releasev1.WatchEventsResponse]) error {
	m := req.Msg
	namespace, seq := namespaceOf(m.GetNamespace()), m.GetSinceSeq()
	if err := stream.Send(nil); err != nil { // the headers: the caller knows that it is being served
		return err
	}
	for {
		events, changed := s.cfg.Events.Since(seq)
		for _, e := range events {
			seq = e.Seq
			ofAll := e.Type == EventRestored // everybody's
			if !ofAll && (e.Namespace != namespace || (m.GetAgent() != "" && e.Agent != m.GetAgent()) || !s.visible(ctx, e.Namespace, e.Agent)) {
				continue
			}
			if err := stream.Send(&releasev1.WatchEventsResponse{Event: wireEvent(e)}); err != nil {
				return err
			}
		}
		if !m.GetFollow() {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// Info tells what this control plane is.
func (s *Service) Info(context.Context, *connect.Request[releasev1.InfoRequest]) (*connect.Response[releasev1.InfoResponse], error) {
	c := s.cfg.View.Cluster()
	return connect.NewResponse(&releasev1.InfoResponse{
		ClusterId: c.ID, Epoch: c.Epoch, ReplicaId: s.cfg.Info.ReplicaID, ViewRevision: s.cfg.View.Revision(),
		FleetComplete: s.cfg.Fleet.Complete(s.cfg.Now()), Version: s.cfg.Info.Version, RuntimeAddress: s.cfg.Info.RuntimeAddress,
		Insecure: s.cfg.Info.Insecure,
	}), nil
}

func namespaceOf(given string) string {
	if given == "" {
		return "default"
	}
	return given
}

var _ releasev1connect.StatusServiceHandler = (*Service)(nil)
