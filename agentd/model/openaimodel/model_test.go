package openaimodel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
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

func open(t *testing.T, e *endpoint, mutate func(*openaimodel.Config)) *openaimodel.Model {
	t.Helper()
	cfg := openaimodel.Config{Model: "qwen-plus", BaseURL: e.URL + "/v1", Backoff: time.Millisecond, Timeout: 5 * time.Second}
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
			map[string]any{"role": "assistant", "tool_calls": []any{map[string]any{"id": "c1", "type": "function", "function": map[string]any{"name": "nacos__get", "arguments": "{}"}}}},
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

func TestFailures(t *testing.T) {
	t.Parallel()
	ok := sse(text("ok"), stopChunk, usageChunk, done)
	for name, tc := range map[string]struct {
		handlers []http.HandlerFunc
		code     string // "": succeeds in the end
		attempts int
		says     string
		timeout  time.Duration
	}{
		"429 with Retry-After, then fine": {handlers: []http.HandlerFunc{status(429, "0.01", `{"error":{"message":"slow down"}}`), ok}, attempts: 2},
		"500 and 503, then fine":          {handlers: []http.HandlerFunc{status(500, "", "oops"), status(503, "", ""), ok}, attempts: 3},
		"429 for ever":                    {handlers: []http.HandlerFunc{status(429, "0.001", `{"error":{"message":"slow down"}}`)}, code: "rate_limited", attempts: 3, says: "slow down"},
		"a long Retry-After is not waited for": {
			handlers: []http.HandlerFunc{status(429, "3600", "{}")}, code: "rate_limited", attempts: 1,
		},
		"500 for ever": {handlers: []http.HandlerFunc{status(500, "", "oops")}, code: "http_5xx", attempts: 3, says: "oops"},
		"401 is not tried again": {
			handlers: []http.HandlerFunc{status(401, "", `{"error":{"message":"Incorrect API key provided: sk-planted-key"}}`)}, code: "unauthorized", attempts: 1, says: "[redacted]",
		},
		"no such model":  {handlers: []http.HandlerFunc{status(404, "", `{"error":{"message":"no such model"}}`)}, code: "invalid", attempts: 1, says: "no such model"},
		"context length": {handlers: []http.HandlerFunc{status(400, "", `{"error":{"message":"too long","code":"context_length_exceeded"}}`)}, code: "context_length", attempts: 1},
		"quota":          {handlers: []http.HandlerFunc{status(429, "", `{"error":{"message":"pay","code":"insufficient_quota"}}`)}, code: "rate_limited", attempts: 1},
		"a redirect":     {handlers: []http.HandlerFunc{status(302, "", "")}, code: "http_5xx", attempts: 3},
		"an error in the stream before any text": {
			handlers: []http.HandlerFunc{sse(`{"error":{"message":"overloaded","type":"server_error"}}`), ok}, attempts: 2,
		},
		"an error in the stream after text": {
			handlers: []http.HandlerFunc{sse(text("par"), `{"error":{"message":"overloaded","code":429}}`), ok}, code: "rate_limited", attempts: 1, says: "overloaded",
		},
		"a stream that ends early":           {handlers: []http.HandlerFunc{sse(text("par")), ok}, code: "unreachable", attempts: 1, says: "ended before"},
		"a stream that ends before any text": {handlers: []http.HandlerFunc{sse(), ok}, attempts: 2},
		"a stream of rubbish":                {handlers: []http.HandlerFunc{sse(text("par"), "{broken"), ok}, code: "unreachable", attempts: 1, says: "no chunk"},
		"JSON where a stream was asked for":  {handlers: []http.HandlerFunc{status(200, "", `{"choices":[]}`)}, code: "invalid", attempts: 1, says: "asked for a stream"},
		"a connection cut in the stream": {
			handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				sse(text("par"))(w, r)
				panic(http.ErrAbortHandler)
			}},
			code: "unreachable", attempts: 1,
		},
		"silence in the stream": {
			handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				sse(text("par"))(w, r)
				<-r.Context().Done()
			}},
			code: "timeout", attempts: 1, says: "went silent",
		},
		// A stream that went silent was waited for a minute, whatever the model's timeout.
		"silence in the stream with the model's timeout only": {
			handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
				sse(text("par"))(w, r)
				<-r.Context().Done()
			}},
			code: "timeout", attempts: 1, says: "went silent", timeout: 2 * time.Second,
		},
		"no answer at all": {
			handlers: []http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, code: "timeout", attempts: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, tc.handlers...)
			m := open(t, e, func(c *openaimodel.Config) {
				if tc.timeout > 0 {
					c.Timeout = tc.timeout
				} else if tc.code == "timeout" {
					c.Timeout, c.IdleTimeout = 200*time.Millisecond, 100*time.Millisecond
					if tc.attempts == 1 { // text came: only the silence after it counts
						c.Timeout = 10 * time.Second
					}
				}
				c.APIKey = func() secret.Value { return secret.NewValue("sk-planted-key") }
			})
			got, err := collect(t, m, model.Request{Stream: true})
			if bodies, _ := e.requests(); len(bodies) != tc.attempts {
				t.Errorf("%d requests, want %d", len(bodies), tc.attempts)
			}
			if tc.code == "" {
				if err != nil || got.Text != "ok" {
					t.Errorf("got %+v, %v", got, err)
				}
				return
			}
			var e2 *model.Error
			if !errors.As(err, &e2) {
				t.Fatalf("err = %v, want a *model.Error", err)
			}
			if e2.Code != tc.code || len(e2.Attempts) != tc.attempts || !strings.Contains(e2.Message, tc.says) {
				t.Errorf("code %q, %d attempts, %q; want %q, %d, %q", e2.Code, len(e2.Attempts), e2.Message, tc.code, tc.attempts, tc.says)
			}
			if strings.Contains(fmt.Sprintf("%+v", e2), "sk-planted-key") {
				t.Errorf("the key is in the error: %+v", e2)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	e := serve(t, status(200, "", "{}"))
	m := open(t, e, nil)
	e.Close()
	_, err := collect(t, m, model.Request{})
	var e2 *model.Error
	if !errors.As(err, &e2) || e2.Code != "unreachable" || len(e2.Attempts) != 3 || e2.Attempts[0].Status != 0 {
		t.Errorf("err = %+v", err)
	}
}

