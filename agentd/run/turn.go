package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/internal/errs"
)

// rememberTimeout bounds the write after an answer, which the caller's leaving does not stop.
const rememberTimeout = 5 * time.Second

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
	started  time.Time
	context  []engine.Message
	recalled []engine.Message
	input    []engine.Message
	key      memory.Key
	remember bool

	loop    *engine.Loop
	emit    func(Delta) error
	fault   *model.Error // of the last model call
	gone    bool         // emit said that nobody reads
	modelID string
}

// Do runs the request to its end and gives the Runtime back. emit gets the answer piece by piece, in order, from this goroutine; its error
// means that nobody reads any more and cancels the model call. The error is an *Error, the Result is what was done in either case. Do
// never panics.
func (t *Turn) Do(ctx context.Context, emit func(Delta) error) (res engine.Result, err error) {
	wall := t.rt.WallTime
	if wall <= 0 {
		wall = DefaultWallTime
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wall, errWall)
	defer cancel()
	ctx, span := t.runner.invokeSpan(ctx, t)
	defer func() {
		if p := recover(); p != nil {
			t.runner.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic in a request", slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			err = fail(errs.Internal, CodePanic, "the agent failed internally; the request was ended")
		}
		t.end(ctx, span, res, err)
		t.release()
	}()
	t.emit = emit
	t.loop = engine.New(engine.Config{System: t.rt.System, MaxIterations: t.rt.MaxIterations, ToolCalls: t.rt.ToolCalls, Tokens: t.rt.Tokens})
	res = t.drive(ctx, t.loop.Step(engine.Request{Recalled: t.recalled, Context: t.context, Input: t.input, Remember: t.remember}))
	if res.End == engine.ByAnswer {
		return res, nil
	}
	return res, failed(res, t.fault)
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
			t.send(e)
		case engine.Remember:
			t.keep(ctx, e.Turns)
		case engine.Finish:
			return e.Result
		}
	}
	return engine.Result{End: engine.ByFault, Code: CodePanic, Message: "the loop stopped without an end"}
}

func (t *Turn) send(e engine.Emit) {
	if t.gone || t.emit == nil {
		return
	}
	if t.emit(Delta{Text: e.Text, Reasoning: e.Reasoning, Artifact: e.Artifact}) != nil {
		t.gone = true
	}
}

// over gives the event for a request that can't go on, or nil.
func (t *Turn) over(ctx context.Context) engine.Event {
	switch {
	case t.gone:
		return engine.Cancel{}
	case ctx.Err() == nil:
		return nil
	case errors.Is(context.Cause(ctx), errWall):
		return engine.Deadline{}
	case errors.Is(ctx.Err(), context.DeadlineExceeded): // the door's own deadline
		return engine.Deadline{}
	default:
		return engine.Cancel{}
	}
}

func (t *Turn) callModel(ctx context.Context, e engine.CallModel) []engine.Effect {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, span := t.runner.chatSpan(ctx, t.rt, e.Iteration)
	var answered engine.Answered
	var failure error
	for c, err := range t.rt.Model.Generate(ctx, t.modelRequest(e.Messages)) {
		if err != nil {
			failure = err
			break
		}
		if c.Text != "" || c.Reasoning != "" {
			for _, effect := range t.loop.Step(engine.Delta{Text: c.Text, Reasoning: c.Reasoning}) {
				if out, ok := effect.(engine.Emit); ok {
					t.send(out)
				}
			}
		}
		if t.gone {
			break
		}
		collect(&answered, c)
		if c.Model != "" {
			t.modelID = c.Model
		}
	}
	over := t.over(ctx)
	if over != nil && failure == nil && !t.gone { // it came whole after all
		over = nil
	}
	endChat(span, t.modelID, answered, failure)
	switch {
	case over != nil:
		return t.loop.Step(over)
	case failure != nil:
		t.fault = asModelError(failure)
		return t.loop.Step(engine.Failed{Code: t.fault.Code, Message: t.fault.Error()})
	default:
		return t.loop.Step(answered)
	}
}

func asModelError(err error) *model.Error {
	var e *model.Error
	if errors.As(err, &e) {
		return e
	}
	return &model.Error{Code: CodePanic, Message: err.Error()}
}

func collect(a *engine.Answered, c model.Chunk) {
	for _, call := range c.ToolCalls {
		a.Calls = append(a.Calls, engine.Call(call))
	}
	if c.Usage != nil {
		a.Usage = engine.Usage{Input: c.Usage.InputTokens, Output: c.Usage.OutputTokens, Estimated: c.Usage.Estimated}
	}
	if c.FinishReason != "" {
		a.FinishReason = c.FinishReason
	}
}

func (t *Turn) modelRequest(messages []engine.Message) model.Request {
	r := model.Request{Messages: make([]model.Message, len(messages)), Tools: t.toolSpecs(), Stream: t.req.Stream, Stop: t.req.Stop, Metadata: t.metadata()}
	for i, m := range messages {
		w := model.Message{Role: model.Role(m.Role), Text: m.Text, ToolCallID: m.CallID}
		for _, c := range m.Calls {
			w.ToolCalls = append(w.ToolCalls, model.ToolCall(c))
		}
		r.Messages[i] = w
	}
	return r
}

// metadata is what a model with sendMetadata gets: the caller's own, and which config asks.
func (t *Turn) metadata() map[string]string {
	m := make(map[string]string, len(t.req.Metadata)+4)
	maps.Copy(m, t.req.Metadata)
	m["agent"], m["revision"], m["config"] = t.Agent, strconv.FormatInt(t.Revision, 10), t.Config
	if t.req.Session != "" {
		m["session"] = t.req.Session
	}
	return m
}

func (t *Turn) keep(ctx context.Context, turns []engine.Message) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rememberTimeout)
	defer cancel()
	out := make([]memory.Turn, len(turns))
	for i, m := range turns {
		out[i] = memory.Turn{Role: string(m.Role), Text: m.Text}
		if m.Role == engine.Assistant {
			out[i].Config = t.Config
		}
	}
	if err := t.rt.Memory.Remember(ctx, t.key, memory.Exchange{Turns: out}); err != nil { // the answer was given: too late to refuse it
		t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "remember failed", slog.String("error", err.Error()))
	}
}

func (t *Turn) end(ctx context.Context, span trace.Span, res engine.Result, err error) {
	bad := err != nil && !errs.Is(err, errs.Canceled)
	t.runner.ledger.add(t.Config, time.Since(t.started), res.Usage, bad)
	endInvoke(span, res, err)
	if !bad {
		return
	}
	t.runner.cfg.Log.LogAttrs(ctx, slog.LevelWarn, "request failed", slog.String("config", t.Config), slog.String("error", err.Error()))
}
