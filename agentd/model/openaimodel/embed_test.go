package openaimodel_test

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/internal/secret"
)

func TestEmbed(t *testing.T) {
	t.Parallel()
	scripted := scriptmodel.New(scriptmodel.Script{})
	srv := httptest.NewServer(scripted)
	defer srv.Close()
	m, err := openaimodel.New(openaimodel.Config{
		Model: "chat", BaseURL: srv.URL + "/v1", Transports: openaimodel.NewTransports(here(t)), APIKey: func() secret.Value { return secret.NewValue("sk-1") },
		ExtraBody: []byte(`{"enable_search":true}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var texts []string
	for i := range 23 {
		texts = append(texts, fmt.Sprintf("text %d about a refund of an order", i))
	}
	texts = append(texts, "the weather in Hangzhou")
	vectors, err := m.Embed(t.Context(), "embedder", texts)
	if err != nil || len(vectors) != len(texts) {
		t.Fatalf("%d vectors, %v", len(vectors), err)
	}
	for i, v := range vectors {
		for j, f := range scriptmodel.Embed(texts[i], len(v)) {
			if math.Abs(float64(f-v[j])) > 1e-6 {
				t.Fatalf("vector %d is not its text's", i)
			}
		}
	}
	seen := scripted.Requests()
	if len(seen) != 3 || seen[0].Model != "embedder" || seen[0].Key != "sk-1" || strings.Contains(string(seen[0].Body), "enable_search") {
		t.Errorf("%d requests, the first %+v", len(seen), seen[0])
	}
	if v, err := m.Embed(t.Context(), "embedder", nil); err != nil || len(v) != 0 {
		t.Errorf("no texts: %v, %v", v, err)
	}
	if _, err := m.Embed(t.Context(), "", texts); err == nil {
		t.Error("no model: no error")
	}
}

func TestEmbedFailures(t *testing.T) {
	t.Parallel()
	good := status(200, "", `{"data":[{"index":1,"embedding":[0,1]},{"index":0,"embedding":[1,0]}]}`)
	for name, tc := range map[string]struct {
		handlers []http.HandlerFunc
		code     string // "": succeeds in the end
		attempts int
	}{
		"out of order":             {handlers: []http.HandlerFunc{good}, attempts: 1},
		"503, then fine":           {handlers: []http.HandlerFunc{status(503, "", ""), good}, attempts: 2},
		"no such model":            {handlers: []http.HandlerFunc{status(404, "", `{"error":{"message":"no such model"}}`)}, code: "invalid", attempts: 1},
		"too few":                  {handlers: []http.HandlerFunc{status(200, "", `{"data":[{"embedding":[1]}]}`)}, code: "invalid", attempts: 1},
		"one twice":                {handlers: []http.HandlerFunc{status(200, "", `{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}`)}, code: "invalid", attempts: 1},
		"out of range":             {handlers: []http.HandlerFunc{status(200, "", `{"data":[{"index":0,"embedding":[1]},{"index":7,"embedding":[1]}]}`)}, code: "invalid", attempts: 1},
		"of different lengths":     {handlers: []http.HandlerFunc{status(200, "", `{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}`)}, code: "invalid", attempts: 1},
		"something else":           {handlers: []http.HandlerFunc{status(200, "", `<html>`)}, code: "invalid", attempts: 1},
		"an error with status 200": {handlers: []http.HandlerFunc{status(200, "", `{"error":{"message":"no"}}`)}, code: "invalid", attempts: 1},
		"silence":                  {handlers: []http.HandlerFunc{func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }}, code: "timeout", attempts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := serve(t, tc.handlers...)
			m := open(t, e, func(c *openaimodel.Config) {
				c.Attempts = 2
				if tc.code == "timeout" {
					c.Timeout = 100 * time.Millisecond
				}
			})
			vectors, err := m.Embed(t.Context(), "e", []string{"a", "b"})
			if bodies, _ := e.requests(); len(bodies) != tc.attempts {
				t.Errorf("%d requests, want %d", len(bodies), tc.attempts)
			}
			var known *model.Error
			switch {
			case tc.code != "" && (!errors.As(err, &known) || known.Code != tc.code || len(known.Attempts) != tc.attempts):
				t.Errorf("err = %+v, want %s", err, tc.code)
			case tc.code == "" && (err != nil || len(vectors) != 2 || vectors[0][0] != 1 || vectors[1][1] != 1):
				t.Errorf("got %v, %v", vectors, err)
			}
		})
	}
}
