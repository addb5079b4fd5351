package openaidoor_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	openai "github.com/sashabaranov/go-openai"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeModel struct {
	mu     sync.Mutex
	calls  []model.Request
	answer func(ctx context.Context, r model.Request, yield func(model.Chunk, error) bool)
}

func (f *fakeModel) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		f.mu.Lock()
		f.calls = append(f.calls, r)
		answer := f.answer
		f.mu.Unlock()
		answer(ctx, r, yield)
	}
}

func (f *fakeModel) last() model.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[len(f.calls)-1]
}

func say(pieces ...string) func(context.Context, model.Request, func(model.Chunk, error) bool) {
	return func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		for _, p := range pieces {
			if !yield(model.Chunk{Text: p}, nil) {
				return
			}
		}
		yield(model.Chunk{FinishReason: "stop", Usage: &model.Usage{InputTokens: 5, OutputTokens: 2}}, nil)
	}
}

type source struct {
	mu  sync.Mutex
	rt  *run.Runtime
	err error
}

func (s *source) Acquire() (*run.Runtime, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rt, func() {}, s.err
}

func (s *source) swap(rt *run.Runtime, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rt, s.err = rt, err
}

type door struct {
	*httptest.Server
	model  *fakeModel
	source *source
}

func open(t *testing.T, change ...func(*openaidoor.Config)) *door {
	t.Helper()
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	mem, err := inmemory.New(inmemory.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	d := &door{model: &fakeModel{answer: say("Hal", "lo")}}
	d.source = &source{rt: &run.Runtime{Agent: "helper", Revision: 8, Config: "8-3f2a91c4", System: "You help.", Model: d.model, Memory: mem, MaxIterations: 2}}
	r, err := run.New(run.Config{Source: d.source})
	if err != nil {
		t.Fatal(err)
	}
	cfg := openaidoor.Config{Runner: r, MaxBody: 64 << 10}
	for _, f := range change {
		f(&cfg)
	}
	h, err := openaidoor.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f, err := front.New(front.Config{Source: r})
	if err != nil {
		t.Fatal(err)
	}
	d.Server = httptest.NewServer(f.Guard(h, h.Refuse))
	t.Cleanup(d.Close)
	return d
}

func (d *door) client() *openai.Client {
	c := openai.DefaultConfig("key")
	c.BaseURL = d.URL + "/v1"
	c.HTTPClient = d.Client()
	return openai.NewClientWithConfig(c)
}

// reply is what counts of an answer.
type reply struct {
	StatusCode int
	Header     http.Header
}

func (d *door) post(t *testing.T, body string, header ...string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.URL+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header}, string(b)
}

func hello() []openai.ChatCompletionMessage {
	return []openai.ChatCompletionMessage{{Role: "user", Content: "hi"}}
}

func TestWholeByAnIndependentClient(t *testing.T) {
	t.Parallel()
	d := open(t)
	resp, err := d.client().CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{Model: "anything", Messages: hello()})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Choices[0].Message.Content != "Hallo" || resp.Choices[0].FinishReason != "stop" || resp.Model != "helper" || resp.Usage.TotalTokens != 7 || resp.Object != "chat.completion" {
		t.Errorf("%+v", resp)
	}
	if h := resp.Header(); h.Get("X-Agentry-Revision") != "8" || h.Get("X-Agentry-Config") != "8-3f2a91c4" {
		t.Errorf("headers %v", h)
	}
	models, err := d.client().ListModels(t.Context())
	if err != nil || len(models.Models) != 1 || models.Models[0].ID != "helper" {
		t.Errorf("models %+v, %v", models, err)
	}
	if m, err := d.client().GetModel(t.Context(), "helper"); err != nil || m.ID != "helper" {
		t.Errorf("model %+v, %v", m, err)
	}
	if _, err := d.client().GetModel(t.Context(), "other"); err == nil {
		t.Error("a model that isn't there")
	}
}

