package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/tool"
)

// maxParallel bounds one request's tool calls side by side; the rest wait for a place.
const maxParallel = 16

// toolSpecs asks the set at every model call: what was withdrawn or switched off since is gone.
func (t *Turn) toolSpecs() []model.ToolSpec {
	if t.rt.Tools == nil {
		return nil
	}
	tools := t.rt.Tools.Tools()
	if len(tools) == 0 {
		return nil
	}
	out := make([]model.ToolSpec, len(tools))
	for i, tl := range tools {
		s := tl.Spec()
		out[i] = model.ToolSpec{Name: s.Name, Description: s.Description, Schema: s.Schema}
	}
	return out
}

// callTools runs the calls side by side and steps with their results.
func (t *Turn) callTools(ctx context.Context, calls []engine.Call) []engine.Effect {
	results := make([]engine.ToolResult, len(calls))
	if len(calls) == 1 {
		results[0] = t.callTool(ctx, calls[0])
	} else {
		var wg sync.WaitGroup
		places := make(chan struct{}, maxParallel)
		for i, c := range calls {
			places <- struct{}{}
			wg.Go(func() {
				defer func() { <-places }()
				results[i] = t.callTool(ctx, c)
			})
		}
		wg.Wait()
	}
	if over := t.over(ctx); over != nil {
		return t.loop.Step(over)
	}
	var effects []engine.Effect
	for _, r := range results {
		effects = append(effects, t.loop.Step(r)...)
	}
	return effects
}

// find looks the tool up as it is now: off means off at once, in running requests too.
func (t *Turn) find(name string) tool.Tool {
	if t.rt.Tools == nil {
		return nil
	}
	for _, tl := range t.rt.Tools.Tools() {
		if tl.Spec().Name == name {
			return tl
		}
	}
	return nil
}

func (t *Turn) callTool(ctx context.Context, c engine.Call) (res engine.ToolResult) {
	res = engine.ToolResult{CallID: c.ID, IsError: true}
	tl := t.find(c.Name)
	if tl == nil {
		res.Text = fmt.Sprintf("there is no tool %q now: it does not exist, is switched off, or its server is lost", c.Name)
		return res
	}
	ctx, span := t.runner.toolSpan(ctx, tl.Spec(), c.ID)
	var err error
	defer func() {
		if p := recover(); p != nil {
			t.runner.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic in a tool", slog.String("tool", c.Name), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			res = engine.ToolResult{CallID: c.ID, IsError: true, Text: "the tool failed internally"}
		}
		endTool(span, res.IsError, err)
	}()
	out, err := tl.Call(ctx, json.RawMessage(c.Arguments))
	var args *tool.ArgumentsError
	switch {
	case errors.As(err, &args):
		res.Malformed = true
		res.Text = args.Error() + ". Call the tool again with arguments that fit its schema."
	case err != nil:
		res.Text = "the tool could not be called: " + err.Error()
	default:
		res.Text, res.IsError = out.Text, out.IsError
	}
	return res
}
