package releaseapi

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/phase"
)

// condition gives the first that holds (semantics.md 15). While the fleet isn't complete, "no instance at all" is not
// concluded (11). held: a pin or a veto counts.
func condition(head view.AgentHead, instances []fleet.Instance, had, complete, held, broken bool) phase.Condition {
	live := 0
	degraded := broken // counts where an instance is live
	for _, i := range instances {
		if i.Phase == phase.Offline {
			continue
		}
		live++
		behind := i.Running.Token.Hash != i.Desired.Token.Hash
		degraded = degraded || behind || i.Phase == phase.Degraded
	}
	st := head.State
	switch {
	case head.Deleted:
		return phase.CondDeleted
	case live == 0 && complete && (had || len(instances) > 0):
		return phase.CondOffline
	case st.Hold != nil:
		return phase.CondRejected
	case held:
		return phase.CondHeld
	case st.Candidate != nil:
		return phase.CondProgressing
	case degraded && (live > 0 || !broken):
		return phase.CondDegraded
	case st.Unproven:
		return phase.CondUnproven
	default:
		return phase.CondSynced
	}
}

func (s *Service) status(namespace string, head view.AgentHead) *releasev1.AgentStatus {
	now := s.cfg.Now()
	instances := s.cfg.Fleet.Agent(namespace, head.Name)
	complete := s.cfg.Fleet.Complete(now)
	stand := s.standing(namespace, head, now)
	broken := s.broken(namespace, head)
	out := &releasev1.AgentStatus{
		Agent: head.Name, Namespace: namespace, Condition: string(condition(head, instances, s.had(namespace, head), complete, s.held(stand), broken != nil)),
		DesiredRevision: head.State.Desired(), StableRevision: head.State.Stable, FleetComplete: complete,
	}
	if stand != nil {
		out.Release = stand.Line(now)
	}
	out.Release = withBroken(out.Release, broken)
	if !head.Deleted {
		out.Config = s.desired.of(namespace, head.Name).config
	}
	out.LastRefusal = wireRefusal(head.State.LastRefusal)
	served := map[string]bool{} // configs that someone serves
	for _, i := range instances {
		if i.Phase.Serving() {
			served[i.Running.Token.Hash.String()] = true
		}
	}
	for _, i := range instances {
		w := wireInstance(i, now)
		w.Lagging = lagging(head, i, served, now)
		if broken != nil && i.Phase != phase.Offline {
			w.Faults = append(w.Faults, wireFaults([]phase.Fault{*broken})...)
		}
		out.Instances = append(out.Instances, w)
	}
	return out
}

// lagging reports whether an instance is silent past the deadline about a config that others serve.
func lagging(head view.AgentHead, i fleet.Instance, served map[string]bool, now time.Time) bool {
	if i.Desired.Token.IsZero() || i.Running.Token.Hash == i.Desired.Token.Hash || !served[i.Desired.Token.Hash.String()] || i.Offered.IsZero() {
		return false
	}
	deadline := time.Minute
	if c := head.State.Candidate; c != nil && c.Deadline > 0 {
		deadline = time.Duration(c.Deadline) * time.Millisecond
	}
	return now.Sub(i.Offered) > deadline
}

func wireInstance(i fleet.Instance, now time.Time) *releasev1.Instance {
	out := &releasev1.Instance{
		Id: i.ID.Instance, Phase: string(i.Phase), ConfigState: string(i.ConfigState), Desired: wireRef(i.Desired), Running: wireRef(i.Running),
		Faults: wireFaults(i.Faults), Since: stamp(i.Since), Age: durationpb.New(max(0, now.Sub(i.Seen))), AgentdVersion: i.Version, Labels: i.Labels,
		InFlight: i.InFlight, Requests: i.Requests, Errors: i.Errors, Drifts: i.Drifts, Takeovers: i.Takeovers,
	}
	if len(i.Endpoints) > 0 {
		out.Endpoint = i.Endpoints[0]
	}
	return out
}

func wireRef(r fleet.Ref) *releasev1.ConfigRef {
	if r.Token.IsZero() {
		return nil
	}
	return &releasev1.ConfigRef{
		Revision: r.Revision, Config: r.Config(), Epoch: r.Token.Epoch, Generation: r.Token.Generation, Hash: r.Token.Hash.String(),
	}
}

func wireFaults(faults []phase.Fault) []*releasev1.Fault {
	var out []*releasev1.Fault
	for _, f := range faults {
		out = append(out, &releasev1.Fault{
			Resource: f.Resource, Field: f.Field, Code: string(f.Code), Message: f.Message, Severity: string(f.Severity), Retryable: f.Retryable,
		})
	}
	return out
}

func wireEvent(e Event) *releasev1.Event {
	return &releasev1.Event{
		Seq: e.Seq, Time: stamp(e.Time), Namespace: e.Namespace, Agent: e.Agent, Instance: e.Instance, Type: e.Type, Message: e.Message, Config: e.Config,
	}
}

func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// withBroken adds to a release's line why the config can't be built.
func withBroken(line string, broken *phase.Fault) string {
	switch {
	case broken == nil:
		return line
	case line == "":
		return broken.Message
	default:
		return line + "; " + broken.Message
	}
}