// The reader stops, or its context ends: the call at the endpoint is cancelled.
func TestCancel(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sse(text("one"))(w, r)
		<-r.Context().Done()
		gone <- struct{}{}
	})
	m := open(t, e, nil)
	for c, err := range m.Generate(t.Context(), model.Request{Stream: true, Messages: []model.Message{{Role: model.User, Text: "hi"}}}) {
		if err != nil || c.Text != "one" {
			t.Fatalf("chunk %+v, %v", c, err)
		}
		break
	}
	<-gone
}

// The first token is there before the last was sent.
func TestStreamsThrough(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		sse(text("first"))(w, r)
		<-read
		sse(text("last"), stopChunk, done)(w, r)
	})
	seen := 0
	for c, err := range open(t, e, nil).Generate(t.Context(), model.Request{Stream: true, Messages: []model.Message{{Role: model.User, Text: "hi"}}}) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Text == "first" {
			close(read)
		}
		seen++
	}
	if seen != 3 {
		t.Errorf("%d chunks, want 3", seen)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]openaimodel.Config{
		"no model":         {BaseURL: "http://h/v1"},
		"no URL":           {Model: "m"},
		"another scheme":   {Model: "m", BaseURL: "ftp://h"},
		"extraBody list":   {Model: "m", BaseURL: "http://h/v1", ExtraBody: json.RawMessage(`[]`)},
		"extraBody stream": {Model: "m", BaseURL: "http://h/v1", ExtraBody: json.RawMessage(`{"stream":true}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := openaimodel.New(cfg); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// Two models of one base URL use one connection pool; it outlives the first.
func TestTransportsAreShared(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	conns := map[string]bool{}
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		conns[r.RemoteAddr] = true
		mu.Unlock()
		sse(text("ok"), stopChunk, done)(w, r)
	})
	pool := openaimodel.NewTransports()
	share := func(c *openaimodel.Config) { c.Transports = pool }
	keep := open(t, e, share)
	for range 5 {
		m := open(t, e, share)
		if _, err := collect(t, m, model.Request{Stream: true}); err != nil {
			t.Fatal(err)
		}
		m.Close()
		m.Close()
	}
	if _, err := collect(t, keep, model.Request{Stream: true}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(conns) != 1 {
		t.Errorf("%d connections, want 1", len(conns))
	}
}
