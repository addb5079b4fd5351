package restdoor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/door/front"
	"github.com/agentry/agentry/agentd/door/restdoor"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scripted answers by the newest message: "use" calls the tool, after its result it tells it; "fail" fails; "slow" waits for the caller to
// leave; everything else is repeated.
type scripted struct {
	mu   sync.Mutex // guards seen and left
	seen []model.Request
	left chan struct{} // gets one when a slow call is cancelled
}

func (s *scripted) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		s.mu.Lock()
		s.seen = append(s.seen, r)
		s.mu.Unlock()
		newest := r.Messages[len(r.Messages)-1]
		usage := &model.Usage{InputTokens: 5, OutputTokens: 2}
		switch {
		case newest.Role == "tool":
			_ = yield(model.Chunk{Text: "it says: " + newest.Text}, nil) && yield(model.Chunk{FinishReason: "stop", Usage: usage}, nil)
		case strings.HasPrefix(newest.Text, "use"):
			args := strings.TrimSpace(strings.TrimPrefix(newest.Text, "use"))
			yield(model.Chunk{ToolCalls: []model.ToolCall{{ID: "call_1", Name: "desk__refund", Arguments: args}}, FinishReason: "tool_calls", Usage: usage}, nil)
		case newest.Text == "fail":
			yield(model.Chunk{}, &model.Error{Code: "rate_limited", Message: "too fast"})
		case newest.Text == "slow":
			if !yield(model.Chunk{Text: "begun"}, nil) {
				return
			}
			<-ctx.Done()
			s.left <- struct{}{}
			yield(model.Chunk{}, ctx.Err())
		default:
			_ = yield(model.Chunk{Text: "you said: ", Reasoning: "hm"}, nil) && yield(model.Chunk{Text: newest.Text}, nil) && yield(model.Chunk{FinishReason: "stop", Usage: usage}, nil)
		}
	}
}

func (s *scripted) last() model.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[len(s.seen)-1]
}

// refund is a tool that tells its arguments.
type refund struct{}

func (refund) Spec() tool.Spec {
	return tool.Spec{Name: "desk__refund", Server: "desk", Tool: "refund", Schema: json.RawMessage(`{"type":"object"}`)}
}

func (refund) Call(_ context.Context, args json.RawMessage) (tool.Result, error) {
	return tool.Result{Text: "refunded " + string(args)}, nil
}

func (r refund) Tools() []tool.Tool { return []tool.Tool{r} }

type source struct {
	mu sync.Mutex // guards rt and err
	rt run.Runtime

	err error
}

func (s *source) Acquire() (*run.Runtime, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rt := s.rt
	return &rt, func() {}, s.err
}

func (s *source) change(f func(*run.Runtime)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.rt)
}

// world is a door behind its front, with a client that holds every exchange against the door's own OpenAPI description.
type world struct {
	*httptest.Server
	t      testing.TB
	model  *scripted
	source *source
	router routers.Router
}

