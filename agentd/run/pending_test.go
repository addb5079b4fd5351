package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
)

// shop is an agent whose refunds above 10 need consent.
type shop struct {
	*bench
	mu   sync.Mutex // guards seen
	seen []string   // arguments of refunds
}

func approval(timeout time.Duration) *run.Approval {
	return &run.Approval{Timeout: timeout, Needs: func(server, name string, args map[string]any, session, principal string) (string, bool) {
		amount, _ := args["amount"].(float64)
		return fmt.Sprintf("%s/%s by %q in %q", server, name, principal, session), name == "refund" && amount > 10
	}}
}

func openShop(t *testing.T, mutate func(*run.Runtime), answers ...func(context.Context, func(model.Chunk, error) bool)) *shop {
	t.Helper()
	s := &shop{}
	refund := &fakeTool{"refund", func(_ context.Context, args json.RawMessage) (tool.Result, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, string(args))
		return tool.Result{Text: "refunded"}, nil
	}}
	look := &fakeTool{"look", func(context.Context, json.RawMessage) (tool.Result, error) { return tool.Result{Text: "found"}, nil }}
	s.bench = open(t, func(rt *run.Runtime) {
		rt.Tools, rt.Approval = set(look, refund), approval(time.Hour)
		if mutate != nil {
			mutate(rt)
		}
	}, answers...)
	return s
}

func refunding(amount int) func(context.Context, func(model.Chunk, error) bool) {
	return ask(model.ToolCall{ID: "1", Name: "look"}, model.ToolCall{ID: "2", Name: "refund", Arguments: fmt.Sprintf(`{"amount":%d}`, amount)})
}

func inSession(text string) run.Request {
	return run.Request{Door: run.DoorREST, Principal: "bob", Session: "s", Messages: user(text).Messages, Metadata: map[string]string{"k": "v"}, Stop: []string{"END"}}
}

