package run

import (
	"context"
	"errors"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// Pending lists the agent's suspended runs, newest first, without their Engine. Namespace and Agent of f are filled in. Whose runs a caller
// may see is the door's to say. The error is an *Error.
func (r *Runner) Pending(ctx context.Context, f pending.Filter) ([]pending.Run, error) {
	rt, release, err := r.look()
	if err != nil {
		return nil, notServing(err)
	}
	defer release()
	if rt.Pending == nil {
		return nil, nil
	}
	f.Namespace, f.Agent = rt.Namespace, rt.Agent
	runs, err := rt.Pending.List(ctx, f)
	if err != nil {
		return nil, asError(err)
	}
	return runs, nil
}

// PendingRun gives one of the agent's suspended runs without its Engine. The error is an *Error; errs.NotFound.
func (r *Runner) PendingRun(ctx context.Context, id string) (pending.Run, error) {
	rt, release, err := r.look()
	if err != nil {
		return pending.Run{}, notServing(err)
	}
	defer release()
	if rt.Pending == nil {
		return pending.Run{}, noRun(id)
	}
	w, err := rt.Pending.Get(ctx, r.ref(rt, id))
	switch {
	case errs.Is(err, errs.NotFound):
		return pending.Run{}, noRun(id)
	case err != nil:
		return pending.Run{}, asError(err)
	}
	w.Engine = nil
	return w, nil
}

func (r *Runner) ref(rt *Runtime, id string) pending.Ref {
	return pending.Ref{Namespace: rt.Namespace, Agent: rt.Agent, ID: id}
}

func noRun(id string) *Error {
	return fail(errs.NotFound, CodeNotFound, "there is no suspended run "+id)
}

// asError makes an *Error of a store's error.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	switch kind := errs.KindOf(err); kind {
	case errs.NotFound:
		return fail(kind, CodeNotFound, err.Error())
	case errs.Canceled:
		return fail(kind, CodeCanceled, "the caller is gone")
	case errs.Invalid:
		return fail(kind, CodeInvalid, err.Error())
	case errs.Unavailable, errs.Timeout:
		return fail(errs.Unavailable, CodeMemory, "the agent's memory can't be reached; try again")
	default:
		return fail(kind, CodePanic, err.Error())
	}
}

// History gives the newest turns of a session, oldest first; limit 0: all that are held. The error is an *Error; errs.NotFound.
func (r *Runner) History(ctx context.Context, principal, session string, limit int) ([]memory.Turn, error) {
	rt, release, err := r.look()
	if err != nil {
		return nil, notServing(err)
	}
	defer release()
	if rt.Sessions == nil {
		return nil, fail(errs.NotFound, CodeNotFound, "there is no session "+session)
	}
	turns, err := rt.Sessions.History(ctx, memory.Key{Namespace: rt.Namespace, Agent: rt.Agent, Principal: principal, Session: session}, limit)
	switch {
	case errs.Is(err, errs.NotFound):
		return nil, fail(errs.NotFound, CodeNotFound, "there is no session "+session)
	case err != nil:
		return nil, asError(err)
	}
	return turns, nil
}

// Sessions lists a principal's sessions, the most recently used first; limit 0: 100. The error is an *Error.
func (r *Runner) Sessions(ctx context.Context, principal string, limit int) ([]memory.Info, error) {
	rt, release, err := r.look()
	if err != nil {
		return nil, notServing(err)
	}
	defer release()
	if rt.Sessions == nil {
		return nil, nil
	}
	infos, err := rt.Sessions.List(ctx, memory.Owner{Namespace: rt.Namespace, Agent: rt.Agent, Principal: principal}, limit)
	if err != nil {
		return nil, asError(err)
	}
	return infos, nil
}

// Forget drops a session with what of it waits; an unknown one is no error. The error is an *Error.
func (r *Runner) Forget(ctx context.Context, principal, session string) error {
	rt, release, err := r.look()
	if err != nil {
		return notServing(err)
	}
	defer release()
	if rt.Pending != nil {
		runs, err := rt.Pending.List(ctx, pending.Filter{Namespace: rt.Namespace, Agent: rt.Agent, Principal: principal, Session: session, States: []pending.State{pending.Waiting}})
		if err != nil {
			return asError(err)
		}
		for _, w := range runs {
			if err := rt.Pending.Delete(ctx, w.Ref()); err != nil {
				return asError(err)
			}
		}
	}
	if rt.Memory == nil {
		return nil
	}
	if err := rt.Memory.Forget(ctx, memory.Key{Namespace: rt.Namespace, Agent: rt.Agent, Principal: principal, Session: session}); err != nil {
		return asError(err)
	}
	return nil
}

// Inbound gives who may call now. The error is an *Error.
func (r *Runner) Inbound() (Inbound, error) {
	rt, release, err := r.look()
	if err != nil {
		return Inbound{}, notServing(err)
	}
	defer release()
	return rt.Inbound, nil
}

// A2A gives the A2A door's settings now. The error is an *Error.
func (r *Runner) A2A() (A2A, error) {
	rt, release, err := r.look()
	if err != nil {
		return A2A{}, notServing(err)
	}
	defer release()
	return rt.A2A, nil
}
