package specapi

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
)

// RolloutStatus gives how an agent's release stands; errs.NotFound where there is no such agent.
type RolloutStatus func(namespace, agent string) (*releasev1.Rollout, error)

// Rollouts implements agentry.release.v1.RolloutService: what people ask of a release is a step of the agent's head, written
// as an apply or a rollback is. It is safe for concurrent use.
type Rollouts struct {
	releasev1connect.UnimplementedRolloutServiceHandler

	svc    *Service
	status RolloutStatus
}

// NewRollouts makes the service beside a Service.
func NewRollouts(s *Service, status RolloutStatus) (*Rollouts, error) {
	if s == nil || status == nil {
		return nil, errs.New(errs.Invalid, "specapi: something required is missing")
	}
	return &Rollouts{svc: s, status: status}, nil
}

// Status answers how an agent's release stands.
func (r *Rollouts) Status(_ context.Context, req *connect.Request[releasev1.StatusRequest]) (*connect.Response[releasev1.StatusResponse], error) {
	out, err := r.status(namespaceOf(req.Msg.GetNamespace()), req.Msg.GetAgent())
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&releasev1.StatusResponse{Rollout: out}), nil
}

// asked is what every request of a person about a release says.
type asked interface {
	GetNamespace() string
	GetAgent() string
	GetMessage() string
	GetDryRun() bool
}

// stepping is one request and what became of it.
type stepping struct {
	before, after release.State
	revision      int64 // of the store; 0: nothing was written
}

// request is what is to be performed.
type request struct {
	asked

	check       *int64
	cause, told string // in the log of moves, and as an event
	event       func(namespace string, head view.AgentHead) (release.Event, error)
	answer      func(stepping) proto.Message
}

// perform steps an agent's head and writes it.
func (r *Rollouts) perform(ctx context.Context, m request) error {
	s, namespace := r.svc, namespaceOf(m.GetNamespace())
	var out stepping
	rev, err := s.writer.Retrying(ctx, headwrite.Why{Actor: actor(ctx), Cause: m.cause, Message: m.GetMessage()}, func() (*headwrite.Change, error) {
		c := headwrite.NewChange(namespace)
		head, mod, err := s.agentHead(namespace, m.GetAgent())
		if err != nil {
			return nil, err
		}
		if err := checkRevision(m.check, head.Name, head.State.Desired()); err != nil {
			return nil, err
		}
		e, err := m.event(namespace, head)
		if err != nil {
			return nil, err
		}
		st := step(head, e)
		if err := st.err(); err != nil {
			return nil, err
		}
		out.before, out.after = head.State, st.state
		if !st.unchanged && !m.GetDryRun() {
			once.Answer(ctx, m.answer(out))
			s.moveAgent(c, head, mod, st, actor(ctx))
		}
		return c, nil
	})
	if err != nil {
		return err
	}
	out.revision = rev
	m.answer(out)
	if rev > 0 {
		s.notify(Notice{Namespace: namespace, Agent: m.GetAgent(), Type: m.told, Message: fmt.Sprintf("%s asked for it; revision %d counts", actor(ctx), out.after.Desired())})
	}
	return nil
}

// Retry reopens what was refused.
func (r *Rollouts) Retry(ctx context.Context, req *connect.Request[releasev1.RetryRequest]) (*connect.Response[releasev1.RetryResponse], error) {
	var resp *releasev1.RetryResponse
	err := r.perform(ctx, request{
		asked: req.Msg, check: req.Msg.CheckRevision, cause: "retry", told: "retried", event: r.svc.retry,
		answer: func(out stepping) proto.Message {
			resp = &releasev1.RetryResponse{From: out.before.Desired(), To: out.after.Desired(), StoreRevision: out.revision}
			return resp
		},
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// retry makes the event: the revision's own policy, and the config that it resolves to now.
func (s *Service) retry(namespace string, head view.AgentHead) (release.Event, error) {
	e := release.Retry{At: s.now().UTC(), Live: s.fleet.Live(namespace, head.Name)}
	n := head.State.Retryable()
	if n == 0 {
		return e, nil
	}
	a, err := s.decodeAgent(head, n)
	if err != nil {
		return nil, err
	}
	e.Policy = release.Policy{OnReject: a.Release.OnReject, ProgressDeadline: a.Release.ProgressDeadline.Std()}
	if resources, err := s.resolve(namespace, head, n, a); err == nil { // else zero: it doesn't resolve today
		e.Manifest = manifest.Of(snapshot.Snapshot{Resources: resources}.Lines())
	}
	return e, nil
}

// Unhold ends an agent's pin and vetoes.
func (r *Rollouts) Unhold(ctx context.Context, req *connect.Request[releasev1.UnholdRequest]) (*connect.Response[releasev1.UnholdResponse], error) {
	var resp *releasev1.UnholdResponse
	err := r.perform(ctx, request{
		asked: req.Msg, check: req.Msg.CheckRevision, cause: "unhold", told: "unheld",
		event: func(string, view.AgentHead) (release.Event, error) { return release.Unhold{At: r.svc.now().UTC()}, nil },
		answer: func(out stepping) proto.Message {
			resp = &releasev1.UnholdResponse{Vetoes: wireVetoes(out.before.Vetoes), StoreRevision: out.revision}
			if p := out.before.Pin; p != nil {
				resp.Pin = p.Config()
			}
			return resp
		},
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

// Abort closes an open release.
func (r *Rollouts) Abort(ctx context.Context, req *connect.Request[releasev1.AbortRequest]) (*connect.Response[releasev1.AbortResponse], error) {
	var resp *releasev1.AbortResponse
	err := r.perform(ctx, request{
		asked: req.Msg, check: req.Msg.CheckRevision, cause: "abort", told: "aborted",
		event: func(string, view.AgentHead) (release.Event, error) { return release.Abort{At: r.svc.now().UTC()}, nil },
		answer: func(out stepping) proto.Message {
			resp = &releasev1.AbortResponse{From: out.before.Desired(), To: out.after.Desired(), StoreRevision: out.revision}
			if h := out.before.Hold; h != nil {
				resp.From = h.Revision
			}
			return resp
		},
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(resp), nil
}

var _ releasev1connect.RolloutServiceHandler = (*Rollouts)(nil)

func wireVetoes(vetoes []release.Veto) []*releasev1.Veto {
	var out []*releasev1.Veto
	for _, v := range vetoes {
		out = append(out, &releasev1.Veto{Head: v.Resource(), Refused: v.Refused, Use: v.Use})
	}
	return out
}
