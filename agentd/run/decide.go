package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// MaxBackground bounds decided runs that nobody waits for.
const MaxBackground = 64

// lostAfter is added to the wall time of a run that goes on before its owner is taken for dead.
const lostAfter = time.Minute

// codeLost is the outcome of a run whose owner never came back.
const codeLost = "lost"

// Decision is what somebody decides about a run that waits for approval.
type Decision struct {
	By       string
	Approved bool
	Reason   string
	// Arguments replaces the arguments of calls, by call ID: JSON objects. A denial ignores them.
	Arguments map[string]json.RawMessage
}

// Decide takes a run that waits for approval and gives a Turn on the current config, whose Do finishes it: a denied run goes on too, the
// model is told. What comes of it is written into the run and remembered in its session. The Turn goes on when the caller of Do leaves. A
// second decision is errs.Conflict (CodeDecided), one that comes too late too (CodeExpired).
func (r *Runner) Decide(ctx context.Context, id string, d Decision) (*Turn, error) {
	return r.take(ctx, id, taking{
		check: func(w pending.Run) *Error {
			if w.Kind != pending.Approval {
				return fail(errs.Precondition, CodeInvalid, "the run "+w.ID+" waits for its caller, not for approval")
			}
			return d.check(w)
		},
		decision: pending.Decision{By: d.By, Approved: d.Approved, Reason: d.Reason, Arguments: d.Arguments},
		detached: true,
	})
}

// DecideAndRun is Decide with a Do in the background, for which Close waits. At most MaxBackground are under way; one more is
// errs.Exhausted and the run waits on.
func (r *Runner) DecideAndRun(ctx context.Context, id string, d Decision) error {
	select {
	case r.places <- struct{}{}:
	default:
		return fail(errs.Exhausted, CodeConcurrency, "too many decided runs are under way; try again")
	}
	t, err := r.Decide(ctx, id, d)
	if err != nil {
		<-r.places
		return err
	}
	go func() { // t is of works: Close waits for its Do
		defer func() { <-r.places }()
		_, _ = t.Do(ctx, nil) // it is in the run, and in the log
	}()
	return nil
}

// Resume takes a run that waits for its caller (kinds input and auth) and gives a Turn that goes on with the newest user message of req as
// the answer. req must be of the run's principal, else the run is errs.NotFound; its Session, if any, must be the run's.
func (r *Runner) Resume(ctx context.Context, id string, req Request) (*Turn, error) {
	answer := answerOf(req.Messages)
	return r.take(ctx, id, taking{
		check: func(w pending.Run) *Error {
			switch {
			case w.Principal != req.Principal || req.Session != "" && req.Session != w.Session:
				return noRun(id)
			case w.Kind == pending.Approval:
				return fail(errs.Precondition, CodeInvalid, "the run "+w.ID+" waits for approval, not for its caller")
			case answer.Text == "":
				return fail(errs.Invalid, CodeInvalid, "messages: no answer to the question of the run "+w.ID)
			}
			return nil
		},
		decision: pending.Decision{By: req.Principal, Approved: true},
		req:      req,
	})
}

// answerOf gives the newest user message; one that has only images has words that say so.
func answerOf(messages []engine.Message) engine.Message {
	for _, m := range slices.Backward(messages) {
		if m.Role == engine.User {
			if m.Text == "" && len(m.Images) > 0 {
				m.Text = "(an image)"
			}
			return m
		}
	}
	return engine.Message{}
}

// taking is how a run is taken.
type taking struct {
	check    func(pending.Run) *Error
	decision pending.Decision
	req      Request // of Resume
	detached bool
}

