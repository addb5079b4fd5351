package openaimodel_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/secret"
)

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
		"a redirect":     {handlers: []http.HandlerFunc{status(302, "", "")}, code: "invalid", attempts: 1, says: "redirect"},
		"an error in the stream before any text": {
			handlers: []http.HandlerFunc{sse(`{"error":{"message":"overloaded","type":"server_error"}}`), ok}, attempts: 2,
		},
		"an error in the stream after text": {
			handlers: []http.HandlerFunc{sse(text("par"), `{"error":{"message":"overloaded","code":429}}`), ok}, code: "rate_limited", attempts: 1, says: "overloaded",
		},
		"a stream that ends early":           {handlers: []http.HandlerFunc{sse(text("par")), ok}, code: "unreachable", attempts: 1, says: "ended before"},
		"a stream that ends before any text": {handlers: []http.HandlerFunc{sse(), ok}, attempts: 2},
		"a stream of rubbish":                {handlers: []http.HandlerFunc{sse(text("par"), "{broken"), ok}, code: "unreachable", attempts: 1, says: "no chunk"},
		"JSON where a stream was asked for":  {handlers: []http.HandlerFunc{status(200, "", `{"choices":[]}`)}, code: "invalid", attempts: 1, says: "without choices"},
		"a page where a stream was asked for": {handlers: []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<h1>Log in</h1>")
		}}, code: "invalid", attempts: 1, says: "asked for a stream"},
		"a whole answer where a stream was asked for": {handlers: []http.HandlerFunc{status(200, "", `{"choices":[{"message":{"content":"ok"},"finish_reason":"stop"}]}`)}, attempts: 1},
		"429 with Retry-After-Ms": {handlers: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After-Ms", "3600000")
			status(429, "1", "{}")(w, r)
		}}, code: "rate_limited", attempts: 1},
		"too long, in Qwen's words":      {handlers: []http.HandlerFunc{status(400, "", `{"error":{"message":"Range of input length should be [1, 30720]","code":"invalid_parameter_error"}}`)}, code: "context_length", attempts: 1},
		"too long, in Kimi's words":      {handlers: []http.HandlerFunc{status(400, "", `{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192","type":"invalid_request_error"}}`)}, code: "context_length", attempts: 1},
		"filtered, in Qwen's words":      {handlers: []http.HandlerFunc{status(400, "", `{"error":{"message":"no","code":"data_inspection_failed"}}`)}, code: "content_filter", attempts: 1},
		"no money":                       {handlers: []http.HandlerFunc{status(402, "", `{"error":{"message":"Insufficient Balance","code":"invalid_request_error"}}`)}, code: "unauthorized", attempts: 1},
		"an error in a list":             {handlers: []http.HandlerFunc{status(400, "", `[{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}]`)}, code: "invalid", attempts: 1, says: "HTTP 400: API key not valid"},
		"an error without an object":     {handlers: []http.HandlerFunc{status(404, "", `{"object":"error","message":"The model x does not exist","type":"NotFoundError","code":404}`)}, code: "invalid", attempts: 1, says: "HTTP 404: The model x does not exist"},
		"an error of a validation":       {handlers: []http.HandlerFunc{status(422, "", `{"detail":[{"loc":["body"],"msg":"Field required"}]}`)}, code: "invalid", attempts: 1, says: "Field required"},
		"an answer that ends in a fault": {handlers: []http.HandlerFunc{sse(`{"choices":[{"index":0,"delta":{},"finish_reason":"network_error"}]}`), ok}, attempts: 2},

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
	pool := openaimodel.NewTransports(here(t))
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

// Where another endpoint stands by, a timeout isn't repeated and a long wait isn't waited for; short ones are.
func TestStandby(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handler    http.HandlerFunc
		attempts   int
		retryAfter time.Duration
	}{
		"silence":            {handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, attempts: 1},
		"a long Retry-After": {handler: status(429, "3", "{}"), attempts: 1, retryAfter: 3 * time.Second},
		"a server's fault":   {handler: status(500, "", "oops"), attempts: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, tc.handler)
			m := open(t, e, func(c *openaimodel.Config) {
				c.Standby = true
				if name == "silence" {
					c.Timeout = 100 * time.Millisecond
				}
			})
			_, err := collect(t, m, model.Request{Stream: true})
			var known *model.Error
			if !errors.As(err, &known) || len(known.Attempts) != tc.attempts || known.RetryAfter != tc.retryAfter {
				t.Errorf("err = %+v, want %d attempts and to be left alone for %s", err, tc.attempts, tc.retryAfter)
			}
		})
	}
}
