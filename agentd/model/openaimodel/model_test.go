package openaimodel_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/secret"
)

// endpoint answers the n-th request with the n-th handler (the last one again and again) and keeps the requests.
type endpoint struct {
	*httptest.Server
	mu      sync.Mutex
	bodies  []map[string]any
	headers []http.Header
}

func serve(t *testing.T, handlers ...http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var body map[string]any
		if err := json.Unmarshal(raw, &body); err != nil {
			t.Errorf("the request is no JSON: %v: %s", err, raw)
		}
		e.mu.Lock()
		n := len(e.bodies)
		e.bodies = append(e.bodies, body)
		e.headers = append(e.headers, r.Header)
		e.mu.Unlock()
		handlers[min(n, len(handlers)-1)](w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) requests() ([]map[string]any, []http.Header) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bodies, e.headers
}

func sse(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, l := range lines {
			_, _ = fmt.Fprintf(w, "data: %s\n\n", l)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func status(code int, retryAfter, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func text(s string) string {
	return fmt.Sprintf(`{"model":"m-1","choices":[{"index":0,"delta":{"content":%q}}]}`, s)
}

const (
	stopChunk  = `{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	usageChunk = `{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2}}`
	done       = "[DONE]"
)

// here goes to this machine, where the tests' endpoints are.
func here(t *testing.T) *egress.Guard {
	t.Helper()
	p, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	return egress.New(egress.Config{Policy: p})
}

func open(t *testing.T, e *endpoint, mutate func(*openaimodel.Config)) *openaimodel.Model {
	t.Helper()
	cfg := openaimodel.Config{Model: "qwen-plus", BaseURL: e.URL + "/v1", Backoff: time.Millisecond, Timeout: 5 * time.Second}
	cfg.Transports = openaimodel.NewTransports(here(t))
	if mutate != nil {
		mutate(&cfg)
	}
	m, err := openaimodel.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

type outcome struct {
	Text, Reasoning, Finish, Model string
	Calls                          []model.ToolCall
	Usage                          model.Usage
}

func collect(t *testing.T, m *openaimodel.Model, r model.Request) (outcome, error) {
	t.Helper()
	if r.Messages == nil {
		r.Messages = []model.Message{{Role: model.User, Text: "hi"}}
	}
	var o outcome
	for c, err := range m.Generate(t.Context(), r) {
		if err != nil {
			return o, err
		}
		o.Text += c.Text
		o.Reasoning += c.Reasoning
		o.Calls = append(o.Calls, c.ToolCalls...)
		if c.Usage != nil {
			o.Usage, o.Finish, o.Model = *c.Usage, c.FinishReason, c.Model
		}
	}
	return o, nil
}

func TestRequestBody(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg  func(*openaimodel.Config)
		req  model.Request
		want map[string]any
	}{
		"temperature zero is sent": {
			cfg:  func(c *openaimodel.Config) { c.Temperature = new(0.0) },
			want: map[string]any{"temperature": 0.0, "stream": false},
		},
		"everything": {
			cfg: func(c *openaimodel.Config) {
				c.Temperature, c.TopP, c.MaxTokens, c.Seed, c.Stop = new(0.8), new(0.5), new(64), new(int64(7)), []string{"END"}
				c.ExtraBody = json.RawMessage(`{"enable_search":true,"temperature":0.1,"nested":{"a":[1,2]}}`)
				c.SendMetadata = true
			},
			req: model.Request{Stream: true, Stop: []string{"X"}, Metadata: map[string]string{"k": "v"}},
			want: map[string]any{
				"temperature": 0.1, "top_p": 0.5, "max_tokens": 64.0, "seed": 7.0, "stop": []any{"END", "X"}, "enable_search": true,
				"nested": map[string]any{"a": []any{1.0, 2.0}}, "metadata": map[string]any{"k": "v"},
				"stream": true, "stream_options": map[string]any{"include_usage": true},
			},
		},
		"a schema": {
			req: model.Request{Stream: true, Format: model.ResponseFormat{Type: "json_schema", Name: "ticket", Schema: json.RawMessage(`{"type":"object"}`), Strict: new(true)}},
			want: map[string]any{
				"stream": true, "stream_options": map[string]any{"include_usage": true},
				"response_format": map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": "ticket", "schema": map[string]any{"type": "object"}, "strict": true}},
			},
		},
		"any JSON": {
			req:  model.Request{Format: model.ResponseFormat{Type: "json_object"}},
			want: map[string]any{"stream": false, "response_format": map[string]any{"type": "json_object"}},
		},
		"text is no format": {
			req:  model.Request{Format: model.ResponseFormat{Type: "text"}},
			want: map[string]any{"stream": false},
		},
		"a null leaves out": {
			cfg: func(c *openaimodel.Config) {
				c.Temperature, c.ExtraBody = new(0.8), json.RawMessage(`{"temperature":null,"stream_options":null,"response_format":null}`)
			},
			req:  model.Request{Stream: true, Format: model.ResponseFormat{Type: "json_object"}},
			want: map[string]any{"stream": true},
		},
		"metadata only where asked for": {
			req:  model.Request{Metadata: map[string]string{"k": "v"}},
			want: map[string]any{"stream": false},
		},
		"a model name that the library refuses": {
			cfg:  func(c *openaimodel.Config) { c.Model = `o1-"x"`; c.MaxTokens = new(5) },
			want: map[string]any{"model": `o1-"x"`, "max_tokens": 5.0, "stream": false},
		},
		"another": {
			cfg:  func(c *openaimodel.Config) { c.Model = "text-davinci-003" },
			want: map[string]any{"model": "text-davinci-003", "stream": false},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := status(200, "", `{"model":"m","choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}`)
			if tc.req.Stream {
				answer = sse(text("ok"), stopChunk, done)
			}
			e := serve(t, answer)
			if _, err := collect(t, open(t, e, tc.cfg), tc.req); err != nil {
				t.Fatal(err)
			}
			bodies, _ := e.requests()
			got := bodies[0]
			delete(got, "messages")
			if _, ok := tc.want["model"]; !ok {
				tc.want["model"] = "qwen-plus"
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	e := serve(t, sse(text("ok"), stopChunk, done))
	key := "sk-first-key"
	m := open(t, e, func(c *openaimodel.Config) {
		c.APIKey = func() secret.Value { return secret.NewValue(key) }
		c.Headers = map[string]func() secret.Value{"X-Team": func() secret.Value { return secret.NewValue("ops") }}
	})
	req := model.Request{
		Stream: true,
		Messages: []model.Message{
			{Role: model.System, Text: "You help."},
			{Role: model.User, Text: "配置?"},
			{Role: model.Assistant, ToolCalls: []model.ToolCall{{ID: "c1", Name: "nacos__get"}}},
			{Role: model.Tool, ToolCallID: "c1", Text: "found"},
		},
		Tools: []model.ToolSpec{{Name: "nacos__get", Description: "get", Schema: json.RawMessage(`{"type":"object","anyOf":[{}]}`)}, {Name: "bare"}},
	}
	for range 2 {
		if _, err := collect(t, m, req); err != nil {
			t.Fatal(err)
		}
		key = "sk-rotated"
	}
	bodies, headers := e.requests()
	want := map[string]any{
		"messages": []any{
			map[string]any{"role": "system", "content": "You help."},
			map[string]any{"role": "user", "content": "配置?"},
			map[string]any{"role": "assistant", "content": nil, "tool_calls": []any{map[string]any{"id": "c1", "type": "function", "function": map[string]any{"name": "nacos__get", "arguments": "{}"}}}},
			map[string]any{"role": "tool", "content": "found", "tool_call_id": "c1"},
		},
		"tools": []any{
			map[string]any{"type": "function", "function": map[string]any{"name": "nacos__get", "description": "get", "parameters": map[string]any{"type": "object", "anyOf": []any{map[string]any{}}}}},
			map[string]any{"type": "function", "function": map[string]any{"name": "bare", "parameters": map[string]any{"type": "object", "properties": map[string]any{}}}},
		},
	}
	got := map[string]any{"messages": bodies[0]["messages"], "tools": bodies[0]["tools"]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if a, b := headers[0].Get("Authorization"), headers[1].Get("Authorization"); a != "Bearer sk-first-key" || b != "Bearer sk-rotated" {
		t.Errorf("Authorization = %q, then %q: the key must be asked at every call", a, b)
	}
	if headers[0].Get("X-Team") != "ops" {
		t.Errorf("headers: %v", headers[0])
	}
}

func TestImages(t *testing.T) {
	t.Parallel()
	e := serve(t, sse(text("a cat"), stopChunk, done))
	got, err := collect(t, open(t, e, nil), model.Request{Stream: true, Messages: []model.Message{
		{Role: model.User, Text: "what is it?", Images: []model.Image{{URL: "https://example.org/cat.png"}, {URL: "data:image/png;base64,AAAA", Detail: "low"}}},
		{Role: model.User, Images: []model.Image{{URL: "https://example.org/dog.png"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got.Usage.InputTokens < 2000 {
		t.Errorf("three pictures are estimated at %d tokens", got.Usage.InputTokens)
	}
	picture := func(url string, more ...string) map[string]any {
		m := map[string]any{"url": url}
		if len(more) > 0 {
			m["detail"] = more[0]
		}
		return map[string]any{"type": "image_url", "image_url": m}
	}
	want := []any{
		map[string]any{"role": "user", "content": []any{
			map[string]any{"type": "text", "text": "what is it?"}, picture("https://example.org/cat.png"), picture("data:image/png;base64,AAAA", "low"),
		}},
		map[string]any{"role": "user", "content": []any{picture("https://example.org/dog.png")}},
	}
	bodies, _ := e.requests()
	if diff := cmp.Diff(want, bodies[0]["messages"]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	call := func(delta string) string {
		return `{"choices":[{"index":0,"delta":{"tool_calls":[` + delta + `]}}]}`
	}
	stopCalls := `{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`
	given := model.Usage{InputTokens: 7, OutputTokens: 2}
	for name, tc := range map[string]struct {
		lines []string
		whole string
		want  outcome
	}{
		"text with usage": {
			lines: []string{text("Hal"), text("lo"), stopChunk, usageChunk, done},
			want:  outcome{Text: "Hallo", Finish: "stop", Model: "m-1", Usage: given},
		},
		"usage estimated, no [DONE]": {
			lines: []string{text("Hallo"), stopChunk},
			want:  outcome{Text: "Hallo", Finish: "stop", Model: "m-1", Usage: model.Usage{InputTokens: 5, OutputTokens: 2, Estimated: true}},
		},
		"[DONE] without a finish reason": {
			lines: []string{text("Hallo"), usageChunk, done},
			want:  outcome{Text: "Hallo", Finish: "stop", Model: "m-1", Usage: given},
		},
		"reasoning under both names": {
			lines: []string{`{"choices":[{"delta":{"reasoning":"hm "}}]}`, `{"choices":[{"delta":{"reasoning_content":"so"}}]}`, text("x"), stopChunk, usageChunk, done},
			want:  outcome{Text: "x", Reasoning: "hm so", Finish: "stop", Model: "m-1", Usage: given},
		},
		"parallel calls by index": {
			lines: []string{
				call(`{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}`), call(`{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}`),
				call(`{"index":0,"function":{"arguments":"{\"x\""}}`), call(`{"index":1,"function":{"arguments":"}"}}`), call(`{"index":0,"function":{"arguments":":1}"}}`), stopCalls, usageChunk, done,
			},
			want: outcome{Finish: "tool_calls", Usage: given, Calls: []model.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "g", Arguments: "{}"}}},
		},
		"calls without an index": {
			lines: []string{call(`{"id":"a","function":{"name":"f","arguments":"{\"x\":"}}`), call(`{"function":{"arguments":"1}"}}`), call(`{"id":"b","function":{"name":"f","arguments":"{}"}}`), stopCalls, usageChunk, done},
			want:  outcome{Finish: "tool_calls", Usage: given, Calls: []model.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "f", Arguments: "{}"}}},
		},
		"index zero for every call, stop as the reason, arguments as an object": {
			lines: []string{call(`{"index":0,"id":"a","function":{"name":"f","arguments":{"x":1}}}`), call(`{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}`), stopChunk, usageChunk, done},
			want:  outcome{Finish: "tool_calls", Usage: given, Calls: []model.ToolCall{{ID: "a", Name: "f", Arguments: `{"x":1}`}, {ID: "b", Name: "g", Arguments: "{}"}}},
		},
		"not streamed": {
			whole: `{"model":"m-1","choices":[{"message":{"role":"assistant","content":"Hallo","reasoning":"hm"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}`,
			want:  outcome{Text: "Hallo", Reasoning: "hm", Finish: "stop", Model: "m-1", Usage: given},
		},
		"not streamed, a call": {
			whole: `{"model":"m-1","choices":[{"message":{"content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}`,
			want:  outcome{Finish: "tool_calls", Model: "m-1", Usage: given, Calls: []model.ToolCall{{ID: "a", Name: "f", Arguments: "{}"}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := sse(tc.lines...)
			if tc.whole != "" {
				h = status(200, "", tc.whole)
			}
			got, err := collect(t, open(t, serve(t, h), nil), model.Request{Stream: tc.whole == ""})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCallsWithoutIDs(t *testing.T) {
	t.Parallel()
	e := serve(t, sse(
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":1}"}}]}}]}`,
		`{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"x\":2}"}}]}}]}`,
		stopChunk, done))
	got, err := collect(t, open(t, e, nil), model.Request{Stream: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Calls) != 2 || got.Calls[0].ID == "" || got.Calls[0].ID == got.Calls[1].ID || got.Calls[1].Arguments != `{"x":2}` {
		t.Errorf("calls = %+v", got.Calls)
	}
}
