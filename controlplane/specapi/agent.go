package specapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"connectrpc.com/connect"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// stepped is what release.Step said about a person's request.
type stepped struct {
	own       bool // an own move: what instances get may have changed
	state     release.State
	moved     *release.Moved
	reset     bool
	unchanged bool
	refused   *release.Refuse
}

// step asks package release.
func step(head view.AgentHead, e release.Event) stepped {
	state, actions := release.Step(head.State, e)
	out := stepped{state: state, own: release.OwnMove(actions)}
	for _, a := range actions {
		switch a := a.(type) {
		case release.Refuse:
			out.refused = &a
		case release.Unchanged:
			out.unchanged = true
		case release.Moved:
			out.moved = &a
		case release.Reset:
			out.reset = true
		}
	}
	return out
}

// err gives a refusal as the error that it is at the door.
func (st stepped) err() error {
	if st.refused == nil {
		return nil
	}
	if st.refused.Why == release.NoSuchRevision {
		return errs.New(errs.NotFound, "%s", st.refused.Reason)
	}
	return errs.New(errs.Precondition, "%s", st.refused.Reason)
}

// moveAgent puts the head and the log entry of a step into a change.
func (s *Service) moveAgent(c *headwrite.Change, head view.AgentHead, mod int64, st stepped, who string) {
	if st.own {
		head = head.Moved(st.state)
	} else {
		head = head.Noted(st.state, mod)
	}
	head.Updated, head.UpdatedBy = s.now().UTC(), who
	if st.reset {
		head.ResetEpoch, head.ResetGeneration, head.ResetHere = s.view.Cluster().Epoch, 0, true
	}
	c.Put(kindAgent, head.Name, mod, view.Encode(head))
	if m := st.moved; m != nil {
		c.Move(view.HeadMove{
			Kind: kindAgent, Name: head.Name, Revision: m.Revision, From: number(m.From), To: number(m.To), Config: m.Config, Move: m.Move, Faults: m.Faults,
		})
	}
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// agentHead finds an agent that isn't deleted.
func (s *Service) agentHead(namespace, name string) (view.AgentHead, int64, error) {
	head, mod, ok := s.view.Agent(namespace, name)
	if !ok || head.Name != name || head.Deleted {
		return view.AgentHead{}, 0, notFound(kindAgent, namespace, name)
	}
	return head, mod, nil
}

func checkRevision(want *int64, name string, is int64) error {
	if want == nil || *want == is {
		return nil
	}
	return errs.New(errs.Conflict, "agent %s is at revision %d, not %d: read it again", name, is, *want)
}

// Rollback moves an agent back (semantics.md 1).
func (s *Service) Rollback(ctx context.Context, req *connect.Request[specv1.RollbackRequest]) (*connect.Response[specv1.RollbackResponse], error) {
	m := req.Msg
	namespace := namespaceOf(m.GetNamespace())
	wanted, digits, config := strings.Cut(m.GetTo(), "-")
	to, err := revisionOf(wanted)
	if err != nil {
		return nil, err
	}
	audit.From(ctx).Because(m.GetMessage())
	var resp *specv1.RollbackResponse
	rev, err := s.writer.Retrying(ctx, headwrite.Why{Actor: actor(ctx), Cause: "rollback", Message: m.GetMessage()}, func() (*headwrite.Change, error) {
		head, mod, err := s.agentHead(namespace, m.GetName())
		if err != nil {
			return nil, err
		}
		if err := checkRevision(m.CheckRevision, head.Name, head.State.Desired()); err != nil {
			return nil, err
		}
		e := release.Rollback{At: s.now().UTC(), To: to, Force: m.GetForce()}
		var notes []string
		if config {
			if e.Pin, notes, err = s.pin(namespace, head.Name, to, digits); err != nil {
				return nil, err
			}
		}
		st := step(head, e)
		if err := st.err(); err != nil {
			return nil, err
		}
		if err := s.bound(namespace, head, st.state.Desired(), e.Pin); err != nil {
			return nil, err
		}
		resp = &specv1.RollbackResponse{From: head.State.Desired(), To: st.state.Desired()}
		resp.Aborted = st.moved != nil && st.moved.Move == release.MoveAbort
		if !config {
			if notes, err = s.drift(namespace, head, st.state.Desired()); err != nil {
				return nil, err
			}
		}
		resp.Notes = notes
		c := headwrite.NewChange(namespace)
		if st.unchanged {
			resp.Notes = append(resp.Notes, fmt.Sprintf("revision %d is what counts already", resp.GetTo()))
		} else if !m.GetDryRun() {
			once.Answer(ctx, resp)
			s.moveAgent(c, head, mod, st, actor(ctx))
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	resp.StoreRevision = rev
	if rev > 0 {
		s.notify(Notice{
			Namespace: namespace, Agent: m.GetName(), Type: "rolled_back",
			Message: fmt.Sprintf("%s moved it from revision %d to %d", actor(ctx), resp.GetFrom(), resp.GetTo()),
		})
	}
	return connect.NewResponse(resp), nil
}

// pin gives the shared versions of a config that an instance APPLIED.
func (s *Service) pin(namespace, agent string, revision int64, digits string) (*release.Pin, []string, error) {
	pin, lost, ok := s.view.Pinnable(namespace, agent, revision, digits)
	if !ok {
		return nil, nil, errs.New(errs.NotFound, "no instance of agent %s is known to have applied config %d-%s", agent, revision, digits)
	}
	pin.Since = s.now().UTC()
	var notes []string
	for _, name := range lost {
		notes = append(notes, fmt.Sprintf("credential/%s: the value of that time isn't kept any more; today's is used", name))
	}
	return &pin, notes, nil
}

// drift says which shared versions resolve differently today from when a revision was last applied.
func (s *Service) drift(namespace string, head view.AgentHead, revision int64) ([]string, error) {
	var then []manifest.Line
	for _, c := range s.view.AppliedConfigs(namespace, head.Name) {
		if c.Revision == revision {
			then = c.Lines
			break
		}
	}
	if then == nil {
		return nil, nil
	}
	a, err := s.decodeAgent(head, revision)
	if err != nil {
		return nil, err
	}
	today, err := s.resolve(namespace, head, revision, a)
	if err != nil {
		return []string{fmt.Sprintf("revision %d doesn't resolve today: %v", revision, err)}, nil
	}
	now := map[string]manifest.Line{}
	for _, r := range today {
		now[r.Line.Resource()] = r.Line
	}
	var notes []string
	for _, was := range then {
		is, ok := now[was.Resource()]
		if was.Kind == kindAgent || (ok && is == was) {
			continue
		}
		what := "isn't there any more"
		if ok && is.Version != was.Version {
			what = "is at " + is.Version
		} else if ok {
			what = "has other content"
		}
		notes = append(notes, fmt.Sprintf("%s %s today, was at %s when revision %d was last applied", was.Resource(), what, was.Version, revision))
	}
	return notes, nil
}

// resolve gives what a revision resolves to today.
func (s *Service) resolve(namespace string, head view.AgentHead, revision int64, a *spec.Agent) ([]snapshot.Resource, error) {
	p := s.newPlan(namespace, s.itself(), nil)
	heads, err := p.heads(a)
	if err != nil {
		return nil, err
	}
	r, _ := head.State.Find(revision)
	raw, err := s.content(r.Spec)
	if err != nil {
		return nil, err
	}
	return snapshot.Resolve(heads, planBlobs{p}, head.Name, raw, r.Spec)
}
