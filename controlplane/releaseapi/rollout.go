package releaseapi

import (
	"math"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
)

// standing tells how a release stands that is worth telling: one is open, or something is held. nil: none.
func (s *Service) standing(namespace string, head view.AgentHead, now time.Time) *release.Progress {
	st := head.State
	if head.Deleted || st.Candidate == nil && st.Hold == nil && st.Pin == nil && len(st.Vetoes) == 0 {
		return nil // the usual case, which costs nothing
	}
	p, ok := s.cfg.Progress(namespace, head.Name, now)
	if !ok || p.Stand == release.StandSettled && p.Pin == "" && len(p.Vetoes) == 0 {
		return nil
	}
	return &p
}

// held reports whether a pin or a veto counts.
func (*Service) held(p *release.Progress) bool {
	return p != nil && (p.Pin != "" || len(p.Vetoes) > 0)
}

// Rollout gives how an agent's release stands; errs.NotFound where there is no such agent.
func (s *Service) Rollout(namespace, agent string) (*releasev1.Rollout, error) {
	head, _, ok := s.cfg.View.Agent(namespace, agent)
	now := s.cfg.Now()
	var p release.Progress
	if ok = ok && head.Name == agent && !head.Deleted; ok {
		p, ok = s.cfg.Progress(namespace, agent, now)
	}
	if !ok {
		return nil, access.Missing(agentOf(namespace, agent))
	}
	out := &releasev1.Rollout{
		Agent: head.Name, Namespace: namespace, Condition: string(s.Condition(namespace, agent)), State: p.Stand, Release: p.Release,
		From: p.From, To: p.To, OnReject: p.OnReject, Served: p.Served, Pin: p.Pin, Retryable: p.Retryable,
		Instances: count(p.Live), Settled: count(p.Settled), LastRefusal: wireRefusal(head.State.LastRefusal), Line: withBroken(p.Line(now), s.broken(namespace, head)),
	}
	if p.Stand != release.StandSettled {
		out.Since = stamp(p.Since)
	}
	if p.Stand == release.StandProgressing {
		out.Deadline = durationpb.New(p.Deadline)
		out.Retryable = 0 // not while a candidate is open
	}
	for _, v := range p.Vetoes {
		out.Vetoes = append(out.Vetoes, &releasev1.Veto{Head: v.Resource(), Refused: v.Refused, Use: v.Use})
	}
	return out, nil
}

func wireRefusal(r *release.LastRefusal) *releasev1.LastRefusal {
	if r == nil {
		return nil
	}
	return &releasev1.LastRefusal{
		Revision: r.Revision, Config: r.Config, Instance: r.Instance, Faults: wireFaults(r.Faults), At: stamp(r.At),
		Action: r.Action, RolledBackTo: r.RolledBackTo,
	}
}

func count(n int) int32 { return int32(min(n, math.MaxInt32)) } //nolint:gosec // bounded here
