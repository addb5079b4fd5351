package openaimodel_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
)

// ask makes a call, and gives its tool calls.
func ask(t *testing.T, m *openaimodel.Model, messages ...model.Message) []model.ToolCall {
	t.Helper()
	got, err := collect(t, m, model.Request{Stream: true, Messages: messages})
	if err != nil {
		t.Fatal(err)
	}
	return got.Calls
}

// What an endpoint wants back with a call goes back to it, and only to it: Gemini's signature, DeepSeek's reasoning.
func TestWhatAnEndpointWantsBack(t *testing.T) {
	t.Parallel()
	calls := sse(
		`{"choices":[{"index":0,"delta":{"reasoning_content":"First "}}]}`, `{"choices":[{"index":0,"delta":{"reasoning_content":"look."}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"f:0","function":{"name":"f","arguments":"{}"},"extra_content":{"google":{"thought_signature":"SIG=="}}}]}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"f:1","function":{"name":"f","arguments":"{}"}}]}}]}`,
		stopChunk, done)
	e := serve(t, calls, calls, sse(text("ok"), stopChunk, done))
	pool := openaimodel.NewTransports(here(t))
	m := open(t, e, func(c *openaimodel.Config) { c.Transports = pool })
	user := model.Message{Role: model.User, Text: "hi"}
	mine, theirs := ask(t, m, user), ask(t, m, user)
	if mine[0].ID == theirs[0].ID || !strings.HasPrefix(mine[0].ID, "f:0~") || mine[1].ID != "f:1" {
		t.Errorf("ids %q and %q: one conversation's must not be another's", mine, theirs)
	}
	// Another Model of the endpoint, as after a change of the config.
	next := open(t, e, func(c *openaimodel.Config) { c.Transports, c.Temperature = pool, new(0.5) })
	_ = ask(t, next, user, model.Message{Role: model.Assistant, ToolCalls: mine},
		model.Message{Role: model.Tool, ToolCallID: mine[0].ID, Text: ""}, model.Message{Role: model.Tool, ToolCallID: mine[1].ID, Text: "x"})
	bodies, _ := e.requests()
	fn := map[string]any{"name": "f", "arguments": "{}"}
	want := []any{
		map[string]any{"role": "user", "content": "hi"},
		map[string]any{"role": "assistant", "content": nil, "reasoning_content": "First look.", "tool_calls": []any{
			map[string]any{"id": "f:0", "type": "function", "function": fn, "extra_content": map[string]any{"google": map[string]any{"thought_signature": "SIG=="}}},
			map[string]any{"id": "f:1", "type": "function", "function": fn},
		}},
		map[string]any{"role": "tool", "tool_call_id": "f:0", "content": ""},
		map[string]any{"role": "tool", "tool_call_id": "f:1", "content": "x"},
	}
	if diff := cmp.Diff(want, bodies[2]["messages"]); diff != "" {
		t.Errorf("sent back (-want +got):\n%s", diff)
	}
	other := serve(t, sse(text("ok"), stopChunk, done))
	_ = ask(t, open(t, other, func(c *openaimodel.Config) { c.Transports = pool }), user, model.Message{Role: model.Assistant, ToolCalls: mine})
	bodies, _ = other.requests()
	want = []any{
		map[string]any{"role": "user", "content": "hi"},
		map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{
			map[string]any{"id": "f:0", "type": "function", "function": fn}, map[string]any{"id": "f:1", "type": "function", "function": fn},
		}},
	}
	if diff := cmp.Diff(want, bodies[0]["messages"]); diff != "" {
		t.Errorf("another endpoint got (-want +got):\n%s", diff)
	}
}

// An endpoint that refuses the usual way and says what it wants gets that, at once and from then on.
func TestLearnsFromRefusals(t *testing.T) {
	t.Parallel()
	conversation := []model.Message{{Role: model.User, Text: "hi"}, {Role: model.Assistant, ToolCalls: []model.ToolCall{{ID: "a", Name: "f"}}}, {Role: model.Tool, ToolCallID: "a", Text: "x"}}
	assistant := func(body map[string]any) map[string]any {
		list, _ := body["messages"].([]any)
		m, _ := list[1].(map[string]any)
		return m
	}
	for name, tc := range map[string]struct {
		says   string
		before func(map[string]any) bool
		after  func(map[string]any) bool
	}{
		"max_completion_tokens": {
			says:   "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
			before: func(b map[string]any) bool { return b["max_tokens"] == 9.0 && b["max_completion_tokens"] == nil },
			after:  func(b map[string]any) bool { return b["max_tokens"] == nil && b["max_completion_tokens"] == 9.0 },
		},
		"reasoning_content": {
			says:   "The reasoning_content in the thinking mode must be passed back to the API.",
			before: func(b map[string]any) bool { return assistant(b)["reasoning_content"] == nil },
			after:  func(b map[string]any) bool { return assistant(b)["reasoning_content"] == "" },
		},
		"thought_signature": {
			says: "Function call is missing a thought_signature in functionCall parts.",
			before: func(b map[string]any) bool {
				calls, _ := assistant(b)["tool_calls"].([]any)
				call, _ := calls[0].(map[string]any)
				return call["extra_content"] == nil
			},
			after: func(b map[string]any) bool {
				calls, _ := assistant(b)["tool_calls"].([]any)
				call, _ := calls[0].(map[string]any)
				return call["extra_content"] != nil
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refusal := status(http.StatusBadRequest, "", `{"error":{"message":"`+tc.says+`"}}`)
			e := serve(t, refusal, sse(text("ok"), stopChunk, done))
			m := open(t, e, func(c *openaimodel.Config) { c.Attempts, c.MaxTokens = 1, new(9) })
			for range 2 {
				_ = ask(t, m, conversation...)
			}
			bodies, _ := e.requests()
			if len(bodies) != 3 || !tc.before(bodies[0]) || !tc.after(bodies[1]) || !tc.after(bodies[2]) {
				t.Errorf("%d requests: %v", len(bodies), bodies)
			}
			stubborn := serve(t, refusal)
			if _, err := collect(t, open(t, stubborn, nil), model.Request{Stream: true, Messages: conversation}); err == nil {
				t.Error("no error from one that refuses both ways")
			}
			if bodies, _ := stubborn.requests(); len(bodies) != 2 {
				t.Errorf("%d requests to one that refuses both ways, want 2", len(bodies))
			}
		})
	}
}
