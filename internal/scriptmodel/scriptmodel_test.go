package scriptmodel_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/sashabaranov/go-openai"

	"github.com/agentry/agentry/internal/scriptmodel"
)

const nacos = `
models: [qwen-plus-latest]
rules:
  - name: answer
    when: {toolResult: /timeout=(\d+)/}
    reply:
      text: "The timeout is {{1}} ms, says {{model}} at {{temperature}}."
      usage: {promptTokens: 11, completionTokens: 7}
  - name: limited
    when: {user: limited}
    fault: {status: 429, retryAfter: 1500ms, times: 1}
    reply: {text: free again}
  - name: broken
    when: {user: broken}
    fault: {brokenSSE: true}
  - name: wrong
    when: {user: wrong}
    fault: {wrongJSON: true}
  - name: half
    when: {user: half}
    fault: {halfOpen: true}
    reply: {text: "one two three four five six", pace: {chunk: 4}}
  - name: once
    when: {user: once}
    fault: {status: 500, times: 1}
  - name: ask
    when:
      user: /config of (\S+)/
      tools: [getConfig, "!dropTable"]
    reply:
      toolCalls:
        - {name: getConfig, arguments: {dataId: "{{1}}", deep: [1, "{{user}}"]}}
  - name: second
    when: {turn: 2, system: 你是}
    reply: {text: "turn {{turn}} for {{metadata.who}}: {{tools}}"}
default:
  text: "echo: {{user}}"
`

// serve starts a server and a client of it.
func serve(t *testing.T, script string) (*scriptmodel.Server, *openai.Client, string) {
	t.Helper()
	s, err := scriptmodel.ParseScript([]byte(script))
	if err != nil {
		t.Fatal(err)
	}
	srv := scriptmodel.New(s)
	hs := httptest.NewServer(srv)
	transport := &http.Transport{}
	t.Cleanup(func() {
		srv.Close()
		transport.CloseIdleConnections()
		hs.Close()
	})
	cfg := openai.DefaultConfig("sk-planted-1234")
	cfg.BaseURL = hs.URL + "/v1"
	cfg.HTTPClient = &http.Client{Transport: transport}
	return srv, openai.NewClientWithConfig(cfg), hs.URL
}

func user(texts ...string) []openai.ChatCompletionMessage {
	msgs := []openai.ChatCompletionMessage{{Role: "system", Content: "你是 Nacos 助手"}}
	for i, text := range texts {
		if i > 0 {
			msgs = append(msgs, openai.ChatCompletionMessage{Role: "assistant", Content: "ok"})
		}
		msgs = append(msgs, openai.ChatCompletionMessage{Role: "user", Content: text})
	}
	return msgs
}

var getConfig = openai.Tool{Type: "function", Function: &openai.FunctionDefinition{Name: "nacos__getConfig", Description: "reads", Parameters: json.RawMessage(`{"type":"object"}`)}}

