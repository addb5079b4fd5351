package scriptmodel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sashabaranov/go-openai"

	"github.com/agentry/agentry/internal/scriptmodel"
)

const deep = `
rules:
  - {name: drip, when: {user: drip}, fault: {drip: 100us}, reply: {text: slowly}}
  - {name: crawl, when: {user: crawl}, fault: {drip: 1h}, reply: {text: never}}
  - {name: reset, when: {user: reset}, fault: {reset: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
  - {name: garbage, when: {user: garbage}, fault: {garbageSSE: true}, reply: {text: "one two three four five six", pace: {chunk: 4}}}
  - {name: huge, when: {user: huge}, fault: {hugeArguments: 100000}}
  - {name: seen, when: {image: cat.png, format: "json_schema ticket"}, reply: {reasoning: hm, json: {"images": "{{images}}", "as": "{{format}}", "said": "{{user}}"}}}
default: {text: no rule}
`

func TestMoreFaults(t *testing.T) {
	t.Parallel()
	srv, c, _ := serve(t, deep)
	req := func(text string) openai.ChatCompletionRequest {
		return openai.ChatCompletionRequest{Model: "m", Messages: user(text), Tools: []openai.Tool{getConfig}}
	}
	if text, _, _, _, err := collect(t, c, req("drip")); err != nil || text != "slowly" {
		t.Errorf("drip: %q, %v", text, err)
	}
	for _, text := range []string{"reset", "garbage"} {
		if got, _, _, _, err := collect(t, c, req(text)); err == nil || strings.Contains(got, "six") {
			t.Errorf("%s: %q ended well", text, got)
		}
		if _, err := c.CreateChatCompletion(t.Context(), req(text)); err == nil {
			t.Errorf("%s without streaming ended well", text)
		}
	}
	resp, err := c.CreateChatCompletion(t.Context(), req("huge"))
	if err != nil {
		t.Fatal(err)
	}
	call := resp.Choices[0].Message.ToolCalls[0].Function
	if call.Name != "nacos__getConfig" || len(call.Arguments) != 100000 {
		t.Errorf("huge: %s with %d bytes", call.Name, len(call.Arguments))
	}
	for _, s := range srv.Requests() {
		if s.Ended == nil && s.Rule != "reset" { // a reset ends in its own way
			t.Errorf("%s: not ended", s.Rule)
		}
	}
}

// A client that leaves is noted with the time.
func TestAbortIsSeen(t *testing.T) {
	t.Parallel()
	srv, c, _ := serve(t, deep)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := c.CreateChatCompletionStream(ctx, openai.ChatCompletionRequest{Model: "m", Messages: user("crawl")})
	if err != nil {
		t.Fatal(err)
	}
	if got := srv.Requests(); len(got) != 1 || got[0].Ended != nil {
		t.Fatalf("seen %+v", got)
	}
	left := time.Now()
	cancel()
	if _, err := s.Recv(); !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		t.Errorf("err = %v", err)
	}
	_ = s.Close()
	for deadline := time.After(10 * time.Second); ; {
		if got := srv.Requests()[0]; got.Ended != nil {
			if !got.Aborted || got.Ended.Before(left) {
				t.Errorf("aborted %v at %v, left at %v", got.Aborted, got.Ended, left)
			}
			return
		}
		select {
		case <-deadline:
			t.Fatal("the abort was not noted")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestImagesAndFormat(t *testing.T) {
	t.Parallel()
	srv, c, _ := serve(t, deep)
	resp, err := c.CreateChatCompletion(t.Context(), openai.ChatCompletionRequest{
		Model: "m",
		Messages: []openai.ChatCompletionMessage{{Role: "user", MultiContent: []openai.ChatMessagePart{
			{Type: openai.ChatMessagePartTypeText, Text: `a "cat"`},
			{Type: openai.ChatMessagePartTypeImageURL, ImageURL: &openai.ChatMessageImageURL{URL: "https://x/cat.png", Detail: "low"}},
		}}},
		ResponseFormat: &openai.ChatCompletionResponseFormat{Type: "json_schema", JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{Name: "ticket"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := resp.Choices[0].Message
	if m.Content != `{"as":"json_schema ticket","images":"1","said":"a \"cat\""}` || m.ReasoningContent != "hm" {
		t.Errorf("answer %q, reasoning %q", m.Content, m.ReasoningContent)
	}
	got := srv.Requests()[0]
	want := []scriptmodel.Message{{Role: "user", Content: `a "cat"`, Images: []scriptmodel.Image{{URL: "https://x/cat.png", Detail: "low"}}}}
	if diff := cmp.Diff(want, got.Messages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(string(got.Format), "ticket") {
		t.Errorf("format %s", got.Format)
	}
}

// Whoever leaves is noted as that, also where the answer's goroutine hears of it first. What broke: one in hundreds was noted as answered.
func TestEveryAbortIsSeen(t *testing.T) {
	t.Parallel()
	srv, _, _ := serve(t, `rules: [{name: late, when: {user: late}, reply: {text: late, delay: 1h}}]`)
	for range 50 {
		srv.Clear()
		ctx, cancel := context.WithCancel(t.Context())
		for range 1000 { // what else ends with it, in any order, and takes its time
			context.AfterFunc(ctx, func() {})
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/chat/completions", strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"late"}]}`))
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv.ServeHTTP(httptest.NewRecorder(), r)
		}()
		for len(srv.Requests()) == 0 {
			runtime.Gosched()
		}
		cancel()
		<-done
		for srv.Requests()[0].Ended == nil {
			runtime.Gosched()
		}
		if !srv.Requests()[0].Aborted {
			t.Fatal("noted as answered")
		}
	}
}