// take makes a Turn of a run that waits. Two may try, one wins.
func (r *Runner) take(ctx context.Context, id string, how taking) (*Turn, error) {
	t, err := r.begin(how.req)
	if err != nil {
		return t, err
	}
	w, k, fault := t.waiting(ctx, id, how.check)
	if fault != nil {
		return t, t.drop(fault)
	}
	t.adopt(w, k)
	if t.req.Session != "" && t.rt.Memory != nil {
		if fault := t.enter(ctx); fault != nil {
			return t, t.drop(fault)
		}
		t.remember = k.State.Remember && !t.Stateless && !how.req.private()
	}
	if how.detached {
		detached, done, ok := r.works.begin(ctx)
		if !ok {
			return t, t.drop(fail(errs.Unavailable, CodeNotServing, "the agent is closing; try again"))
		}
		release := t.release
		t.detached, t.release = func() context.Context { return detached }, func() { release(); done() }
	}
	d := how.decision
	d.At = r.cfg.Now().UTC().Truncate(time.Millisecond)
	w.State, w.Owner = pending.Running, r.cfg.Instance
	w.Decisions = append(w.Decisions, d)
	w.ResumedConfig, w.ResumedRevision = t.Config, t.Revision
	w.ExpiresAt = d.At.Add(time.Until(t.deadline()) + lostAfter).Truncate(time.Millisecond)
	if t.taken, err = t.rt.Pending.Update(ctx, w); err != nil {
		t.taken = pending.Run{}
		if errs.Is(err, errs.Conflict) {
			if _, _, fault := t.waiting(ctx, id, how.check); fault != nil {
				return t, t.drop(fault)
			}
			err = fail(errs.Conflict, CodeDecided, "somebody else decides about the run "+id+" now")
		}
		return t, t.drop(asError(err))
	}
	answer := answerOf(how.req.Messages)
	t.resume = &engine.Resume{State: k.State, Decisions: decisions(w, d), Answer: answer.Text, Images: answer.Images}
	r.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "run resumed", slog.String("run", id), slog.String("kind", string(w.Kind)), slog.String("by", d.By), slog.Bool("approved", d.Approved),
		slog.String("config", w.Config), slog.String("resumed_config", t.Config))
	return t, nil
}

// drop gives back what a Turn holds that took no run. It counts as no request.
func (t *Turn) drop(e *Error) error {
	t.release()
	return e
}

// waiting reads a run that waits.
func (t *Turn) waiting(ctx context.Context, id string, check func(pending.Run) *Error) (pending.Run, kept, *Error) {
	var k kept
	if t.rt.Pending == nil {
		return pending.Run{}, k, noRun(id)
	}
	w, err := t.rt.Pending.Get(ctx, t.runner.ref(t.rt, id))
	if err != nil {
		if errs.Is(err, errs.NotFound) {
			return w, k, noRun(id)
		}
		return w, k, asError(err)
	}
	if w.State == pending.Waiting && t.runner.cfg.Now().After(w.ExpiresAt) {
		_ = t.runner.expire(ctx, t.rt.Pending, w) // whoever was first
		w.State = pending.Expired
	}
	fault := check(w)
	switch {
	case fault != nil && (w.State == pending.Waiting || fault.kind == errs.NotFound):
		return w, k, fault
	case w.State == pending.Expired:
		return w, k, fail(errs.Conflict, CodeExpired, fmt.Sprintf("the run %s waited until %s; it is over", id, w.ExpiresAt.UTC().Format(time.RFC3339)))
	case w.State != pending.Waiting:
		return w, k, fail(errs.Conflict, CodeDecided, decided(w))
	}
	if err := json.Unmarshal(w.Engine, &k); err != nil {
		return w, k, fail(errs.Internal, CodePanic, "the run "+id+" can't be read: "+err.Error())
	}
	return w, k, nil
}

func decided(w pending.Run) string {
	text := fmt.Sprintf("the run %s does not wait any more (%s)", w.ID, w.State)
	if n := len(w.Decisions); n > 0 && w.Decisions[n-1].By != "" {
		d := w.Decisions[n-1]
		text += fmt.Sprintf(": decided by %s at %s", d.By, d.At.UTC().Format(time.RFC3339))
	}
	return text
}

