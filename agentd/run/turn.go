package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// errWall is the cause of a context that ended by the request's own wall time.
var errWall = errors.New("the request's wall time is over")

// Delta is a piece of the answer as it is made: text, reasoning, an artifact of a built-in tool, or (Request.Steps) a tool's step.
type Delta struct {
	Text      string
	Reasoning string
	Artifact  *engine.Artifact
	Tool      *ToolEvent
}

// ToolEvent is the begin or the end of a tool call.
type ToolEvent struct {
	Name      string
	CallID    string
	Arguments string // as the tool gets them; at the begin
	Done      bool
	IsError   bool // at the end
}

// Turn is one request on one Runtime. It belongs to one goroutine.
type Turn struct {
	Agent    string
	Revision int64
	Config   string
	// PreviousConfig is the config that answered the session last, where it is another.
	PreviousConfig string
	// Stateless says that the session's memory is gone and the request is answered without it.
	Stateless bool
	// Pending is set by a Do whose Result ended BySuspend: the run that waits, without its Engine.
	Pending *pending.Run

	runner   *Runner
	rt       *Runtime
	req      Request
	release  func()
	leave    func() // the session's turn; nil: none is held
	started  time.Time
	context  []engine.Message
	recalled []engine.Message
	input    []engine.Message
	key      memory.Key
	remember bool

	resume   *engine.Resume         // instead of a new request
	taken    pending.Run            // the run that is resumed
	detached func() context.Context // nil: the Turn ends with its caller
	// cleared is which server/tool a call was judged as by Approval; it may be called as nothing else.
	cleared map[string]string

	loop       *engine.Loop
	emit       func(Delta) error
	fault      *model.Error // of the last model call
	stuck      *Error       // an effect that failed for good
	left       bool         // emit said that nobody reads
	remembered bool
	calibrated bool
	modelID    string
}

// deadline is when the request's wall time is over.
func (t *Turn) deadline() time.Time {
	if t.rt.WallTime <= 0 {
		return t.started.Add(DefaultWallTime)
	}
	return t.started.Add(t.rt.WallTime)
}

// Do runs the request to its end and gives the Runtime back. emit gets the answer piece by piece, in order, from this goroutine; its error
// means that nobody reads any more and cancels the model call; nil: nobody reads, and the request goes on. The error is an *Error, the
// Result is what was done in either case. A request that ended BySuspend (see Pending), ByReject or ByGiveUp is no error. Do never panics.
func (t *Turn) Do(ctx context.Context, emit func(Delta) error) (res engine.Result, err error) {
	if t.detached != nil {
		ctx = t.detached()
	}
	ctx, end := context.WithDeadlineCause(ctx, t.deadline(), errWall)
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	follower := t.followed(cancel)
	ctx, span := t.runner.invokeSpan(ctx, t)
	defer func() {
		if p := recover(); p != nil {
			t.runner.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic in a request", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			err = fail(errs.Internal, CodePanic, "the agent failed internally; the request was ended")
		}
		t.end(ctx, span, res, err)
		if follower != nil {
			follower.Ended(t, res, err)
		}
	}()
	if t.emit = emit; follower != nil {
		t.emit = both(follower, emit)
	}
	t.loop = engine.New(t.limits())
	res = t.drive(ctx, t.loop.Step(t.first()))
	switch {
	case t.stuck != nil:
		t.stuck.Result = res
		return res, t.stuck
	case res.End == engine.ByAnswer, res.End == engine.BySuspend, res.End == engine.ByReject, res.End == engine.ByGiveUp:
		return res, nil
	}
	return res, failed(res, t.fault)
}

func (t *Turn) limits() engine.Config {
	cfg := engine.Config{
		System: t.rt.System, MaxIterations: t.rt.MaxIterations, ToolCalls: t.rt.ToolCalls, Tokens: t.rt.Tokens, CostUSD: t.rt.CostUSD, SameCall: t.rt.SameCall,
		ToolPayload: t.rt.ToolPayload,
	}
	if t.rt.Approval != nil {
		cfg.Approve = t.approve
	}
	return cfg
}

func (t *Turn) first() engine.Event {
	if t.resume != nil {
		r := *t.resume
		r.State.Remember = t.remember
		return r
	}
	return engine.Request{Recalled: t.recalled, Context: t.context, Input: t.input, Remember: t.remember}
}

// drive performs effects until Finish.
func (t *Turn) drive(ctx context.Context, queue []engine.Effect) engine.Result {
	for len(queue) > 0 {
		effect := queue[0]
		queue = queue[1:]
		switch e := effect.(type) {
		case engine.CallModel:
			queue = append(queue, t.callModel(ctx, e)...)
		case engine.CallTools:
			queue = append(queue, t.callTools(ctx, e.Calls)...)
		case engine.Emit:
			t.send(delta(e))
		case engine.Remember:
			t.stuck = t.keep(ctx, e)
		case engine.Suspend:
			t.stuck = t.suspend(ctx, e.State)
		case engine.Finish:
			return e.Result
		}
	}
	return engine.Result{End: engine.ByFault, Code: CodePanic, Message: "the loop stopped without an end"}
}

func (t *Turn) send(d Delta) {
	if t.left || t.emit == nil || t.emit(d) == nil {
		return
	}
	if t.detached != nil {
		t.emit = nil // it goes on for the record
		return
	}
	t.left = true
}

func delta(e engine.Emit) Delta {
	return Delta{Text: e.Text, Reasoning: e.Reasoning, Artifact: e.Artifact}
}

// over gives the event for a request that can't go on, or nil; used is of the model call that was cut off.
func (t *Turn) over(ctx context.Context, used engine.Usage) engine.Event {
	switch {
	case t.left:
		return engine.Cancel{Usage: used}
	case ctx.Err() == nil:
		return nil
	case errors.Is(context.Cause(ctx), errWall):
		return engine.Deadline{Usage: used}
	case errors.Is(ctx.Err(), context.DeadlineExceeded): // the door's own deadline
		return engine.Deadline{Usage: used}
	default:
		return engine.Cancel{Usage: used}
	}
}

// end writes the request into the books and gives everything back.
func (t *Turn) end(ctx context.Context, span trace.Span, res engine.Result, err error) {
	defer t.release()
	if t.taken.ID != "" {
		t.settle(ctx, res, err)
	}
	failed := err != nil && !errs.Is(err, errs.Canceled)
	t.runner.ledger.add(t.Config, time.Since(t.started), t.spent(res), failed)
	endInvoke(span, res, err)
	if failed {
		t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "request failed", slog.String("config", t.Config), slog.String("error", err.Error()))
	}
	if t.remembered && t.rt.Compact {
		t.runner.compact(ctx, t.key)
	}
}

// spent gives what this Turn used: a resumed run's Result counts from the beginning.
func (t *Turn) spent(res engine.Result) engine.Usage {
	u := res.Usage
	if t.resume != nil && u.Total() > 0 {
		u.Input -= t.resume.State.Usage.Input
		u.Output -= t.resume.State.Usage.Output
	}
	return u
}
