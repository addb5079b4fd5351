package openaidoor_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/agentry/agentry/agentd/door/openaidoor"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/egress"
)

const question = `{"model":"helper","messages":[{"role":"user","content":"which configs are there?"}]}`

func post(b *testing.B, c *http.Client, url string) {
	b.Helper()
	resp, err := c.Post(url, "application/json", strings.NewReader(question))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		b.Fatalf("%d, %v", resp.StatusCode, err)
	}
}

// BenchmarkTurn is one turn through real HTTP on both sides, beside the direct call of the same stub and a plain forwarder in the
// standard library: compare the three of one run.
func BenchmarkTurn(b *testing.B) {
	stub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"x","object":"chat.completion","model":"stub","choices":[{"index":0,"message":{"role":"assistant","content":"two of them"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}`)
	}))
	defer stub.Close()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	floor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		resp, err := client.Post(stub.URL+"/v1/chat/completions", "application/json", r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		_, _ = io.Copy(w, resp.Body)
	}))
	defer floor.Close()
	policy, err := egress.ParsePolicy("loopback")
	if err != nil {
		b.Fatal(err)
	}
	m, err := openaimodel.New(openaimodel.Config{Model: "stub", BaseURL: stub.URL + "/v1", Transports: openaimodel.NewTransports(egress.New(egress.Config{Policy: policy}))})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close()
	r, err := run.New(run.Config{Source: &source{rt: &run.Runtime{Agent: "helper", Revision: 1, Config: "1-00000000", System: "You help.", Model: m, ModelName: "stub", MaxIterations: 10}}})
	if err != nil {
		b.Fatal(err)
	}
	h, err := openaidoor.New(openaidoor.Config{Runner: r})
	if err != nil {
		b.Fatal(err)
	}
	agent := httptest.NewServer(h)
	defer agent.Close()
	for _, target := range []struct{ name, url string }{{"direct", stub.URL}, {"floor", floor.URL}, {"agent", agent.URL}} {
		url := target.url + "/v1/chat/completions"
		b.Run(target.name+"/c=1", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				post(b, client, url)
			}
		})
		b.Run(target.name+"/c=16", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					post(b, client, url)
				}
			})
		})
	}
}