func open(tb testing.TB, change ...func(*restdoor.Config)) *world {
	tb.Helper()
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		tb.Fatal(err)
	}
	mem, err := inmemory.New(inmemory.Config{Store: store})
	if err != nil {
		tb.Fatal(err)
	}
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		tb.Fatal(err)
	}
	w := &world{t: tb, model: &scripted{left: make(chan struct{}, 1)}}
	w.source = &source{rt: run.Runtime{
		Namespace: "default", Agent: "helper", Revision: 8, Config: "8-3f2a91c4", System: "You help.", Model: w.model, Memory: mem, Sessions: mem, Pending: runs,
		Tools: refund{}, ToolPayload: 1 << 10, MaxIterations: 4,
		Approval: &run.Approval{Needs: func(_, _ string, args map[string]any, _, _ string) (string, bool) {
			return "amount > 50", args["amount"] == 70.0
		}},
	}}
	r, err := run.New(run.Config{Source: w.source})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	cfg := restdoor.Config{Runner: r, BodyTimeout: 2 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	door, err := restdoor.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	guard, err := front.New(front.Config{Source: r})
	if err != nil {
		tb.Fatal(err)
	}
	w.Server = httptest.NewServer(guard.Guard(door, restdoor.Refuse))
	tb.Cleanup(w.Close)
	status, body, _ := w.raw(http.MethodGet, "/openapi.json", "")
	if status != http.StatusOK {
		tb.Fatalf("openapi.json: %d %s", status, body)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(body))
	if err != nil {
		tb.Fatal(err)
	}
	if err := doc.Validate(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	doc.Servers = nil
	if w.router, err = gorillamux.NewRouter(doc); err != nil {
		tb.Fatal(err)
	}
	return w
}

func (w *world) keys(keys ...run.InboundKey) {
	w.source.change(func(rt *run.Runtime) { rt.Inbound.Keys = keys })
}

func key(name string, approver bool) run.InboundKey {
	return run.InboundKey{Name: name, Approver: approver, Value: func() secret.Value { return secret.NewValue("k-" + name) }}
}

func (w *world) raw(method, path, body string, header ...string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.Client().Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

// do is raw, held against the description: the answer always, the request where it was taken.
func (w *world) do(method, path, body string, header ...string) (int, string, http.Header) {
	w.t.Helper()
	status, answer, h := w.raw(method, path, body, header...)
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	route, params, err := w.router.FindRoute(req)
	if err != nil {
		w.t.Fatalf("%s %s is not in the description: %v", method, path, err)
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route, Options: &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true,
	}}
	if status < 300 {
		if err := openapi3filter.ValidateRequest(w.t.Context(), in); err != nil {
			w.t.Errorf("%s %s: the description refuses what the door takes: %v", method, path, err)
		}
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: status, Header: h, Options: in.Options}
	out.SetBodyBytes([]byte(answer))
	if status != http.StatusNoContent {
		if err := openapi3filter.ValidateResponse(w.t.Context(), out); err != nil {
			w.t.Errorf("%s %s: %d %s is not what the description says: %v", method, path, status, answer, err)
		}
	}
	return status, answer, h
}

// get reads an answer that must have the status.
func (w *world) get(want int, into any, method, path, body string, header ...string) http.Header {
	w.t.Helper()
	status, answer, h := w.do(method, path, body, header...)
	if status != want {
		w.t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, status, answer, want)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(answer), into); err != nil {
			w.t.Fatalf("%s: %v", answer, err)
		}
	}
	return h
}

type reply struct {
	Session, Agent, Config, Text, Reasoning, FinishReason string
	Usage                                                 struct{ TotalTokens int64 }
	Steps                                                 []struct{ Tool string }
	Stateless                                             bool
	Pending                                               *waiting
}

type waiting struct {
	ID, Principal, Session, Kind, State, Config, ResumedConfig string
	Engine                                                     json.RawMessage
	Calls                                                      []struct {
		ID, Tool  string
		Arguments json.RawMessage
		Why       string
		Needs     bool
	}
	Decisions []struct {
		By, Reason string
		Approved   bool
	}
	Result *struct{ Text, Code string }
}

type failure struct {
	Error struct{ Code, Message, Field, Pending string }
}

// eventually asks until ok, or for ten seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(10 * time.Second)
	defer end.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// event is one server-sent event.
type event struct {
	name string
	data string
}

func readEvents(t *testing.T, body string) []event {
	t.Helper()
	var out []event
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		name, data, ok := strings.Cut(block, "\n")
		if !ok || !strings.HasPrefix(name, "event: ") || !strings.HasPrefix(data, "data: ") || strings.Contains(data, "\n") {
			t.Fatalf("not an event: %q", block)
		}
		out = append(out, event{strings.TrimPrefix(name, "event: "), strings.TrimPrefix(data, "data: ")})
	}
	return out
}

func names(events []event) string {
	var b bytes.Buffer
	for _, e := range events {
		_, _ = fmt.Fprint(&b, e.name, " ")
	}
	return strings.TrimSpace(b.String())
}
