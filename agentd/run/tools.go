package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/tool"
)

// maxParallel bounds one request's tool calls side by side; the rest wait for a place.
const maxParallel = 16

// toolSpecs asks the set at every model call: what was withdrawn or switched off since is gone.
func (t *Turn) toolSpecs() []model.ToolSpec {
	var tools []tool.Tool
	if t.rt.Tools != nil {
		tools = t.rt.Tools.Tools()
	}
	builtins := t.builtins()
	if len(tools)+len(builtins) == 0 {
		return nil
	}
	out := make([]model.ToolSpec, 0, len(tools)+len(builtins))
	for _, tl := range tools {
		s := tl.Spec()
		out = append(out, model.ToolSpec{Name: s.Name, Description: s.Description, Schema: s.Schema})
	}
	for _, s := range builtins {
		out = append(out, model.ToolSpec{Name: s.Name, Description: s.Description, Schema: s.Schema})
	}
	return out
}

// builtins gives the built-in tools that this request is offered.
func (t *Turn) builtins() []tool.Spec {
	if !t.req.Builtins || t.runner.cfg.Builtin == nil || len(t.rt.Builtins) == 0 {
		return nil
	}
	return t.runner.cfg.Builtin.Specs(t.rt.Builtins)
}

func (t *Turn) builtin(name string) bool {
	return slices.ContainsFunc(t.builtins(), func(s tool.Spec) bool { return s.Name == name })
}

// callTools runs the calls side by side and steps with their results.
func (t *Turn) callTools(ctx context.Context, calls []engine.Call) []engine.Effect {
	if t.req.Steps {
		for _, c := range calls {
			t.send(Delta{Tool: &ToolEvent{Name: c.Name, CallID: c.ID, Arguments: c.Arguments}})
		}
	}
	if over := t.over(ctx, engine.Usage{}); over != nil { // nothing is called for who has left, or for what was canceled
		clear(t.cleared)
		return t.loop.Step(over)
	}
	results := make([]engine.ToolResult, len(calls))
	if len(calls) == 1 {
		results[0] = t.callTool(ctx, calls[0])
		t.told(calls[0], results[0])
	} else {
		t.sideBySide(ctx, calls, results)
	}
	clear(t.cleared)
	if over := t.over(ctx, engine.Usage{}); over != nil {
		return t.loop.Step(over)
	}
	var effects []engine.Effect
	for _, r := range results {
		effects = append(effects, t.loop.Step(r)...)
	}
	return effects
}

func (t *Turn) sideBySide(ctx context.Context, calls []engine.Call, results []engine.ToolResult) {
	done := make(chan int, len(calls))
	var wg sync.WaitGroup
	places := make(chan struct{}, maxParallel)
	for i, c := range calls {
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			results[i] = t.callTool(ctx, c)
			done <- i
		})
	}
	for range calls {
		i := <-done
		t.told(calls[i], results[i])
	}
	wg.Wait()
}

// told tells the caller that a call has ended.
func (t *Turn) told(c engine.Call, r engine.ToolResult) {
	if t.req.Steps {
		t.send(Delta{Tool: &ToolEvent{Name: c.Name, CallID: c.ID, Done: true, IsError: r.IsError}})
	}
}

// approve asks whether a call needs consent, and notes what it was taken for.
func (t *Turn) approve(c engine.Call) (why string, needed bool) {
	if t.cleared == nil {
		t.cleared = map[string]string{}
	}
	delete(t.cleared, c.ID)
	tl := t.find(c.Name)
	if tl == nil {
		return "", false // callTool refuses it, even if it is back by then
	}
	s := tl.Spec()
	t.cleared[c.ID] = s.Server + "/" + s.Tool
	args := map[string]any{}
	if strings.TrimSpace(c.Arguments) != "" {
		if err := json.Unmarshal([]byte(c.Arguments), &args); err != nil {
			return "its arguments can't be read", true
		}
	}
	return t.rt.Approval.Needs(s.Server, s.Tool, args, t.req.Session, t.req.Principal)
}

// meant reports whether a tool is the one that Approval judged.
func (t *Turn) meant(c engine.Call, s tool.Spec) bool {
	judged, ok := t.cleared[c.ID]
	if !ok {
		return t.rt.Approval == nil
	}
	return judged == s.Server+"/"+s.Tool
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
	if t.builtin(c.Name) {
		return t.callBuiltin(ctx, c)
	}
	tl := t.find(c.Name)
	if tl == nil || !t.meant(c, tl.Spec()) {
		return engine.ToolResult{CallID: c.ID, IsError: true, Text: fmt.Sprintf("there is no tool %q now: it does not exist, is switched off, or its server is lost", c.Name)}
	}
	return t.guarded(ctx, c, tl.Spec(), func(ctx context.Context) (engine.ToolResult, error) {
		out, err := tl.Call(ctx, json.RawMessage(c.Arguments))
		return engine.ToolResult{Text: out.Text, IsError: out.IsError}, err
	})
}

func (t *Turn) callBuiltin(ctx context.Context, c engine.Call) engine.ToolResult {
	return t.guarded(ctx, c, tool.Spec{Name: c.Name, Tool: c.Name}, func(context.Context) (engine.ToolResult, error) {
		return t.runner.cfg.Builtin.Call(c.Name, object(c.Arguments))
	})
}

// guarded performs a call: whatever happens is a result.
func (t *Turn) guarded(ctx context.Context, c engine.Call, s tool.Spec, call func(context.Context) (engine.ToolResult, error)) (res engine.ToolResult) {
	ctx, span := t.runner.toolSpan(ctx, s, c.ID)
	var err error
	defer func() {
		if p := recover(); p != nil {
			t.runner.cfg.Log.LogAttrs(ctx, slog.LevelError, "panic in a tool", slog.String("tool", c.Name), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
			res = engine.ToolResult{CallID: c.ID, IsError: true, Text: "the tool failed internally"}
		}
		endTool(span, res.IsError, err)
	}()
	res, err = call(ctx)
	var args *tool.ArgumentsError
	switch {
	case errors.As(err, &args):
		res = engine.ToolResult{IsError: true, Malformed: true, Text: args.Error() + ". Call the tool again with arguments that fit its schema."}
	case err != nil:
		res = engine.ToolResult{IsError: true, Text: "the tool could not be called: " + err.Error()}
	}
	res.CallID = c.ID
	return res
}