// suspend asks until the run waits.
func (s *shop) suspend(t *testing.T, req run.Request) pending.Run {
	t.Helper()
	turn, err := s.Start(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	res, err := turn.Do(t.Context(), nil)
	if err != nil || res.End != engine.BySuspend || turn.Pending == nil {
		t.Fatalf("%+v, %v, pending %v: want a suspended run", res, err, turn.Pending)
	}
	return *turn.Pending
}

func (s *shop) get(t *testing.T, id string) pending.Run {
	t.Helper()
	w, err := s.PendingRun(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (s *shop) history(t *testing.T) []string {
	t.Helper()
	turns, err := s.History(t.Context(), "bob", "s", 0)
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, turn := range turns {
		out = append(out, turn.Role+" "+turn.Text)
	}
	return out
}

func (s *shop) reconfigure(mutate func(*run.Runtime)) {
	rt := *s.source.rt
	mutate(&rt)
	s.source.rt = &rt
}

// TestApprove is the whole way: suspended before anything ran, holding nothing, refused to others meanwhile, decided, finished on the config of then
// with the arguments of the approver, remembered, and decided about once.
func TestApprove(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), say("done"))
	w := s.suspend(t, inSession("refund me"))
	if held, released := s.source.held.Load(), s.source.released.Load(); held != released || len(s.seen) > 0 {
		t.Fatalf("%d runtimes held, %d given back, tools ran: %v", held, released, s.seen)
	}
	if w.Kind != pending.Approval || w.State != pending.Waiting || w.Principal != "bob" || w.Session != "s" || w.Door != "rest" || w.Config != "8-3f2a91c4" || w.Engine != nil || len(w.ID) != 32 || w.ExpiresAt.Sub(w.CreatedAt) != time.Hour {
		t.Errorf("%+v", w)
	}
	wantCalls := []pending.Call{
		{ID: "1", Tool: "s/look", Name: "look", Arguments: json.RawMessage("{}"), Why: `s/look by "bob" in "s"`},
		{ID: "2", Tool: "s/refund", Name: "refund", Arguments: json.RawMessage(`{"amount":100}`), Why: `s/refund by "bob" in "s"`, Needs: true},
	}
	if diff := cmp.Diff(wantCalls, w.Calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	_, err := s.Start(t.Context(), inSession("and?"))
	var e *run.Error
	if code(t, err, run.CodePending, errs.Conflict); !errors.As(err, &e) || e.Pending != w.ID {
		t.Errorf("the session's next message: %+v", e)
	}
	s.reconfigure(func(rt *run.Runtime) { rt.Revision, rt.Config, rt.System = 9, "9-00000000", "You help more." })
	turn, err := s.Decide(t.Context(), w.ID, run.Decision{By: "ann", Approved: true, Reason: "fine", Arguments: map[string]json.RawMessage{"2": json.RawMessage(`{"amount":50}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if turn.Config != "9-00000000" || turn.PreviousConfig != "8-3f2a91c4" {
		t.Errorf("resumed on %q after %q", turn.Config, turn.PreviousConfig)
	}
	var text strings.Builder
	res, err := turn.Do(t.Context(), func(d run.Delta) error { text.WriteString(d.Text); return nil })
	if err != nil || res.Text != "done" || text.String() != "done" || !slices.Equal(s.seen, []string{`{"amount":50}`}) {
		t.Fatalf("%+v, %v, emitted %q, refunds %v", res, err, &text, s.seen)
	}
	got := s.get(t, w.ID)
	if got.State != pending.Done || got.Result == nil || got.Result.Text != "done" || got.Result.Usage.InputTokens != 6 || got.ResumedConfig != "9-00000000" || got.ResumedRevision != 9 || got.Config != "8-3f2a91c4" || got.Owner != "" ||
		len(got.Decisions) != 1 || got.Decisions[0].By != "ann" || string(got.Decisions[0].Arguments["2"]) != `{"amount":50}` {
		t.Errorf("the record: %+v", got)
	}
	if diff := cmp.Diff([]string{"user refund me", "assistant done"}, s.history(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	second := s.model.calls[1]
	if second.Messages[0].Text != "You help more." || second.Metadata["k"] != "v" || second.Metadata["config"] != "9-00000000" || !slices.Equal(second.Stop, []string{"END"}) {
		t.Errorf("the model got %+v", second)
	}
	if usage := s.Total(); usage.InputTokens != 6 || usage.Requests != 3 || usage.Errors != 0 {
		t.Errorf("counted %+v: the tokens before the decision count once", usage)
	}
	_, err = s.Decide(t.Context(), w.ID, run.Decision{By: "eve"})
	if message := code(t, err, run.CodeDecided, errs.Conflict); !strings.Contains(message, "ann") {
		t.Errorf("message %q does not name who decided", message)
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), say("sorry"))
	w := s.suspend(t, inSession("refund me"))
	if err := s.DecideAndRun(t.Context(), w.ID, run.Decision{By: "ann", Reason: "too much"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil { // waits
		t.Fatal(err)
	}
	if got := s.get(t, w.ID); got.State != pending.Denied || got.Result.Text != "sorry" || len(s.seen) > 0 {
		t.Errorf("%+v, refunds %v", got, s.seen)
	}
	tail := s.model.calls[1].Messages[3:]
	if len(tail) != 2 || tail[0].Text != "found" || tail[1].Text != "the call was denied by ann: too much. Nothing ran." {
		t.Errorf("the model was told %+v", tail)
	}
	if _, err := s.Decide(t.Context(), w.ID, run.Decision{Approved: true}); !errs.Is(err, errs.Conflict) {
		t.Errorf("an approval after the denial: %v", err)
	}
}

// TestOneDecides: of many who decide at once one wins, and the tool runs once.
func TestOneDecides(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), say("done"))
	w := s.suspend(t, inSession("refund me"))
	var won atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			switch err := s.DecideAndRun(t.Context(), w.ID, run.Decision{By: fmt.Sprint(i), Approved: true}); {
			case err == nil:
				won.Add(1)
			case !errs.Is(err, errs.Conflict):
				t.Errorf("decide: %v", err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, w.ID); won.Load() != 1 || len(s.seen) != 1 || got.State != pending.Done || len(got.Decisions) != 1 {
		t.Errorf("%d won, %d refunds, %+v", won.Load(), len(s.seen), got)
	}
}

// TestApproverLeaves: a decided run goes on for its caller when the approver doesn't wait.
func TestApproverLeaves(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), say("done"))
	w := s.suspend(t, inSession("refund me"))
	ctx, cancel := context.WithCancel(t.Context())
	turn, err := s.Decide(ctx, w.ID, run.Decision{By: "ann", Approved: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := turn.Do(ctx, func(run.Delta) error { return errors.New("gone") }); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, w.ID); got.State != pending.Done || len(s.seen) != 1 {
		t.Errorf("%+v", got)
	}
}

// TestAgain: a run that needs consent again waits as another one, so that a repeated approval can't reach calls that nobody saw.
func TestAgain(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), refunding(200), say("done"))
	w := s.suspend(t, inSession("refund me"))
	turn, err := s.Decide(t.Context(), w.ID, run.Decision{By: "ann", Approved: true})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := turn.Do(t.Context(), nil); err != nil || res.End != engine.BySuspend {
		t.Fatalf("%+v, %v", res, err)
	}
	first := s.get(t, w.ID)
	if first.State != pending.Done || first.Next == "" || first.Next != turn.Pending.ID || first.Result.Code != "suspended" {
		t.Errorf("the first: %+v", first)
	}
	if _, err := s.Decide(t.Context(), w.ID, run.Decision{Approved: true}); !errs.Is(err, errs.Conflict) {
		t.Errorf("the first again: %v", err)
	}
	turn, err = s.Decide(t.Context(), first.Next, run.Decision{By: "ann", Approved: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turn.Do(t.Context(), nil); err != nil || len(s.seen) != 2 {
		t.Fatalf("%v, refunds %v", err, s.seen)
	}
	if diff := cmp.Diff([]string{"user refund me", "assistant done"}, s.history(t)); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
}

func TestDecisionsRefused(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(rt *run.Runtime) { rt.Concurrency = 1 }, refunding(100), say("done"))
	w := s.suspend(t, inSession("refund me"))
	for name, tc := range map[string]struct {
		id   string
		d    run.Decision
		code string
		kind errs.Kind
	}{
		"unknown":        {"ffff", run.Decision{Approved: true}, run.CodeNotFound, errs.NotFound},
		"unknown call":   {w.ID, run.Decision{Approved: true, Arguments: map[string]json.RawMessage{"7": json.RawMessage("{}")}}, run.CodeInvalid, errs.Invalid},
		"no object":      {w.ID, run.Decision{Approved: true, Arguments: map[string]json.RawMessage{"2": json.RawMessage("[1]")}}, run.CodeInvalid, errs.Invalid},
		"null":           {w.ID, run.Decision{Approved: true, Arguments: map[string]json.RawMessage{"2": json.RawMessage("null")}}, run.CodeInvalid, errs.Invalid},
		"malformed JSON": {w.ID, run.Decision{Approved: true, Arguments: map[string]json.RawMessage{"2": json.RawMessage(`{"a`)}}, run.CodeInvalid, errs.Invalid},
	} {
		_, err := s.Decide(t.Context(), tc.id, tc.d)
		if code(t, err, tc.code, tc.kind); s.get(t, w.ID).State != pending.Waiting {
			t.Fatalf("%s: the run does not wait any more", name)
		}
	}
	if _, err := s.Resume(t.Context(), w.ID, inSession("yes")); !errs.Is(err, errs.Precondition) {
		t.Errorf("its caller can't consent by a message: %v", err)
	}
	busy, err := s.Start(t.Context(), user("q"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Decide(t.Context(), w.ID, run.Decision{Approved: true})
	code(t, err, run.CodeConcurrency, errs.Exhausted)
	if _, err := busy.Do(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.DecideAndRun(t.Context(), w.ID, run.Decision{Approved: true}); !errs.Is(err, errs.Unavailable) || s.get(t, w.ID).State != pending.Waiting {
		t.Errorf("decided after Close: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	var now atomic.Pointer[time.Time]
	at := time.Now()
	now.Store(&at)
	later := func(d time.Duration) {
		next := now.Load().Add(d)
		now.Store(&next)
	}
	s := openShop(t, func(rt *run.Runtime) { rt.Approval = approval(time.Minute) }, refunding(100), refunding(100), say("hello"), refunding(100))
	var err error
	s.Runner, err = run.New(run.Config{Source: s.source, Instance: "i-1", Now: func() time.Time { return *now.Load() }})
	if err != nil {
		t.Fatal(err)
	}
	swept := s.suspend(t, run.Request{Principal: "bob", Messages: user("q").Messages})
	w := s.suspend(t, inSession("refund me"))
	later(time.Minute + time.Second)
	_, err = s.Decide(t.Context(), w.ID, run.Decision{Approved: true})
	code(t, err, run.CodeExpired, errs.Conflict)
	if got := s.get(t, w.ID); got.State != pending.Expired || got.Result.Code != run.CodeExpired {
		t.Errorf("%+v", got)
	}
	if _, err := s.do(t, inSession("hello?")); err != nil { // the session is free again
		t.Error(err)
	}
	if err := s.Sweep(t.Context(), *now.Load()); err != nil || s.get(t, swept.ID).State != pending.Expired {
		t.Errorf("%v, %+v", err, s.get(t, swept.ID))
	}
	// A run whose owner dies in the middle fails once its time is over.
	w = s.suspend(t, inSession("again"))
	lost, err := s.source.rt.Pending.Get(t.Context(), w.Ref())
	if err != nil {
		t.Fatal(err)
	}
	lost.State, lost.Owner, lost.ExpiresAt = pending.Running, "i-9", now.Load().Add(time.Minute)
	if _, err := s.source.rt.Pending.Update(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context(), now.Load().Add(59*time.Second)); err != nil || s.get(t, w.ID).State != pending.Running {
		t.Errorf("%v, %+v", err, s.get(t, w.ID))
	}
	if err := s.Sweep(t.Context(), now.Load().Add(61*time.Second)); err != nil {
		t.Error(err)
	}
	if got := s.get(t, w.ID); got.State != pending.Failed || got.Result.Code != "lost" || !strings.Contains(got.Result.Message, "i-9") {
		t.Errorf("%+v", got)
	}
}

// TestRestart: what waits is in the store, not in the process.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, refunding(100), say("done"))
	w := s.suspend(t, inSession("refund me"))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.Runner, err = run.New(run.Config{Source: s.source, Instance: "i-2"}); err != nil {
		t.Fatal(err)
	}
	runs, err := s.Pending(t.Context(), pending.Filter{States: []pending.State{pending.Waiting}})
	if err != nil || len(runs) != 1 || runs[0].ID != w.ID {
		t.Fatalf("%+v, %v", runs, err)
	}
	turn, err := s.Decide(t.Context(), w.ID, run.Decision{Approved: true, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := turn.Do(t.Context(), nil); err != nil || res.Text != "done" || len(s.seen) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestResumedRunFails: what became of it is in the record.
func TestResumedRunFails(t *testing.T) {
	t.Parallel()
	s := openShop(t, func(rt *run.Runtime) { rt.MaxIterations = 2 }, refunding(100), refunding(1))
	w := s.suspend(t, inSession("refund me"))
	turn, err := s.Decide(t.Context(), w.ID, run.Decision{Approved: true, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = turn.Do(t.Context(), nil)
	code(t, err, run.CodeMaxIterations, errs.Exhausted)
	if got := s.get(t, w.ID); got.State != pending.Failed || got.Result.Code != run.CodeMaxIterations || got.Result.Usage.InputTokens != 6 || s.history(t) != nil {
		t.Errorf("%+v, remembered %v", got, s.history(t))
	}
}

// TestCloseCutsOff: Close gives background work the time of its context, then ends it; the record says so.
func TestCloseCutsOff(t *testing.T) {
	t.Parallel()
	started := make(chan struct{})
	s := openShop(t, nil, refunding(100), func(ctx context.Context, yield func(model.Chunk, error) bool) {
		close(started)
		<-ctx.Done()
		yield(model.Chunk{}, context.Cause(ctx))
	})
	w := s.suspend(t, inSession("refund me"))
	if err := s.DecideAndRun(t.Context(), w.ID, run.Decision{Approved: true, By: "ann"}); err != nil {
		t.Fatal(err)
	}
	<-started
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errs.Is(err, errs.Timeout) {
		t.Errorf("close: %v", err)
	}
	if got := s.get(t, w.ID); got.State != pending.Failed || got.Result.Code != run.CodeCanceled {
		t.Errorf("%+v", got)
	}
}

// TestForget drops what waits with its session.
func TestForget(t *testing.T) {
	t.Parallel()
	s := openShop(t, nil, say("hello"), refunding(100))
	if _, err := s.do(t, inSession("hi")); err != nil {
		t.Fatal(err)
	}
	w := s.suspend(t, inSession("refund me"))
	if infos, err := s.Sessions(t.Context(), "bob", 0); err != nil || len(infos) != 1 || infos[0].Session != "s" {
		t.Errorf("%+v, %v", infos, err)
	}
	if err := s.Forget(t.Context(), "eve", "s"); err != nil || len(s.history(t)) != 2 {
		t.Errorf("another caller's session of that name: %v, left %v", err, s.history(t))
	}
	if err := s.Forget(t.Context(), "bob", "s"); err != nil || s.history(t) != nil {
		t.Errorf("%v, left %v", err, s.history(t))
	}
	if _, err := s.PendingRun(t.Context(), w.ID); !errs.Is(err, errs.NotFound) {
		t.Errorf("the run of a forgotten session: %v", err)
	}
}
