package app

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/scriptmodel"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
)

// What each endpoint of a model is told: a fallback elsewhere gets nothing that was written for the model's own endpoint.
func TestEndpoints(t *testing.T) {
	key, other := spec.Value{Ref: "key"}, spec.Value{Ref: "other"}
	team, shop := spec.Value{Literal: "team"}, spec.Value{Literal: "shop"}
	m := spec.Model{
		Model: "a", BaseURL: "https://one.example/v1", APIKey: key, Headers: map[string]spec.Value{"X-Team": team},
		Fallbacks: []spec.Model{
			{Model: "b"},
			{Model: "c", APIKey: other, Headers: map[string]spec.Value{"X-Shop": shop}},
			{Model: "d", BaseURL: "https://two.example"},
			{Model: "e", BaseURL: "https://two.example", APIKey: other},
		},
	}
	one, two := "https://one.example/v1", "https://two.example/v1"
	want := []spec.Model{
		{Model: "a", BaseURL: one, APIKey: key, Headers: map[string]spec.Value{"X-Team": team}},
		{Model: "b", BaseURL: one, APIKey: key, Headers: map[string]spec.Value{"X-Team": team}},
		{Model: "c", BaseURL: one, APIKey: other, Headers: map[string]spec.Value{"X-Team": team, "X-Shop": shop}},
		{Model: "d", BaseURL: two},
		{Model: "e", BaseURL: two, APIKey: other},
	}
	if diff := cmp.Diff(want, endpoints(assembler.ModelSettings{Spec: m, BaseURL: one})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, e := range endpoints(assembler.ModelSettings{Spec: m, BaseURL: "http://127.0.0.1:9901/v1"}) {
		if e.BaseURL != "http://127.0.0.1:9901/v1" {
			t.Errorf("%s is asked at %s despite the override", e.Model, e.BaseURL)
		}
	}
	if len(m.Fallbacks[1].Headers) != 1 || len(m.Headers) != 1 {
		t.Error("the spec was changed")
	}
}

// A model whose endpoint is down is answered by its fallback, at the fallback's price; the fallback's endpoint sees no credential of the other.
func TestFallbackAnswers(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Authorization"))
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer down.Close()
	scripted := scriptmodel.New(scriptmodel.Script{Default: &scriptmodel.Reply{Text: "from {{model}}", Usage: &scriptmodel.Usage{PromptTokens: 1000, CompletionTokens: 500}}})
	up := httptest.NewServer(scripted)
	defer up.Close()
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		t.Fatal(err)
	}
	f := models{transports: openaimodel.NewTransports(egress.New(egress.Config{Policy: policy}))}
	built, err := f.NewModel(assembler.ModelSettings{
		BaseURL: down.URL + "/v1",
		Spec: spec.Model{
			Model: "first", BaseURL: down.URL, APIKey: spec.Value{Ref: "key"}, Price: &spec.Price{Input: 100, Output: 100}, Retry: &spec.Retry{Attempts: 1},
			Fallbacks: []spec.Model{{Model: "second", BaseURL: up.URL, API: "responses", Price: &spec.Price{Input: 2, Output: 8}}},
		},
		Credentials: func(string) (secret.Value, bool) { return secret.NewValue("sk-of-the-first"), true },
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var text strings.Builder
		cost := 0.0
		for c, err := range built.Generate(t.Context(), model.Request{Stream: true, Messages: []model.Message{{Role: model.User, Text: "hi"}}}) {
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(c.Text)
			if c.Usage != nil {
				cost = c.Usage.CostUSD
			}
		}
		if text.String() != "from second" || cost != 0.006 {
			t.Errorf("answer %q at %v USD, want 0.006", text.String(), cost)
		}
	}
	closer, ok := built.(interface{ Close() error })
	if !ok || closer.Close() != nil {
		t.Error("the model can't be closed")
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff([]string{"Bearer sk-of-the-first"}, keys); diff != "" {
		t.Errorf("the first endpoint was asked with (-want +got):\n%s", diff)
	}
	for _, s := range scripted.Requests() {
		if s.Path != "/v1/responses" {
			t.Errorf("the second endpoint was asked at %s, though its api is another", s.Path)
		}
		if s.Key != "" || strings.Contains(string(s.Body), "sk-of-the-first") {
			t.Errorf("the second endpoint got %q: %s", s.Key, s.Body)
		}
	}
}
