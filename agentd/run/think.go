package run

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/tokens"
)

// callModel performs one model call, whose text goes out as it comes.
func (t *Turn) callModel(ctx context.Context, e engine.CallModel) []engine.Effect {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, span := t.runner.chatSpan(ctx, t.rt, e.Iteration)
	var answered engine.Answered
	var failure error
	came := 0 // bytes
	req := t.modelRequest(e.Messages)
	for c, err := range t.rt.Model.Generate(ctx, req) {
		if err != nil {
			failure = err
			collect(&answered, c) // what broken attempts cost
			break
		}
		if c.Text != "" || c.Reasoning != "" {
			came += len(c.Text) + len(c.Reasoning)
			for _, effect := range t.loop.Step(engine.Delta{Text: c.Text, Reasoning: c.Reasoning}) {
				if out, ok := effect.(engine.Emit); ok {
					t.send(delta(out))
				}
			}
		}
		if t.left {
			break
		}
		collect(&answered, c)
		if c.Model != "" {
			t.modelID = c.Model
		}
	}
	if answered.Usage.Total() == 0 && came > 0 { // nobody counted: it was cut off
		answered.Usage = engine.Usage{Input: int64(estimate(req)), Output: int64(came+3) / 4, Estimated: true}
	}
	over := t.over(ctx, answered.Usage)
	if over != nil && failure == nil && !t.left { // it came whole after all
		over = nil
	}
	endChat(span, t.modelID, answered, failure)
	switch {
	case over != nil:
		return t.loop.Step(over)
	case failure != nil:
		t.fault = asModelError(failure)
		return t.loop.Step(engine.Failed{Code: t.fault.Code, Message: t.fault.Error(), Usage: answered.Usage})
	default:
		t.calibrate(req, answered.Usage)
		return t.loop.Step(answered)
	}
}

// calibrate compares the estimate of a whole model request with the model's own count. Only sessions need it: stateless ones save the time.
func (t *Turn) calibrate(req model.Request, u engine.Usage) {
	if t.rt.Calibrator == nil || u.Estimated || !t.remember || t.calibrated {
		return
	}
	t.calibrated = true
	if slices.ContainsFunc(req.Messages, func(m model.Message) bool { return len(m.Images) > 0 }) {
		return // what a picture costs is another matter
	}
	t.rt.Calibrator.Observe(int64(estimate(req)), u.Input)
}

// estimate gives the tokens of a whole model request, but for pictures.
func estimate(req model.Request) int {
	n := 0
	for _, m := range req.Messages {
		n += perMessage + tokens.Estimate(m.Text)
		for _, c := range m.ToolCalls {
			n += tokens.Estimate(c.Name) + tokens.Estimate(c.Arguments)
		}
	}
	for _, s := range req.Tools {
		n += perMessage + (len(s.Name)+len(s.Description)+len(s.Schema))/4
	}
	return n
}

// perMessage is what a message costs beside its text, about, in tokens.
const perMessage = 4

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
		a.Usage = engine.Usage{Input: c.Usage.InputTokens, Output: c.Usage.OutputTokens, Estimated: c.Usage.Estimated, CostUSD: c.Usage.CostUSD}
	}
	if c.FinishReason != "" {
		a.FinishReason = c.FinishReason
	}
}

func (t *Turn) modelRequest(messages []engine.Message) model.Request {
	r := model.Request{Messages: make([]model.Message, len(messages)), Tools: t.toolSpecs(), Stream: t.req.Stream, Stop: t.req.Stop, Metadata: t.metadata(), Format: t.req.Format}
	for i, m := range messages {
		w := model.Message{Role: model.Role(m.Role), Text: m.Text, ToolCallID: m.CallID}
		for _, c := range m.Calls {
			w.ToolCalls = append(w.ToolCalls, model.ToolCall(c))
		}
		for _, img := range m.Images {
			w.Images = append(w.Images, model.Image(img))
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
