package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

// TestBudgetsAreExact: a model that always asks for a tool is stopped at the very call, with an error that says what was used.
func TestBudgetsAreExact(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mutate        func(*run.Runtime)
		same          bool // always with the same arguments
		code          string
		models, tools int
		says          string
	}{
		"iterations":         {func(rt *run.Runtime) { rt.MaxIterations = 4 }, false, run.CodeMaxIterations, 4, 3, "maxIterations"},
		"tool calls":         {func(rt *run.Runtime) { rt.ToolCalls = 5 }, false, run.CodeToolCalls, 6, 5, "limits.toolCalls"},
		"tokens, on the dot": {func(rt *run.Runtime) { rt.Tokens = 50 }, false, run.CodeTokens, 5, 4, "limits.tokens"},
		"tokens":             {func(rt *run.Runtime) { rt.Tokens = 51 }, false, run.CodeTokens, 6, 5, "60 of 51"},
		"cost, on the dot":   {func(rt *run.Runtime) { rt.CostUSD = 0.75 }, false, run.CodeCost, 3, 2, "limits.costUsd"},
		"cost":               {func(rt *run.Runtime) { rt.CostUSD = 0.8 }, false, run.CodeCost, 4, 3, "1 of 0.8 USD"},
		"same call":          {func(rt *run.Runtime) { rt.SameCall = 3 }, true, run.CodeSameCall, 4, 3, "limits.sameCall"},
		"other calls":        {func(rt *run.Runtime) { rt.SameCall = 1; rt.MaxIterations = 7 }, false, run.CodeMaxIterations, 7, 6, "always x6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			called := 0
			always := &fakeTool{"always", func(context.Context, json.RawMessage) (tool.Result, error) {
				called++
				return tool.Result{Text: "again"}, nil
			}}
			n := 0
			b := open(t, func(rt *run.Runtime) {
				rt.Tools, rt.MaxIterations = set(always), 100
				tc.mutate(rt)
			}, func(ctx context.Context, yield func(model.Chunk, error) bool) {
				args := `{"x":1}`
				if n++; !tc.same {
					args = fmt.Sprintf(`{"x":%d}`, n)
				}
				chunks(model.Chunk{
					ToolCalls: []model.ToolCall{{ID: "1", Name: "always", Arguments: args}}, FinishReason: "tool_calls",
					Usage: &model.Usage{InputTokens: 7, OutputTokens: 3, CostUSD: 0.25},
				})(ctx, yield)
			})
			_, err := b.do(t, user("q"))
			message := code(t, err, tc.code, errs.Exhausted)
			var e *run.Error
			errors.As(err, &e)
			r := e.Result
			if len(b.model.calls) != tc.models || called != tc.tools || r.Iterations != tc.models || len(r.Steps) != tc.tools {
				t.Errorf("%d model and %d tool calls, told %d and %d; want %d and %d", len(b.model.calls), called, r.Iterations, len(r.Steps), tc.models, tc.tools)
			}
			if want := (engine.Usage{Input: int64(7 * tc.models), Output: int64(3 * tc.models), CostUSD: 0.25 * float64(tc.models)}); r.Usage != want {
				t.Errorf("used %+v, want %+v", r.Usage, want)
			}
			if !strings.Contains(message, tc.says) {
				t.Errorf("message %q, want %q in it", message, tc.says)
			}
		})
	}
}

// TestWallTimeInATool: the wall time ends a request in the middle of a tool call, at its second.
func TestWallTimeInATool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := &fakeTool{"hang", func(ctx context.Context, _ json.RawMessage) (tool.Result, error) {
			<-ctx.Done()
			return tool.Result{}, context.Cause(ctx)
		}}
		b := open(t, func(rt *run.Runtime) { rt.Tools, rt.WallTime = set(hang), 7*time.Second }, ask(model.ToolCall{ID: "1", Name: "hang"}))
		started := time.Now()
		_, err := b.do(t, user("q"))
		code(t, err, run.CodeDeadline, errs.Timeout)
		var e *run.Error
		if errors.As(err, &e); e.Result.Iterations != 1 || e.Result.Usage.Total() != 5 {
			t.Errorf("used %+v", e.Result)
		}
		if took := time.Since(started); took != 7*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestSteps: a caller that wants them sees each call begin and end, in its own goroutine; others see none.
func TestSteps(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		first := make(chan struct{})
		b := open(t, func(rt *run.Runtime) {
			rt.Tools = set(
				&fakeTool{"slow", func(context.Context, json.RawMessage) (tool.Result, error) {
					<-first
					return tool.Result{Text: "no", IsError: true}, nil
				}},
				&fakeTool{"fast", func(context.Context, json.RawMessage) (tool.Result, error) { return tool.Result{}, nil }})
		}, ask(model.ToolCall{ID: "1", Name: "slow", Arguments: `{"x":1}`}, model.ToolCall{ID: "2", Name: "fast"}), say("ok"))
		req := user("q")
		req.Steps = wanted
		turn, err := b.Start(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if !wanted {
			close(first)
		}
		var got []string
		if _, err := turn.Do(t.Context(), func(d run.Delta) error {
			if d.Tool == nil {
				return nil
			}
			got = append(got, fmt.Sprintf("%s %s %s %v %v", d.Tool.CallID, d.Tool.Name, d.Tool.Arguments, d.Tool.Done, d.Tool.IsError))
			if d.Tool.Name == "fast" && d.Tool.Done { // it is told while the other one still runs
				close(first)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		want := []string{`1 slow {"x":1} false false`, "2 fast  false false", "2 fast  true false", "1 slow  true true"}
		if !wanted {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("steps wanted %v: %q, want %q", wanted, got, want)
		}
	}
}

func TestImagesAndFormatReachTheModel(t *testing.T) {
	t.Parallel()
	b := open(t, nil, say("a cat"))
	req := run.Request{
		Messages: []engine.Message{{Role: engine.User, Text: "what is it?", Images: []engine.Image{{URL: "https://example.org/cat.png", Detail: "low"}}}},
		Format:   model.ResponseFormat{Type: "json_object"}, Stop: []string{"END"},
	}
	if _, err := b.do(t, req); err != nil {
		t.Fatal(err)
	}
	got := b.model.calls[0]
	if images := got.Messages[1].Images; len(images) != 1 || images[0] != (model.Image{URL: "https://example.org/cat.png", Detail: "low"}) || got.Format.Type != "json_object" || !slices.Equal(got.Stop, []string{"END"}) {
		t.Errorf("the model got %+v", got)
	}
}

// An answer that broke off was paid for: the failed run's usage says so.
func TestUsageOfABrokenAnswer(t *testing.T) {
	t.Parallel()
	b := open(t, nil, func(_ context.Context, yield func(model.Chunk, error) bool) {
		if yield(model.Chunk{Text: "par"}, nil) {
			yield(model.Chunk{Usage: &model.Usage{InputTokens: 7, OutputTokens: 1, Estimated: true, CostUSD: 0.5}}, &model.Error{Code: "unreachable", Message: "gone"})
		}
	})
	_, err := b.do(t, run.Request{Messages: []engine.Message{{Role: engine.User, Text: "hi"}}})
	var e *run.Error
	if !errors.As(err, &e) {
		t.Fatalf("err = %v", err)
	}
	if want := (engine.Usage{Input: 7, Output: 1, Estimated: true, CostUSD: 0.5}); e.Result.Usage != want {
		t.Errorf("used %+v, want %+v", e.Result.Usage, want)
	}
}