func TestStreamByAnIndependentClient(t *testing.T) {
	t.Parallel()
	d := open(t)
	read := make(chan struct{})
	d.model.answer = func(ctx context.Context, r model.Request, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{Reasoning: "hm"}, nil)
		yield(model.Chunk{Text: "first"}, nil)
		<-read // the first token is out before the last is made
		say(" \"last\"\n")(ctx, r, yield)
	}
	s, err := d.client().CreateChatCompletionStream(t.Context(), openai.ChatCompletionRequest{Model: "helper", Messages: hello(), StreamOptions: &openai.StreamOptions{IncludeUsage: true}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var text, reasoning, finish string
	var usage *openai.Usage
	for {
		c, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Usage != nil {
			usage = c.Usage
		}
		for _, ch := range c.Choices {
			if ch.Delta.Content == "first" {
				close(read)
			}
			text += ch.Delta.Content
			reasoning += ch.Delta.ReasoningContent
			finish += string(ch.FinishReason)
		}
	}
	if text != "first \"last\"\n" || reasoning != "hm" || finish != "stop" || usage == nil || usage.TotalTokens != 7 {
		t.Errorf("%q %q %q %+v", text, reasoning, finish, usage)
	}
	if !d.model.last().Stream {
		t.Error("the model was not asked to stream")
	}
}

func TestStreamBytes(t *testing.T) {
	t.Parallel()
	d := open(t)
	resp, body := d.post(t, `{"stream":true,"messages":[{"role":"user","content":"hi"}]}`)
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") || resp.Header.Get("X-Agentry-Config") != "8-3f2a91c4" {
		t.Errorf("headers %v", resp.Header)
	}
	var deltas []string
	sc := bufio.NewScanner(strings.NewReader(body))
	for sc.Scan() {
		data, ok := strings.CutPrefix(sc.Text(), "data: ")
		if !ok || data == "[DONE]" {
			if ok {
				deltas = append(deltas, data)
			}
			continue
		}
		var c struct {
			Choices []struct {
				Delta        map[string]string `json:"delta"`
				FinishReason *string           `json:"finish_reason"`
			} `json:"choices"`
		}
		if err := json.Unmarshal([]byte(data), &c); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		deltas = append(deltas, fmt.Sprint(c.Choices[0].Delta, c.Choices[0].FinishReason != nil))
	}
	want := []string{"map[content: role:assistant] false", "map[content:Hal] false", "map[content:lo] false", "map[] true", "[DONE]"}
	if diff := cmp.Diff(want, deltas); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestModelErrors(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]int{"unreachable": 502, "http_5xx": 502, "unauthorized": 502, "rate_limited": 429, "timeout": 504, "context_length": 400} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			d := open(t)
			d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
				yield(model.Chunk{}, &model.Error{Code: code, Message: "it said no", Attempts: []model.Attempt{{Model: "m", Status: 500, Err: "x", Elapsed: time.Second}}})
			}
			for _, stream := range []bool{false, true} { // before the first byte a stream's error is a plain one
				resp, body := d.post(t, fmt.Sprintf(`{"stream":%v,"messages":[{"role":"user","content":"hi"}]}`, stream))
				var e struct {
					Error struct {
						Code     string
						Message  string
						Attempts []struct{ Status int }
					}
				}
				if err := json.Unmarshal([]byte(body), &e); err != nil {
					t.Fatalf("%s: %v", body, err)
				}
				if resp.StatusCode != want || e.Error.Code != code || len(e.Error.Attempts) != 1 || resp.Header.Get("X-Agentry-Config") == "" {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
			}
		})
	}
}

