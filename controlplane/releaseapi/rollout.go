package releaseapi

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

// How a release stands (Rollout.state).
const (
	rolloutProgressing = "progressing"
	rolloutHeld        = "held"
	rolloutSettled     = "settled"
)

// Rollout gives how an agent's release stands; errs.NotFound where there is no such agent.
func (s *Service) Rollout(namespace, agent string) (*releasev1.Rollout, error) {
	head, _, ok := s.cfg.View.Agent(namespace, agent)
	if !ok || head.Name != agent || head.Deleted {
		return nil, errs.New(errs.NotFound, "agent %s doesn't exist in namespace %s", agent, namespace)
	}
	status, st := s.status(namespace, head), head.State
	out := &releasev1.Rollout{
		Agent: head.Name, Namespace: namespace, Condition: status.GetCondition(), State: rolloutSettled,
		From: st.Stable, To: st.Stable, Retryable: st.Retryable(), LastRefusal: status.GetLastRefusal(),
	}
	switch {
	case st.Candidate != nil:
		c := st.Candidate
		out.State, out.Release, out.To, out.Since, out.OnReject = rolloutProgressing, c.Release, c.Revision, stamp(c.Since), c.OnReject
		out.Deadline = durationpb.New(time.Duration(c.Deadline) * time.Millisecond)
		out.Retryable = 0 // not while a candidate is open
	case st.Hold != nil:
		h := st.Hold
		out.State, out.Release, out.To, out.Since, out.Served = rolloutHeld, h.Release, h.Revision, stamp(h.Since), h.Served
	}
	if st.Pin != nil {
		out.Pin = st.Pin.Config()
	}
	for _, v := range st.Vetoes {
		out.Vetoes = append(out.Vetoes, &releasev1.Veto{Head: v.Resource(), Refused: v.Refused, Use: v.Use})
	}
	for _, i := range status.GetInstances() {
		if phase.Phase(i.GetPhase()) == phase.Offline {
			continue
		}
		out.Instances++
		if i.GetDesired().GetHash() != "" && i.GetDesired().GetHash() == i.GetRunning().GetHash() {
			out.Settled++
		}
	}
	out.Line = rolloutLine(head, out)
	return out, nil
}

// rolloutLine says all of it in one line.
func rolloutLine(head view.AgentHead, r *releasev1.Rollout) string {
	var parts []string
	switch line := releaseLine(head); {
	case line != "":
		parts = append(parts, line)
	case r.GetTo() == 0:
		parts = append(parts, "nothing is stable yet")
	default:
		parts = append(parts, fmt.Sprintf("revision %d is stable", r.GetTo()))
	}
	parts = append(parts, fmt.Sprintf("%d of %d instances on it", r.GetSettled(), r.GetInstances()))
	if r.GetPin() != "" {
		parts = append(parts, "pinned to "+r.GetPin())
	}
	for _, v := range head.State.Vetoes {
		parts = append(parts, vetoText(v))
	}
	return strings.Join(parts, "; ")
}

func vetoText(v release.Veto) string {
	return fmt.Sprintf("%s held at %s (%s refused)", v.Resource(), v.Use, strings.Join(v.Refused, ", "))
}