// collect reads a stream to its end.
func collect(t *testing.T, c *openai.Client, req openai.ChatCompletionRequest) (text string, calls []openai.ToolCall, finish string, usage *openai.Usage, err error) {
	t.Helper()
	s, err := c.CreateChatCompletionStream(t.Context(), req)
	if err != nil {
		return "", nil, "", nil, err
	}
	defer func() { _ = s.Close() }()
	for {
		chunk, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return text, calls, finish, usage, nil
		}
		if err != nil {
			return text, calls, finish, usage, err
		}
		if chunk.Usage != nil {
			usage = chunk.Usage
		}
		for _, ch := range chunk.Choices {
			text += ch.Delta.Content
			if ch.FinishReason != "" {
				finish = string(ch.FinishReason)
			}
			for _, d := range ch.Delta.ToolCalls {
				if d.ID != "" {
					calls = append(calls, d)
					continue
				}
				calls[*d.Index].Function.Arguments += d.Function.Arguments
			}
		}
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	withTool := openai.ChatCompletionRequest{Model: "qwen", Temperature: 0.5, Messages: user("show the config of app.yaml"), Tools: []openai.Tool{getConfig}}
	afterTool := withTool
	afterTool.Messages = append(user("show the config of app.yaml"),
		openai.ChatCompletionMessage{Role: "assistant", ToolCalls: []openai.ToolCall{{ID: "c1", Type: "function", Function: openai.FunctionCall{Name: "nacos__getConfig", Arguments: "{}"}}}},
		openai.ChatCompletionMessage{Role: "tool", ToolCallID: "c1", Content: "timeout=3000"})
	looping := afterTool
	looping.Messages = append([]openai.ChatCompletionMessage{}, afterTool.Messages...)
	looping.Messages[len(looping.Messages)-1].Content = "nothing"
	withoutTool := withTool
	withoutTool.Tools = nil

	type want struct{ Text, Tool, Args, Finish string }
	cases := map[string]struct {
		req  openai.ChatCompletionRequest
		want want
	}{
		"tool call by suffix with a group": {withTool, want{"", "nacos__getConfig", `{"dataId":"app.yaml","deep":[1,"show the config of app.yaml"]}`, "tool_calls"}},
		"tool result with group":           {afterTool, want{"The timeout is 3000 ms, says qwen at 0.5.", "", "", "stop"}},
		"a call rule never loops":          {looping, want{"echo: show the config of app.yaml", "", "", "stop"}},
		"tool not offered":                 {withoutTool, want{"echo: show the config of app.yaml", "", "", "stop"}},
		"second turn": {
			openai.ChatCompletionRequest{Model: "m", Messages: user("a", "b"), Tools: []openai.Tool{getConfig}, Metadata: map[string]string{"who": "张三"}},
			want{"turn 2 for 张三: nacos__getConfig", "", "", "stop"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c, _ := serve(t, nacos)
			resp, err := c.CreateChatCompletion(t.Context(), tc.req)
			if err != nil {
				t.Fatal(err)
			}
			m := resp.Choices[0].Message
			got := want{Text: m.Content, Finish: string(resp.Choices[0].FinishReason)}
			if len(m.ToolCalls) > 0 {
				got.Tool, got.Args = m.ToolCalls[0].Function.Name, m.ToolCalls[0].Function.Arguments
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("whole (-want +got):\n%s", diff)
			}
			req := tc.req
			req.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
			text, calls, finish, usage, err := collect(t, c, req)
			if err != nil {
				t.Fatal(err)
			}
			got = want{Text: text, Finish: finish}
			if len(calls) > 0 {
				got.Tool, got.Args = calls[0].Function.Name, calls[0].Function.Arguments
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("stream (-want +got):\n%s", diff)
			}
			if usage == nil || usage.TotalTokens == 0 || usage.TotalTokens != resp.Usage.TotalTokens {
				t.Errorf("usage: stream %v, whole %v", usage, resp.Usage)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	_, c, base := serve(t, nacos)
	ask := func(text string) error {
		_, err := c.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{Model: "m", Messages: user(text)})
		return err
	}
	status := func(err error) int {
		if api := (*openai.APIError)(nil); errors.As(err, &api) {
			return api.HTTPStatusCode
		}
		return 0
	}
	resp, err := http.Post(base+"/v1/chat/completions", "application/json", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"limited"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "2" {
		t.Errorf("limited: %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if err := ask("limited"); err != nil {
		t.Errorf("limited, second time: %v", err)
	}
	if err := ask("once"); status(err) != 500 {
		t.Errorf("once: %v", err)
	}
	if err := ask("once"); err != nil {
		t.Errorf("once, second time falls to the next rule: %v", err)
	}
	if err := ask("wrong"); err == nil {
		t.Error("wrong: no error")
	}
	if _, _, _, _, err := collect(t, c, openai.ChatCompletionRequest{Model: "m", Messages: user("broken")}); err == nil {
		t.Error("broken: the stream ended well")
	}
}

func TestHalfOpenKeepsTheConnection(t *testing.T) {
	t.Parallel()
	_, c, _ := serve(t, nacos)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := c.CreateChatCompletionStream(ctx, openai.ChatCompletionRequest{Model: "m", Messages: user("half")})
	if err != nil {
		t.Fatal(err)
	}
	text, pending := "", make(chan error, 1)
	go func() {
		for {
			chunk, err := s.Recv()
			if err != nil {
				pending <- err
				return
			}
			text += chunk.Choices[0].Delta.Content
			if strings.Contains(text, "two") {
				cancel() // the rest never comes: only leaving ends it
			}
		}
	}()
	if err := <-pending; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after %q", err, text)
	}
	if strings.Contains(text, "six") {
		t.Errorf("half-open sent all of it: %q", text)
	}
	_ = s.Close()
}

func TestCloseEndsHalfOpen(t *testing.T) {
	t.Parallel()
	srv, c, _ := serve(t, nacos)
	done := make(chan error, 1)
	go func() {
		_, err := c.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{Model: "m", Messages: user("half")})
		done <- err
	}()
	srv.Close()
	if err := <-done; err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}

func TestSeen(t *testing.T) {
	t.Parallel()
	srv, c, base := serve(t, nacos)
	if _, err := c.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{Model: "qwen", Temperature: 0.25, Messages: user("hello"), Tools: []openai.Tool{getConfig}}); err != nil {
		t.Fatal(err)
	}
	want := []scriptmodel.Seen{{
		Seq: 1, Path: "/v1/chat/completions", Key: "sk-planted-1234", Model: "qwen", System: "你是 Nacos 助手", User: "hello", Rule: "default",
		Messages: []scriptmodel.Message{{Role: "system", Content: "你是 Nacos 助手"}, {Role: "user", Content: "hello"}},
		Tools:    []scriptmodel.Tool{{Name: "nacos__getConfig", Description: "reads", Parameters: json.RawMessage(`{"type":"object"}`)}},
	}}
	got := srv.Requests()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(scriptmodel.Seen{}, "Time", "Ended", "Header", "Body", "Temperature")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got[0].Ended == nil || got[0].Aborted {
		t.Errorf("ended %v, aborted %v: the answer was sent", got[0].Ended, got[0].Aborted)
	}
	if got[0].Temperature == nil || *got[0].Temperature != 0.25 {
		t.Errorf("temperature %v", got[0].Temperature)
	}

	var over []scriptmodel.Seen
	resp, err := http.Get(base + "/_seen")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&over); err != nil || len(over) != 1 || over[0].Key != "sk-planted-1234" {
		t.Errorf("/_seen: %v %v", over, err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/_seen", http.NoBody)
	rec := httptest.NewRecorder() // comes from 192.0.2.1
	srv.ServeHTTP(rec, req)
	if rec.Code != http.StatusForbidden {
		t.Errorf("/_seen from elsewhere: %d", rec.Code)
	}
	srv.Clear()
	if n := len(srv.Requests()); n != 0 {
		t.Errorf("%d after Clear", n)
	}
}

func TestBanner(t *testing.T) {
	t.Parallel()
	_, c, base := serve(t, "")
	list, err := c.ListModels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := list.Models[0].OwnedBy; got != "scripted" {
		t.Errorf("owner %q", got)
	}
	resp, err := http.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if !strings.Contains(string(body), "scripted model server") || !strings.Contains(resp.Header.Get("Server"), "scripted model server") {
		t.Errorf("%q, Server %q", body, resp.Header.Get("Server"))
	}
	chat, err := c.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{Model: "m", Messages: user("hi")})
	if err != nil || !strings.Contains(chat.Choices[0].Message.Content, "You said: hi") {
		t.Errorf("%v %v", chat.Choices, err)
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	_, c, _ := serve(t, "")
	resp, err := c.CreateEmbeddings(t.Context(), openai.EmbeddingRequest{Model: "e", Input: []string{"nacos config timeout", "the timeout of a nacos config", "banana bread"}})
	if err != nil {
		t.Fatal(err)
	}
	near, _ := resp.Data[0].DotProduct(&resp.Data[1])
	far, _ := resp.Data[0].DotProduct(&resp.Data[2])
	if near <= far {
		t.Errorf("near %v, far %v", near, far)
	}
	if diff := cmp.Diff(scriptmodel.Embed("nacos config timeout", 64), resp.Data[0].Embedding, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
		t.Errorf("not deterministic:\n%s", diff)
	}
}

func TestParseScriptErrors(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ in, want string }{
		"unknown field":  {"rules:\n  - when: {user: a}\n    replay: {text: b}\n", "line 3"},
		"broken":         {"rules:\n  - when: {user: a\n", "line 2"},
		"unknown value":  {"rules:\n  - reply: {text: a}\n  - reply:\n      text: '{{usr}}'\n", "script:4: rules[1].reply.text: unknown value {{usr}}"},
		"in arguments":   {"rules:\n  - reply:\n      toolCalls:\n        - name: a\n          arguments: {q: '{{what}}'}\n", "rules[0].reply.toolCalls[0].arguments: unknown value {{what}}"},
		"nothing to do":  {"rules:\n  - when: {user: a}\n", "neither reply nor fault"},
		"status":         {"rules:\n  - fault: {status: 200}\n", "status: 200 (400 to 599)"},
		"empty fault":    {"rules:\n  - fault: {times: 1}\n", "nothing to do"},
		"bad expression": {"rules:\n  - when: {user: '/(/'}\n    reply: {text: a}\n", "missing closing )"},
		"deep":           {"rules: " + strings.Repeat("[", 40), "nested deeper"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := scriptmodel.ParseScript([]byte(tc.in))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
