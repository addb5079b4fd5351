package openaimodel_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/secret"
)

// No redirect of any kind takes a request, let alone a key, to another place: another origin, another path, a proxy from the environment.
func TestNothingGoesElsewhere(t *testing.T) {
	var mu sync.Mutex
	var strangers []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		strangers = append(strangers, r.Method+" "+r.URL.String())
	}))
	defer elsewhere.Close()
	t.Setenv("HTTP_PROXY", elsewhere.URL)
	t.Setenv("ALL_PROXY", elsewhere.URL)
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{elsewhere.URL + "/v1/chat/completions", "/other", "//" + strings.TrimPrefix(elsewhere.URL, "http://") + "/"} {
			e := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(code)
			})
			m := open(t, e, func(c *openaimodel.Config) {
				c.APIKey = func() secret.Value { return secret.NewValue("sk-planted") }
				c.Headers = map[string]func() secret.Value{"X-Api-Token": func() secret.Value { return secret.NewValue("planted-too") }}
			})
			if _, err := collect(t, m, model.Request{Stream: true}); err == nil || !strings.Contains(err.Error(), "redirect") {
				t.Errorf("%d to %s: err = %v", code, to, err)
			}
			if _, err := m.Embed(t.Context(), "e", []string{"x"}); err == nil || !strings.Contains(err.Error(), "redirect") {
				t.Errorf("%d to %s: embeddings: err = %v", code, to, err)
			}
			if bodies, _ := e.requests(); len(bodies) != 2 {
				t.Errorf("%d to %s: %d requests, want 2", code, to, len(bodies))
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(strangers) > 0 {
		t.Errorf("another origin was asked: %v", strangers)
	}
}

// A base URL keeps its query, as Azure's has one, and its path.
func TestBaseURLWithQuery(t *testing.T) {
	t.Parallel()
	var path string
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.String()
		sse(text("ok"), stopChunk, done)(w, r)
	})
	m := open(t, e, func(c *openaimodel.Config) { c.BaseURL = e.URL + "/openai/deployments/a%2Fb/?api-version=2026-01-01" })
	if _, err := collect(t, m, model.Request{Stream: true}); err != nil {
		t.Fatal(err)
	}
	if path != "/openai/deployments/a%2Fb/chat/completions?api-version=2026-01-01" {
		t.Errorf("asked %s", path)
	}
}