// adopt makes the Turn the run's.
func (t *Turn) adopt(w pending.Run, k kept) {
	req := t.req
	t.req = Request{
		ID: k.Request, Door: Door(w.Door), Principal: w.Principal, Session: w.Session, Stop: k.Stop, Metadata: k.Metadata, Format: k.Format, Builtins: k.Builtins,
		Stream: req.Stream, Steps: req.Steps,
	}
	if len(req.Metadata) > 0 { // the answer's own goes before the question's
		t.req.Metadata = maps.Clone(k.Metadata)
		if t.req.Metadata == nil {
			t.req.Metadata = map[string]string{}
		}
		maps.Copy(t.req.Metadata, req.Metadata)
	}
	if w.Config != t.Config {
		t.PreviousConfig = w.Config
	}
	t.cleared = make(map[string]string, len(w.Calls))
	for _, c := range w.Calls {
		t.cleared[c.ID] = c.Tool
	}
}

// check holds changed arguments against the run's calls.
func (d Decision) check(w pending.Run) *Error {
	if !d.Approved {
		return nil
	}
	for id, args := range d.Arguments {
		if !slices.ContainsFunc(w.Calls, func(c pending.Call) bool { return c.ID == id }) {
			return fail(errs.Invalid, CodeInvalid, fmt.Sprintf("arguments: the run %s has no call %q", w.ID, id))
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(args, &object) != nil || object == nil {
			return fail(errs.Invalid, CodeInvalid, fmt.Sprintf("arguments: those of call %q must be a JSON object", id))
		}
	}
	return nil
}

// decisions spreads a decision over a round. An approval covers every call as it is shown; a denial is of those that need consent.
func decisions(w pending.Run, d pending.Decision) []engine.Decision {
	var out []engine.Decision
	for _, c := range w.Calls {
		if !d.Approved && !c.Needs {
			continue
		}
		one := engine.Decision{CallID: c.ID, Approved: d.Approved, By: d.By, Reason: d.Reason}
		if args := d.Arguments[c.ID]; d.Approved && !bytes.Equal(args, c.Arguments) {
			one.Arguments = string(args)
		}
		out = append(out, one)
	}
	return out
}

// expire ends a run that waited too long.
func (r *Runner) expire(ctx context.Context, s pending.Store, w pending.Run) error {
	w.State, w.Engine = pending.Expired, nil
	w.Result = &pending.Outcome{Code: CodeExpired, Message: "nobody decided in time"}
	_, err := s.Update(ctx, w)
	if err == nil {
		r.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "run expired", slog.String("run", w.ID))
	}
	return err
}

// Sweep ends what is overdue: runs that nobody decided about expire, runs whose owner never came back fail. Call it every few seconds; any
// number of instances may.
func (r *Runner) Sweep(ctx context.Context, now time.Time) error {
	rt, release, err := r.look()
	if err != nil { // nothing is served: nothing is swept
		return nil
	}
	defer release()
	if rt.Pending == nil {
		return nil
	}
	overdue, err := rt.Pending.List(ctx, pending.Filter{
		Namespace: rt.Namespace, Agent: rt.Agent, States: []pending.State{pending.Waiting, pending.Running}, ExpiresBefore: now,
	})
	if err != nil {
		return fmt.Errorf("list overdue runs: %w", err)
	}
	for _, w := range overdue {
		if w.State == pending.Waiting {
			err = r.expire(ctx, rt.Pending, w)
		} else {
			owner := w.Owner
			w.State, w.Engine, w.Owner = pending.Failed, nil, ""
			w.Result = &pending.Outcome{Code: codeLost, Message: "the instance " + owner + " that ran it never told what came of it; tools may have been called"}
			_, err = rt.Pending.Update(ctx, w)
		}
		if err != nil && !errs.Is(err, errs.Conflict) && !errs.Is(err, errs.NotFound) {
			return fmt.Errorf("end the overdue run %s: %w", w.ID, err)
		}
	}
	return nil
}