func TestErrorInTheStream(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.model.answer = func(_ context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{Text: "par"}, nil)
		yield(model.Chunk{}, &model.Error{Code: "unreachable", Message: "cut"})
	}
	s, err := d.client().CreateChatCompletionStream(t.Context(), openai.ChatCompletionRequest{Model: "helper", Messages: hello()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for err == nil {
		_, err = s.Recv()
	}
	var api *openai.APIError
	if !errors.As(err, &api) || api.Code != "unreachable" {
		t.Errorf("err = %v", err)
	}
}

// What broke: a request that ended with the assistant's message, or held a message without content, went to the model.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	d := open(t)
	for name, tc := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"no JSON":              {`{`, 400, "unexpected end"},
		"no messages":          {`{"model":"x"}`, 400, "at least one"},
		"wrong type":           {`{"messages":"hi"}`, 400, "messages"},
		"tools":                {`{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function"}]}`, 400, "its own tools"},
		"tool role":            {`{"messages":[{"role":"tool","content":"hi"}]}`, 400, "messages[0].role"},
		"unknown role":         {`{"messages":[{"role":"boss","content":"hi"}]}`, 400, "boss"},
		"no picture":           {`{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages[0].content: image_url"},
		"a picture's file":     {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}`, 400, "http, https or data"},
		"a picture's nowhere":  {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https:///x.png"}}]}]}`, 400, "http, https or data"},
		"a picture's data":     {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:text/html,<b>"}}]}]}`, 400, "data:image/TYPE"},
		"a picture's detail":   {`{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/y","detail":"huge"}}]}]}`, 400, "image_url.detail"},
		"a system's picture":   {`{"messages":[{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]},{"role":"user","content":"hi"}]}`, 400, "images are accepted in user messages only"},
		"sound":                {`{"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}]}`, 400, `a part of type \"input_audio\"`},
		"no parts":             {`{"messages":[{"role":"user","content":[]}]}`, 400, "messages[0].content: is missing"},
		"tools by null":        {`{"messages":[{"role":"user","content":"hi"}],"tools":null,"functions":[],"tool_choice":"auto","function_call":"none"}`, 200, "Hallo"},
		"functions":            {`{"messages":[{"role":"user","content":"hi"}],"functions":[{"name":"f"}]}`, 400, "its own tools"},
		"a tool demanded":      {`{"messages":[{"role":"user","content":"hi"}],"tool_choice":"required"}`, 400, "tool_choice must be"},
		"a function demanded":  {`{"messages":[{"role":"user","content":"hi"}],"function_call":{"name":"f"}}`, 400, "function_call must be"},
		"logprobs":             {`{"messages":[{"role":"user","content":"hi"}],"logprobs":true,"top_logprobs":3}`, 400, "logprobs"},
		"no logprobs":          {`{"messages":[{"role":"user","content":"hi"}],"logprobs":false}`, 200, `"logprobs":null`},
		"an answer in sound":   {`{"messages":[{"role":"user","content":"hi"}],"modalities":["text","audio"]}`, 400, "audio"},
		"five stops":           {`{"messages":[{"role":"user","content":"hi"}],"stop":["a","b","c","d","e"]}`, 400, "at most 4"},
		"no stop":              {`{"messages":[{"role":"user","content":"hi"}],"stop":null}`, 200, "Hallo"},
		"a stop that is none":  {`{"messages":[{"role":"user","content":"hi"}],"stop":{"a":1}}`, 400, "stop"},
		"what others send":     {`{"messages":[{"role":"user","content":"hi"}],"seed":1,"max_completion_tokens":5,"max_tokens":"x","n":1,"frequency_penalty":0,"presence_penalty":0,"stream_options":{"include_usage":true},"reasoning_effort":"low","store":false,"service_tier":"auto"}`, 200, "Hallo"},
		"a refusal of before":  {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]},{"role":"user","content":"hi"}]}`, 200, "Hallo"},
		"type of a field":      {`{"messages":[{"role":"user","content":"hi"}],"stream":"yes"}`, 400, "stream: a JSON string"},
		"deep":                 {`{"messages":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`, 400, "not what the API expects"},
		"n":                    {`{"messages":[{"role":"user","content":"hi"}],"n":2}`, 400, "n must be 1"},
		"format":               {`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"yaml"}}`, 400, "yaml"},
		"no schema":            {`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema"}}`, 400, "response_format.json_schema is missing"},
		"a schema's name":      {`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"a b","schema":{}}}}`, 400, "json_schema.name"},
		"a schema's form":      {`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"a","schema":[]}}}`, 400, "want an object"},
		"format text":          {`{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"text"}}`, 200, "Hallo"},
		"too large":            {`{"messages":[{"role":"user","content":"` + strings.Repeat("x", 70<<10) + `"}]}`, 413, "larger"},
		"nothing new":          {`{"metadata":{"session_id":"s"},"messages":[{"role":"assistant","content":"hi"}]}`, 400, "no message"},
		"the last isn't asked": {`{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"a"}]}`, 400, "the last one is the assistant's"},
		"no content":           {`{"messages":[{"role":"user"}]}`, 400, "messages[0].content: is missing"},
		"null for a user":      {`{"messages":[{"role":"system","content":"s"},{"role":"user","content":null}]}`, 400, "messages[1].content: is missing"},
		"empty for a user":     {`{"messages":[{"role":"user","content":""}]}`, 400, "messages[0].content: is missing"},
		"empty for the system": {`{"messages":[{"role":"system","content":""},{"role":"user","content":"hi"}]}`, 200, "Hallo"},
		"long session":         {`{"metadata":{"session_id":"` + strings.Repeat("x", 300) + `"},"messages":[{"role":"user","content":"hi"}]}`, 400, "session"},
		"unknown fields":       {`{"messages":[{"role":"user","content":"hi","name":"bob"}],"temperature":2,"whatever":{"x":1},"user":"u","tools":[]}`, 200, "Hallo"},
		"null content":         {`{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null},{"role":"user","content":"hi"}]}`, 200, "Hallo"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := d.post(t, tc.body)
			if resp.StatusCode != tc.status || !strings.Contains(body, tc.says) || resp.Header.Get("X-Agentry-Config") != "8-3f2a91c4" {
				t.Errorf("%d %s %v", resp.StatusCode, body, resp.Header)
			}
			var e struct {
				Error *struct{ Message, Type string }
			}
			if err := json.Unmarshal([]byte(body), &e); err != nil || tc.status >= 400 && (e.Error == nil || e.Error.Type != "invalid_request_error") {
				t.Errorf("not OpenAI's shape: %s", body)
			}
		})
	}
	for path, want := range map[string]int{"/v1/chat/completions": 405, "/v1/embeddings": 404} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, d.URL+path, http.NoBody)
		resp, err := d.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want || resp.Header.Get("X-Agentry-Revision") != "8" {
			t.Errorf("GET %s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.post(t, `{"stop":"END","messages":[{"role":"developer","content":"ctx"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},{"role":"assistant","content":"c"},{"role":"user","content":"d"}]}`)
	var got []string
	for _, m := range d.model.last().Messages {
		got = append(got, string(m.Role)+" "+m.Text)
	}
	want := []string{"system You help.", "system ctx", "user ab", "assistant c", "user d"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if stop := d.model.last().Stop; len(stop) != 1 || stop[0] != "END" {
		t.Errorf("stop = %v", stop)
	}
}

func TestSessions(t *testing.T) {
	t.Parallel()
	d := open(t)
	seen := func() int { return len(d.model.last().Messages) }
	one := `{"user":"u","messages":[{"role":"user","content":"q"}]}`
	d.post(t, one)
	d.post(t, one)
	if seen() != 2 {
		t.Errorf("%d messages: `user` must bind nothing", seen())
	}
	d.post(t, one, "X-Session-Id", "s")
	d.post(t, `{"metadata":{"session_id":"s"},"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"Hallo"},{"role":"user","content":"q2"}]}`)
	if seen() != 4 {
		t.Errorf("%d messages, want prompt, q, Hallo, q2", seen())
	}
	d.post(t, one, "X-Session-Id", "s", "Authorization", "Bearer other")
	if seen() != 2 {
		t.Errorf("%d messages: another key reads the session", seen())
	}
	rt := *d.source.rt
	rt.Revision, rt.Config = 9, "9-aaaaaaaa"
	d.source.swap(&rt, nil)
	resp, _ := d.post(t, one, "X-Session-Id", "s")
	if h := resp.Header; h.Get("X-Agentry-Previous-Config") != "8-3f2a91c4" || h.Get("X-Agentry-Config") != "9-aaaaaaaa" {
		t.Errorf("headers %v", h)
	}
	if resp, _ = d.post(t, one, "X-Session-Id", "s"); resp.Header.Get("X-Agentry-Previous-Config") != "" {
		t.Errorf("headers %v: nothing changed", resp.Header)
	}
}

func TestNotServing(t *testing.T) {
	t.Parallel()
	d := open(t)
	d.source.swap(nil, errs.New(errs.Unavailable, "agent deleted"))
	for _, body := range []string{`{"messages":[{"role":"user","content":"q"}]}`, `{"stream":true,"messages":[{"role":"user","content":"q"}]}`} {
		resp, text := d.post(t, body)
		if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "agent deleted") || !strings.Contains(text, "not_serving") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	}
	if _, err := d.client().ListModels(t.Context()); err == nil {
		t.Error("models of nothing")
	}
}

func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	d := open(t)
	rt := *d.source.rt
	rt.Closed = []run.Door{run.DoorOpenAI}
	d.source.swap(&rt, nil)
	if resp, text := d.post(t, `{"messages":[{"role":"user","content":"q"}]}`); resp.StatusCode != http.StatusNotFound || !strings.Contains(text, "expose.openai") {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// The client goes in the middle of a stream: the model call ends.
func TestClientGone(t *testing.T) {
	t.Parallel()
	d := open(t)
	ended := make(chan struct{})
	d.model.answer = func(ctx context.Context, _ model.Request, yield func(model.Chunk, error) bool) {
		defer close(ended)
		if yield(model.Chunk{Text: "x"}, nil) {
			<-ctx.Done()
			yield(model.Chunk{}, context.Cause(ctx))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, err := d.client().CreateChatCompletionStream(ctx, openai.ChatCompletionRequest{Model: "helper", Messages: hello()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := s.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ended
}
