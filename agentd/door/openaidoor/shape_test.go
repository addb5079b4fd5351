package openaidoor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/memory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
)

// Every chunk has a usage, null but in the last, where it is asked for; else none has.
func TestUsageInStreams(t *testing.T) {
	t.Parallel()
	d := open(t)
	for options, want := range map[string][]string{
		`,"stream_options":{"include_usage":true}`:  {"null", "null", "null", "null", `{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}`},
		`,"stream_options":{"include_usage":false}`: {"", "", "", ""},
		`,"stream_options":null`:                    {"", "", "", ""},
		``:                                          {"", "", "", ""},
	} {
		_, body := d.post(t, `{"stream":true,"messages":[{"role":"user","content":"hi"}]`+options+`}`)
		var got []string
		for line := range strings.Lines(body) {
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok || data == "[DONE]" {
				continue
			}
			var c struct{ Usage json.RawMessage }
			if err := json.Unmarshal([]byte(data), &c); err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			got = append(got, string(c.Usage))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", options, diff)
		}
	}
}

// The front's refusals have the shape that OpenAI's SDKs read.
func TestRefusals(t *testing.T) {
	t.Parallel()
	d := open(t)
	rt := *d.source.rt
	rt.Inbound = run.Inbound{Keys: []run.InboundKey{{Name: "ci", Value: func() secret.Value { return secret.NewValue("k") }}}, PerMinute: 1, Burst: 1, MaxBody: 70}
	d.source.swap(&rt, nil)
	const hi = `{"messages":[{"role":"user","content":"hi"}]}`
	for i, c := range []struct {
		key, body, want string
	}{
		{"", hi, `401 invalid_request_error invalid_api_key`},
		{"Bearer x", hi, `401 invalid_request_error invalid_api_key`},
		{"Bearer k", hi, `200`},
		{"Bearer k", hi, `429 rate_limit_error rate_limit_exceeded`},
	} {
		resp, body := d.post(t, c.body, "Authorization", c.key)
		var e struct {
			Error struct{ Type, Code string }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(fmt.Sprintln(resp.StatusCode, e.Error.Type, e.Error.Code)); got != c.want {
			t.Errorf("%d: %s, want %s: %s", i, got, c.want, body)
		}
	}
	rt.Inbound.PerMinute = 0
	if resp, body := d.post(t, `{"messages":[{"role":"user","content":"`+strings.Repeat("x", 100)+`"}]}`, "Authorization", "Bearer k"); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "larger than 70 bytes") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	d.source.swap(&rt, nil)
}

// An SDK may send again what nothing was done for, and nothing else: its tool calls would be made twice.
func TestWhatMayBeSentAgain(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{}, &model.Error{Code: "unreachable", Message: "no"})
	}
	resp, body := d.post(t, `{"messages":[{"role":"user","content":"hi"}]}`)
	if resp.StatusCode != http.StatusBadGateway || resp.Header.Get("X-Should-Retry") != "false" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
	d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{}, &model.Error{Code: "rate_limited", Message: "no"})
	}
	resp, body = d.post(t, `{"messages":[{"role":"user","content":"hi"}]}`)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("X-Should-Retry") != "" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
}

// Tokens that nobody counted are marked as an estimate, whole and in a stream.
func TestEstimatedUsageIsMarked(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, estimated := range []bool{true, false} {
		d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
			_ = yield(model.Chunk{Text: "hi"}, nil) && yield(model.Chunk{FinishReason: "stop", Usage: &model.Usage{InputTokens: 3, OutputTokens: 1, Estimated: estimated}}, nil)
		}
		for _, stream := range []bool{false, true} {
			resp, body := d.post(t, fmt.Sprintf(`{"stream":%v,"messages":[{"role":"user","content":"hi"}]}`, stream))
			if marked := strings.Contains(body, `"agentry":{"usage_estimated":true}`); resp.StatusCode != http.StatusOK || marked != estimated {
				t.Errorf("estimated %v, stream %v: %d %s", estimated, stream, resp.StatusCode, body)
			}
		}
	}
}

// forgetful is a memory that is gone.
type forgetful struct{ memory.Memory }

func (forgetful) Recall(context.Context, memory.Key, memory.Query) (memory.Recollection, error) {
	return memory.Recollection{}, errs.New(errs.Unavailable, "gone")
}

func TestMemoryGone(t *testing.T) {
	t.Parallel()
	d := open(t)
	rt := *d.source.rt
	rt.Memory = forgetful{rt.Memory}
	d.source.swap(&rt, nil)
	const hi = `{"messages":[{"role":"user","content":"hi"}]}`
	if resp, body := d.post(t, hi, "X-Session-Id", "s"); resp.StatusCode != http.StatusOK || resp.Header.Get("X-Agentry-Memory") != "unavailable" {
		t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
	}
	if resp, _ := d.post(t, hi); resp.Header.Get("X-Agentry-Memory") != "" {
		t.Errorf("without a session: %v", resp.Header)
	}
	failing := rt
	failing.MemoryFail = true
	d.source.swap(&failing, nil)
	if resp, body := d.post(t, hi, "X-Session-Id", "s"); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, `"code":"memory_unavailable"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// A caller who is told of a budget is told what was used.
func TestBudgets(t *testing.T) {
	t.Parallel()
	d := open(t)
	rt := *d.source.rt
	rt.Tokens, rt.MaxIterations = 4, 1
	d.source.swap(&rt, nil)
	d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{ToolCalls: []model.ToolCall{{ID: "1", Name: "none", Arguments: "{}"}}, FinishReason: "tool_calls", Usage: &model.Usage{InputTokens: 5, OutputTokens: 2}}, nil)
	}
	resp, body := d.post(t, `{"messages":[{"role":"user","content":"hi"}]}`)
	if resp.StatusCode != http.StatusUnprocessableEntity || resp.Header.Get("X-Should-Retry") != "false" || !strings.Contains(body, `"used":{"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},"iterations":1,"tool_calls":0}`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}
