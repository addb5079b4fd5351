package run

import (
	"context"
	"encoding/json"
	"time"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// Decision is what somebody decides about a run that waits for approval.
type Decision struct {
	By       string
	Approved bool
	Reason   string
	// Arguments replaces the arguments of calls, by call ID: JSON objects.
	Arguments map[string]json.RawMessage
}

var errTodo = fail(errs.Unsupported, "unsupported", "not there yet")

// Pending lists the agent's suspended runs, newest first, without their Engine. Namespace and Agent of f are filled in. Whose runs a caller
// may see is the door's to say.
func (r *Runner) Pending(ctx context.Context, f pending.Filter) ([]pending.Run, error) {
	return nil, errTodo
}

// PendingRun gives one of the agent's suspended runs without its Engine; errs.NotFound.
func (r *Runner) PendingRun(ctx context.Context, id string) (pending.Run, error) {
	return pending.Run{}, errTodo
}

// Decide takes a run that waits for approval and gives a Turn on the current config, whose Do finishes it: a denied run goes on too, the
// model is told. What comes of it is written into the run and remembered in its session. The Turn goes on when the caller of Do leaves. A
// second decision is errs.Conflict (CodeDecided), one that comes too late too (CodeExpired).
func (r *Runner) Decide(ctx context.Context, id string, d Decision) (*Turn, error) {
	return nil, errTodo
}

// DecideAndRun is Decide with a Do in the background, for which Close waits. At most MaxBackground are under way; one more is
// errs.Exhausted and the run waits on.
func (r *Runner) DecideAndRun(ctx context.Context, id string, d Decision) error { return errTodo }

// Resume takes a run that waits for its caller (kinds input and auth) and gives a Turn that goes on with the newest user message of req as
// the answer. req must be of the run's principal, else the run is errs.NotFound; its Session, if any, must be the run's.
func (r *Runner) Resume(ctx context.Context, id string, req Request) (*Turn, error) {
	return nil, errTodo
}

// Sweep ends what is overdue: runs that nobody decided about expire, runs whose owner never came back fail. Call it every few seconds.
func (r *Runner) Sweep(ctx context.Context, now time.Time) error { return nil }

// History gives the newest turns of a session, oldest first; limit 0: all that are held.
func (r *Runner) History(ctx context.Context, principal, session string, limit int) ([]memory.Turn, error) {
	return nil, errTodo
}

// Sessions lists a principal's sessions, the most recently used first; limit 0: 100.
func (r *Runner) Sessions(ctx context.Context, principal string, limit int) ([]memory.Info, error) {
	return nil, errTodo
}

// Forget drops a session with what of it waits; an unknown one is no error.
func (r *Runner) Forget(ctx context.Context, principal, session string) error { return errTodo }

// Inbound gives who may call now. The error is an *Error.
func (r *Runner) Inbound() (Inbound, error) {
	rt, release, err := r.cfg.Source.Acquire()
	if err != nil {
		return Inbound{}, notServing(err)
	}
	defer release()
	return rt.Inbound, nil
}

// A2A gives the A2A door's settings now. The error is an *Error.
func (r *Runner) A2A() (A2A, error) {
	rt, release, err := r.cfg.Source.Acquire()
	if err != nil {
		return A2A{}, notServing(err)
	}
	defer release()
	return rt.A2A, nil
}

// MaxBackground bounds decided runs that nobody waits for.
const MaxBackground = 64

// Close refuses new background work and waits for what is under way; when ctx ends it is cancelled, and waited for.
func (r *Runner) Close(ctx context.Context) error { return nil }
