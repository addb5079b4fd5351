package run

import (
	"context"
	"slices"

	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

// Face is what a door shows of the agent that would answer now.
type Face struct {
	Serving
	Namespace string
	A2A       A2A
	Keys      bool     // callers have to show a key
	Builtins  []string // the built-in tools that the model is offered at the A2A door
}

// Face gives what would answer through door now. The error is an *Error.
func (r *Runner) Face(door Door) (Face, error) {
	rt, release, err := r.look()
	if err != nil {
		return Face{}, notServing(err)
	}
	defer release()
	return Face{
		Serving:   Serving{Agent: rt.Agent, Revision: rt.Revision, Config: rt.Config, Open: !slices.Contains(rt.Closed, door)},
		Namespace: rt.Namespace, A2A: rt.A2A, Keys: len(rt.Inbound.Keys) > 0, Builtins: rt.Builtins,
	}, nil
}

// Tasks gives where the config that answers now keeps tasks; nil: it names no place. The store works until release is called, which it must be
// once, or until the config's time to drain is over. The error is an *Error.
func (r *Runner) Tasks() (store task.Store, release func(), err error) {
	rt, release, err := r.look()
	if err != nil {
		return nil, nil, notServing(err)
	}
	return rt.Tasks, release, nil
}

// Specs gives the agent's tools as they are now.
func (r *Runner) Specs() ([]tool.Spec, error) {
	rt, release, err := r.look()
	if err != nil {
		return nil, notServing(err)
	}
	defer release()
	if rt.Tools == nil {
		return nil, nil
	}
	var out []tool.Spec
	for _, t := range rt.Tools.Tools() {
		out = append(out, t.Spec())
	}
	return out, nil
}

// Abandon ends a suspended run that nobody wants any more; its session is free again. One that isn't there, or is over, is no error;
// errs.Conflict where it goes on just now.
func (r *Runner) Abandon(ctx context.Context, id, by, reason string) error {
	rt, release, err := r.look()
	if err != nil {
		return notServing(err)
	}
	defer release()
	if rt.Pending == nil {
		return nil
	}
	p, err := rt.Pending.Get(ctx, pending.Ref{Namespace: rt.Namespace, Agent: rt.Agent, ID: id})
	switch {
	case errs.Is(err, errs.NotFound):
		return nil
	case err != nil:
		return err
	case p.State.Final():
		return nil
	case p.State != pending.Waiting:
		return errs.New(errs.Conflict, "the run %s goes on just now", id)
	}
	p.State, p.Engine = pending.Failed, nil
	p.Decisions = append(p.Decisions, pending.Decision{By: by, At: r.cfg.Now().UTC(), Reason: reason})
	p.Result = &pending.Outcome{Code: CodeCanceled, Message: reason}
	_, err = rt.Pending.Update(ctx, p)
	return err
}
