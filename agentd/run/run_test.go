package run_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/agentry/agentry/agentd/builtin"
	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/memory/inmemory"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeModel answers the n-th call with the n-th function.
type fakeModel struct {
	mu      sync.Mutex
	calls   []model.Request
	answers []func(ctx context.Context, yield func(model.Chunk, error) bool)
}

func (f *fakeModel) Generate(ctx context.Context, r model.Request) iter.Seq2[model.Chunk, error] {
	return func(yield func(model.Chunk, error) bool) {
		f.mu.Lock()
		n := len(f.calls)
		f.calls = append(f.calls, r)
		f.mu.Unlock()
		f.answers[min(n, len(f.answers)-1)](ctx, yield)
	}
}

func chunks(cs ...model.Chunk) func(context.Context, func(model.Chunk, error) bool) {
	return func(_ context.Context, yield func(model.Chunk, error) bool) {
		for _, c := range cs {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func say(text string) func(context.Context, func(model.Chunk, error) bool) {
	return chunks(model.Chunk{Text: text}, model.Chunk{FinishReason: "stop", Usage: &model.Usage{InputTokens: 3, OutputTokens: 2}})
}

func ask(calls ...model.ToolCall) func(context.Context, func(model.Chunk, error) bool) {
	return chunks(model.Chunk{ToolCalls: calls, FinishReason: "tool_calls", Usage: &model.Usage{InputTokens: 3, OutputTokens: 2}})
}

type fakeTool struct {
	name string
	call func(ctx context.Context, args json.RawMessage) (tool.Result, error)
}

func (f *fakeTool) Spec() tool.Spec { return tool.Spec{Name: f.name, Server: "s", Tool: f.name} }

func (f *fakeTool) Call(ctx context.Context, args json.RawMessage) (tool.Result, error) {
	return f.call(ctx, args)
}

type fakeSet struct{ tools atomic.Pointer[[]tool.Tool] }

func (f *fakeSet) Tools() []tool.Tool { return *f.tools.Load() }

func set(tools ...tool.Tool) *fakeSet {
	f := &fakeSet{}
	f.tools.Store(&tools)
	return f
}

type fakeSource struct {
	rt       *run.Runtime
	err      error
	held     atomic.Int64
	released atomic.Int64
}

func (f *fakeSource) Acquire() (*run.Runtime, func(), error) {
	if f.err != nil {
		return nil, nil, f.err
	}
	f.held.Add(1)
	return f.rt, func() { f.released.Add(1) }, nil
}

type bench struct {
	*run.Runner
	source *fakeSource
	model  *fakeModel
	log    *bytes.Buffer
}

func open(t *testing.T, mutate func(*run.Runtime), answers ...func(context.Context, func(model.Chunk, error) bool)) *bench {
	t.Helper()
	store, err := inmemory.NewStore(inmemory.StoreConfig{})
	if err != nil {
		t.Fatal(err)
	}
	mem, err := inmemory.New(inmemory.Config{Store: store})
	if err != nil {
		t.Fatal(err)
	}
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{model: &fakeModel{answers: answers}, log: &bytes.Buffer{}}
	rt := &run.Runtime{Namespace: "default", Agent: "helper", Revision: 8, Config: "8-3f2a91c4", System: "You help.", Model: b.model, ModelName: "m", Memory: mem, Sessions: mem, Pending: runs, MaxIterations: 10}
	if mutate != nil {
		mutate(rt)
	}
	b.source = &fakeSource{rt: rt}
	b.Runner, err = run.New(run.Config{Source: b.source, Builtin: builtin.Tools{}, Instance: "i-1", Log: slog.New(slog.NewTextHandler(b.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
		if held, released := b.source.held.Load(), b.source.released.Load(); held != released || b.InFlight() != 0 {
			t.Errorf("%d runtimes taken, %d given back, %d in flight", held, released, b.InFlight())
		}
	})
	return b
}

func user(text string) run.Request {
	return run.Request{Messages: []engine.Message{{Role: engine.User, Text: text}}}
}

func (b *bench) do(t *testing.T, req run.Request) (engine.Result, error) {
	t.Helper()
	turn, err := b.Start(t.Context(), req)
	if err != nil {
		return engine.Result{}, err
	}
	return turn.Do(t.Context(), func(run.Delta) error { return nil })
}

func code(t *testing.T, err error, want string, kind errs.Kind) string {
	t.Helper()
	var e *run.Error
	if !errors.As(err, &e) || e.Code != want || errs.KindOf(err) != kind {
		t.Fatalf("err = %v (%+v), want code %s, kind %d", err, e, want, kind)
	}
	return e.Message
}

func TestToolsRunSideBySide(t *testing.T) {
	t.Parallel()
	var both sync.WaitGroup
	both.Add(2)
	meet := func(text string) *fakeTool {
		return &fakeTool{text, func(context.Context, json.RawMessage) (tool.Result, error) {
			both.Done()
			both.Wait() // ends only if both run at a time
			return tool.Result{Text: text}, nil
		}}
	}
	b := open(t, func(rt *run.Runtime) { rt.Tools = set(meet("a"), meet("b")) },
		ask(model.ToolCall{ID: "1", Name: "b"}, model.ToolCall{ID: "2", Name: "a"}, model.ToolCall{ID: "3", Name: "gone"}), say("done"))
	res, err := b.do(t, user("q"))
	if err != nil || res.Text != "done" || res.Usage.Total() != 10 {
		t.Fatalf("%+v, %v", res, err)
	}
	want := []model.Message{
		{Role: model.System, Text: "You help."},
		{Role: model.User, Text: "q"},
		{Role: model.Assistant, ToolCalls: []model.ToolCall{{ID: "1", Name: "b"}, {ID: "2", Name: "a"}, {ID: "3", Name: "gone"}}},
		{Role: model.Tool, ToolCallID: "1", Text: "b"},
		{Role: model.Tool, ToolCallID: "2", Text: "a"},
		{Role: model.Tool, ToolCallID: "3", Text: `there is no tool "gone" now: it does not exist, is switched off, or its server is lost`},
	}
	if diff := cmp.Diff(want, b.model.calls[1].Messages); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A tool switched off between the model's wish and the call is refused, and missing at the next model call.
func TestSwitchedOffAtOnce(t *testing.T) {
	t.Parallel()
	called := false
	s := set(&fakeTool{"off", func(context.Context, json.RawMessage) (tool.Result, error) {
		called = true
		return tool.Result{}, nil
	}})
	b := open(t, func(rt *run.Runtime) { rt.Tools = s },
		func(ctx context.Context, yield func(model.Chunk, error) bool) {
			s.tools.Store(&[]tool.Tool{})
			ask(model.ToolCall{ID: "1", Name: "off"})(ctx, yield)
		}, say("ok"))
	if _, err := b.do(t, user("q")); err != nil {
		t.Fatal(err)
	}
	if called || len(b.model.calls[0].Tools) != 1 || len(b.model.calls[1].Tools) != 0 {
		t.Errorf("called %v, tools %d then %d", called, len(b.model.calls[0].Tools), len(b.model.calls[1].Tools))
	}
}

func TestToolFailures(t *testing.T) {
	t.Parallel()
	tools := set(
		&fakeTool{"args", func(context.Context, json.RawMessage) (tool.Result, error) {
			return tool.Result{}, &tool.ArgumentsError{Message: "x: want number"}
		}},
		&fakeTool{"lost", func(context.Context, json.RawMessage) (tool.Result, error) {
			return tool.Result{}, errors.New("refused")
		}},
		&fakeTool{"panics", func(context.Context, json.RawMessage) (tool.Result, error) { panic("boom") }},
	)
	b := open(t, func(rt *run.Runtime) { rt.Tools = tools },
		ask(model.ToolCall{ID: "1", Name: "args"}, model.ToolCall{ID: "2", Name: "lost"}, model.ToolCall{ID: "3", Name: "panics"}), say("sorry"))
	if res, err := b.do(t, user("q")); err != nil || res.Text != "sorry" {
		t.Fatalf("%+v, %v", res, err)
	}
	var got []string
	for _, m := range b.model.calls[1].Messages[3:] {
		got = append(got, m.Text)
	}
	want := []string{"arguments: x: want number. Call the tool again with arguments that fit its schema.", "the tool could not be called: refused", "the tool failed internally"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(b.log.String(), "panic in a tool") {
		t.Error("the panic is not in the log")
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	fail := func(err error) func(context.Context, func(model.Chunk, error) bool) {
		return func(_ context.Context, yield func(model.Chunk, error) bool) { yield(model.Chunk{}, err) }
	}
	loop := ask(model.ToolCall{ID: "1", Name: "nothing"})
	for name, tc := range map[string]struct {
		mutate func(*run.Runtime)
		answer func(context.Context, func(model.Chunk, error) bool)
		req    run.Request
		code   string
		kind   errs.Kind
		says   string
	}{
		"model": {
			answer: fail(&model.Error{Code: "http_5xx", Message: "HTTP 500: oops", Attempts: []model.Attempt{{Model: "m", Status: 500}, {Model: "m", Status: 500}}}),
			req:    user("q"), code: "http_5xx", kind: errs.Unavailable, says: "after 2 attempts",
		},
		"panic": {
			answer: func(context.Context, func(model.Chunk, error) bool) { panic("boom") },
			req:    user("q"), code: run.CodePanic, kind: errs.Internal,
		},
		"iterations": {mutate: func(rt *run.Runtime) { rt.MaxIterations = 2 }, answer: loop, req: user("q"), code: run.CodeMaxIterations, kind: errs.Exhausted, says: "nothing x1"},
		"tool calls": {mutate: func(rt *run.Runtime) { rt.ToolCalls = 1 }, answer: loop, req: user("q"), code: run.CodeToolCalls, kind: errs.Exhausted},
		"tokens":     {mutate: func(rt *run.Runtime) { rt.Tokens = 9 }, answer: loop, req: user("q"), code: run.CodeTokens, kind: errs.Exhausted},
		"no message": {answer: say("x"), req: run.Request{Session: "s", Messages: []engine.Message{{Role: engine.User, Text: "q"}, {Role: engine.Assistant, Text: "a"}}}, code: run.CodeInvalid, kind: errs.Invalid},
		"closed door": {
			mutate: func(rt *run.Runtime) { rt.Closed = []run.Door{run.DoorOpenAI} },
			answer: say("x"), req: run.Request{Door: run.DoorOpenAI, Messages: user("q").Messages}, code: run.CodeNotExposed, kind: errs.NotFound,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := open(t, tc.mutate, tc.answer)
			_, err := b.do(t, tc.req)
			if message := code(t, err, tc.code, tc.kind); !strings.Contains(message, tc.says) {
				t.Errorf("message %q, want %q in it", message, tc.says)
			}
		})
	}
}

func TestNotServing(t *testing.T) {
	t.Parallel()
	b := open(t, nil, say("x"))
	b.source.err = errs.New(errs.Unavailable, "no config yet")
	_, err := b.Start(t.Context(), user("q"))
	code(t, err, run.CodeNotServing, errs.Unavailable)
	_, err = b.Serving(run.DoorOpenAI)
	code(t, err, run.CodeNotServing, errs.Unavailable)
}

func TestConcurrency(t *testing.T) {
	t.Parallel()
	b := open(t, func(rt *run.Runtime) { rt.Concurrency = 1 }, say("x"))
	first, err := b.Start(t.Context(), user("q"))
	if err != nil {
		t.Fatal(err)
	}
	turn, err := b.Start(t.Context(), user("q"))
	code(t, err, run.CodeConcurrency, errs.Exhausted)
	if turn == nil || turn.Config != "8-3f2a91c4" {
		t.Errorf("turn = %+v: a refused request names the config too", turn)
	}
	if _, err := first.Do(t.Context(), func(run.Delta) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := b.do(t, user("q")); err != nil {
		t.Fatal(err)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	b := open(t, nil, say("a1"), func(_ context.Context, yield func(model.Chunk, error) bool) {
		yield(model.Chunk{}, &model.Error{Code: "timeout", Message: "late"})
	}, say("a3"))
	session := func(ms ...engine.Message) run.Request { return run.Request{Session: "s", Principal: "p", Messages: ms} }
	u, a, sys := func(s string) engine.Message { return engine.Message{Role: engine.User, Text: s} }, func(s string) engine.Message { return engine.Message{Role: engine.Assistant, Text: s} }, engine.Message{Role: engine.System, Text: "ctx"}
	if _, err := b.do(t, session(sys, u("q1"))); err != nil {
		t.Fatal(err)
	}
	if _, err := b.do(t, session(sys, u("q1"), a("a1"), u("q2"))); err == nil {
		t.Fatal("no error")
	}
	rt := *b.source.rt
	rt.Config, rt.Revision = "9-00000000", 9
	b.source.rt = &rt
	turn, err := b.Start(t.Context(), session(sys, u("q1"), a("forged"), u("q3")))
	if err != nil {
		t.Fatal(err)
	}
	if turn.PreviousConfig != "8-3f2a91c4" || turn.Config != "9-00000000" {
		t.Errorf("config %q after %q", turn.Config, turn.PreviousConfig)
	}
	if _, err := turn.Do(t.Context(), func(run.Delta) error { return nil }); err != nil {
		t.Fatal(err)
	}
	wantMeta := map[string]string{"agent": "helper", "revision": "9", "config": "9-00000000", "session": "s"}
	if diff := cmp.Diff(wantMeta, b.model.calls[2].Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	var got []string
	for _, m := range b.model.calls[2].Messages {
		got = append(got, string(m.Role)+" "+m.Text)
	}
	want := []string{"system You help.", "system ctx", "user q1", "assistant a1", "user q3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the model saw (-want +got):\n%s", diff)
	}
	if turn, err = b.Start(t.Context(), run.Request{Session: "s", Principal: "another", Messages: user("q").Messages}); err != nil || turn.PreviousConfig != "" {
		t.Errorf("another principal reads the session: %+v, %v", turn, err)
	}
	if _, err := turn.Do(t.Context(), func(run.Delta) error { return nil }); err != nil {
		t.Fatal(err)
	}
}

// The caller leaves in the middle: the model call is cancelled and nothing is remembered.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	canceled := make(chan struct{})
	slow := func(ctx context.Context, yield func(model.Chunk, error) bool) {
		if yield(model.Chunk{Text: "one"}, nil) {
			<-ctx.Done()
		}
		close(canceled)
		yield(model.Chunk{}, context.Cause(ctx))
	}
	b := open(t, nil, slow)
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := b.Start(ctx, run.Request{Session: "s", Messages: user("q").Messages})
	if err != nil {
		t.Fatal(err)
	}
	_, err = turn.Do(ctx, func(run.Delta) error {
		cancel()
		return nil
	})
	<-canceled
	code(t, err, run.CodeCanceled, errs.Canceled)
	if u := b.Total(); u.Requests != 1 || u.Errors != 0 || u.InputTokens == 0 || u.OutputTokens != 1 { // estimated: nobody counted
		t.Errorf("usage = %+v", u)
	}
}

func TestReaderLeaves(t *testing.T) {
	t.Parallel()
	b := open(t, nil, func(_ context.Context, yield func(model.Chunk, error) bool) {
		if yield(model.Chunk{Text: "one"}, nil) {
			t.Error("the model was read on")
		}
	})
	turn, err := b.Start(t.Context(), user("q"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = turn.Do(t.Context(), func(run.Delta) error { return errors.New("gone") })
	code(t, err, run.CodeCanceled, errs.Canceled)
}

func TestWallTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := open(t, nil, func(ctx context.Context, yield func(model.Chunk, error) bool) {
			<-ctx.Done()
			yield(model.Chunk{}, context.Cause(ctx))
		})
		started := time.Now()
		_, err := b.do(t, user("q"))
		code(t, err, run.CodeDeadline, errs.Timeout)
		if took := time.Since(started); took != run.DefaultWallTime {
			t.Errorf("took %v", took)
		}
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	b := open(t, nil, say("x"))
	for range 3 {
		if _, err := b.do(t, user("q")); err != nil {
			t.Fatal(err)
		}
	}
	got := b.TakeUsage()
	if len(got) != 1 || got[0].Config != "8-3f2a91c4" || got[0].Requests != 3 || got[0].InputTokens != 9 || got[0].OutputTokens != 6 || got[0].Errors != 0 {
		t.Errorf("usage = %+v", got)
	}
	var n uint64
	for _, c := range got[0].Latency {
		n += c
	}
	if n != 3 || len(b.TakeUsage()) != 0 || b.Total().Requests != 3 {
		t.Errorf("%d in buckets; taken twice; total %+v", n, b.Total())
	}
	for i := range 100 {
		rt := *b.source.rt
		rt.Config = fmt.Sprintf("%d-x", i)
		b.source.rt = &rt
		if _, err := b.do(t, user("q")); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.TakeUsage(); len(got) != 65 || got[0].Config != "" || got[0].Requests != 36 {
		t.Errorf("%d configs, first %+v: want 64 and the rest under \"\"", len(got), got[0])
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	rec := tracetest.NewSpanRecorder()
	m := &fakeModel{answers: []func(context.Context, func(model.Chunk, error) bool){ask(model.ToolCall{ID: "1", Name: "t", Arguments: `{"planted":"content"}`}), say("planted answer")}}
	source := &fakeSource{rt: &run.Runtime{Agent: "helper", Revision: 8, Config: "8-x", PromptKey: "p", System: "planted prompt", Model: m, ModelName: "qwen", MaxIterations: 3, Tools: set(&fakeTool{"t", func(context.Context, json.RawMessage) (tool.Result, error) {
		return tool.Result{Text: "planted result", IsError: true}, nil
	}})}}
	r, err := run.New(run.Config{Source: source, Instance: "i-1", Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(rec))})
	if err != nil {
		t.Fatal(err)
	}
	turn, err := r.Start(t.Context(), user("planted question"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turn.Do(t.Context(), func(run.Delta) error { return nil }); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range rec.Ended() {
		names = append(names, s.Name())
		if text := fmt.Sprint(s.Attributes(), s.Events(), s.Status()); strings.Contains(text, "planted") {
			t.Errorf("content in span %s: %s", s.Name(), text)
		}
		attrs := attribute.NewSet(s.Attributes()...)
		if v, _ := attrs.Value(telemetry.AgentryInstance); v.AsString() != "i-1" {
			t.Errorf("span %s has no instance", s.Name())
		}
	}
	want := []string{"chat qwen", "execute_tool t", "chat qwen", "invoke_agent helper"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	last := attribute.NewSet(rec.Ended()[3].Attributes()...)
	for name, want := range map[attribute.Key]attribute.Value{
		telemetry.AgentryRevision: attribute.Int64Value(8), telemetry.AgentryConfig: attribute.StringValue("8-x"),
		telemetry.GenAIInputTokens: attribute.Int64Value(6), telemetry.GenAIAgentName: attribute.StringValue("helper"),
	} {
		if got, _ := last.Value(name); got != want {
			t.Errorf("%s = %v, want %v", name, got.AsInterface(), want.AsInterface())
		}
	}
}
