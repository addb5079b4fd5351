package a2adoor_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

// hooked is a store that something happens in.
type hooked struct {
	task.Store

	mu      sync.Mutex // guards what follows
	create  func() error
	change  func(events []task.Event) // while an Update is made
	updated func(rec task.Record)     // behind an Update
	get     func()
}

func (h *hooked) arm(f func(h *hooked)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Create implements task.Store, and so do the others.
func (h *hooked) Create(ctx context.Context, r task.Record) (task.Record, error) {
	h.mu.Lock()
	f := h.create
	h.mu.Unlock()
	if f != nil {
		if err := f(); err != nil {
			return task.Record{}, err
		}
	}
	return h.Store.Create(ctx, r)
}

// Get implements task.Store.
func (h *hooked) Get(ctx context.Context, ref task.Ref) (task.Record, error) {
	h.mu.Lock()
	f := h.get
	h.get = nil
	h.mu.Unlock()
	if f != nil {
		f()
	}
	return h.Store.Get(ctx, ref)
}

// Update implements task.Store.
func (h *hooked) Update(ctx context.Context, ref task.Ref, change func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	h.mu.Lock()
	during, behind := h.change, h.updated
	h.mu.Unlock()
	rec, err := h.Store.Update(ctx, ref, func(r *task.Record) ([]task.Event, error) {
		events, err := change(r)
		if during != nil {
			during(events)
		}
		return events, err
	})
	if err == nil && behind != nil {
		behind(rec)
	}
	return rec, err
}

// once panics at the first event that is chosen.
func (h *hooked) once(chosen func(task.Event) bool) {
	h.arm(func(h *hooked) {
		var first sync.Once
		h.change = func(events []task.Event) {
			for _, e := range events {
				if chosen(e) {
					first.Do(func() { panic("the store is broken") })
				}
			}
		}
	})
}

// hooking puts a hooked store below a rig.
func hooking(h *hooked) func(*run.Runtime, *a2adoor.Config) {
	return func(_ *run.Runtime, cfg *a2adoor.Config) {
		h.Store = cfg.Store
		cfg.Store = h
	}
}

// cancelAtClaim cancels a task in the instant between a claim and whatever follows it.
func (h *hooked) cancelAtClaim(t *testing.T, c client) {
	t.Helper()
	var first sync.Once
	h.arm(func(h *hooked) {
		h.updated = func(rec task.Record) {
			if rec.Task.Status.State != task.Working {
				return
			}
			first.Do(func() {
				out := &pb.Task{}
				if f := c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: rec.Task.ID}, out); f != nil || out.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED {
					t.Errorf("canceled: %v %+v", out, f)
				}
			})
		}
	})
}

// The answer to a task that is canceled just as it is taken isn't worked on, and what the task waited for is over.
func TestCancelBetweenTheClaimAndTheRun(t *testing.T) {
	t.Parallel()
	h := &hooked{}
	r := newRig(t, hooking(h))
	c := r.bindings(t, "")["JSONRPC"]
	asks := sent(t, c, say("ask-1"))
	h.cancelAtClaim(t, c)
	if got := sent(t, c, say("monday-1", at(asks.GetId()))); got.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED {
		t.Errorf("the answer came to %v", got.GetStatus())
	}
	for _, req := range r.model.requests() {
		if req.Metadata["message_id"] == "monday-1" {
			t.Error("the model was asked for a task that was canceled")
		}
	}
	next := sent(t, c, say("hello-1", func(r *pb.SendMessageRequest) { r.Message.ContextId = asks.GetContextId() }))
	if next.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
		t.Errorf("the next task of the context is %v", next.GetStatus())
	}
}

// The same where the run goes on by a decision at another door: no tool is called.
func TestCancelBetweenTheClaimAndTheFollowedRun(t *testing.T) {
	t.Parallel()
	h := &hooked{}
	r, tool := consenting(t, hooking(h))
	c := r.bindings(t, "key-of-ci")["JSONRPC"]
	asks := sent(t, c, say("refund-1"))
	h.cancelAtClaim(t, c)
	decideAndWait(t, r)
	if n := len(tool.calls); n > 0 {
		t.Errorf("the tool was called %d times", n)
	}
	if got := state(t, c, asks.GetId()); got != pb.TaskState_TASK_STATE_CANCELED {
		t.Errorf("the task is %v", got)
	}
}

// decideAndWait approves the run that waits, and waits for its end.
func decideAndWait(t *testing.T, r *rig) {
	t.Helper()
	waiting, err := r.runner.Pending(t.Context(), pending.Filter{States: []pending.State{pending.Waiting}})
	if err != nil || len(waiting) != 1 {
		t.Fatalf("%v %v", waiting, err)
	}
	if err := r.runner.DecideAndRun(t.Context(), waiting[0].ID, run.Decision{By: "boss", Approved: true}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; {
		p, err := r.runner.PendingRun(t.Context(), waiting[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if p.State.Final() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the run is %s", p.State)
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

// Nothing is done for a task that the store has no room for, whether the model may answer without a task or not.
func TestNoToolRunsForARefusedTask(t *testing.T) {
	t.Parallel()
	for name, builtins := range map[string][]string{"lonely": {"reply"}, "never lonely": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hooked{create: func() error { return errs.New(errs.Exhausted, "full") }}
			tool := refund{calls: make(chan string, 10)}
			r := newRig(t, hooking(h), func(rt *run.Runtime, _ *a2adoor.Config) { rt.Tools, rt.Builtins = tools{tool}, builtins })
			for _, c := range r.bindings(t, "") {
				failsWith(t, c.call(t, "SendMessage", say("refund-1"), &pb.SendMessageResponse{}), "RESOURCE_EXHAUSTED")
				failsWith(t, c.stream(t.Context(), t, "SendStreamingMessage", say("refund-2"), func(*pb.StreamResponse) bool { return true }), "RESOURCE_EXHAUSTED")
			}
			failsWith(t, r.bindings(t, "")["JSONRPC"].call(t, "SendMessage", say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})), &pb.SendMessageResponse{}), "RESOURCE_EXHAUSTED")
			select {
			case <-r.model.left:
			case <-time.After(5 * time.Second):
				t.Error("the model call goes on")
			}
			if err := r.door.Close(t.Context()); err != nil { // nothing is under way any more
				t.Fatal(err)
			}
			if n := len(tool.calls); n > 0 {
				t.Errorf("the tool was called %d times", n)
			}
		})
	}
}

// A task is over though what tells of it panics: at its end, at a piece of the answer, and as a run is followed.
func TestPanicsEndTheTask(t *testing.T) {
	t.Parallel()
	t.Run("at the end", func(t *testing.T) {
		t.Parallel()
		h := &hooked{}
		r, _ := consenting(t, hooking(h))
		c := r.bindings(t, "key-of-ci")["JSONRPC"]
		asks := sent(t, c, say("refund-1"))
		h.once(func(e task.Event) bool { return e.Status != nil && e.Status.State.Terminal() })
		decideAndWait(t, r)
		until(t, c, asks.GetId(), pb.TaskState_TASK_STATE_FAILED)
	})
	t.Run("as it is followed", func(t *testing.T) {
		t.Parallel()
		h := &hooked{}
		r, tool := consenting(t, hooking(h))
		c := r.bindings(t, "key-of-ci")["JSONRPC"]
		asks := sent(t, c, say("refund-1"))
		h.arm(func(h *hooked) {
			h.updated = func(task.Record) {
				h.arm(func(h *hooked) { h.updated, h.get = nil, func() { panic("the store is broken") } })
			}
		})
		decideAndWait(t, r)
		until(t, c, asks.GetId(), pb.TaskState_TASK_STATE_FAILED)
		if len(tool.calls) > 0 {
			t.Error("the run went on")
		}
	})
	t.Run("at a piece", func(t *testing.T) {
		t.Parallel()
		h := &hooked{}
		r := newRig(t, hooking(h))
		c := r.bindings(t, "")["JSONRPC"]
		h.once(func(e task.Event) bool { return e.Chunk != nil })
		dripped := sent(t, c, say("drip-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
		until(t, c, dripped.GetId(), pb.TaskState_TASK_STATE_FAILED)
	})
}

// A message that can't be worked on now is given back, and whoever is told of the task learns that it waits again.
func TestGivenBackIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Concurrency = 1 })
	c, told := r.bindings(t, "")["JSONRPC"], newHook(t, 0)
	asks := sent(t, c, say("ask-1", configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: &pb.TaskPushNotificationConfig{Id: "p", Url: told.URL}})))
	busy := sent(t, c, say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
	until(t, c, busy.GetId(), pb.TaskState_TASK_STATE_WORKING)
	failsWith(t, c.call(t, "SendMessage", say("monday-1", at(asks.GetId())), &pb.SendMessageResponse{}), "RESOURCE_EXHAUSTED")
	if diff := cmp.Diff([]string{"WORKING", "INPUT_REQUIRED", "WORKING", "INPUT_REQUIRED"}, kinds(told.until(t, 4))); diff != "" {
		t.Error(diff)
	}
}

// Sessions of tenants are apart, whatever tenants and contexts are called, and those without a tenant are called as their contexts.
func TestSessionsOfTenantsAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.bindings(t, "")["JSONRPC"]
	for id, of := range map[string][2]string{"hello-1": {"", "a/b/c"}, "hello-2": {"a", "b/c"}, "hello-3": {"a/b", "c"}, "hello-4": {"", "a\u00a0b/c"}, "hello-5": {"a", "b%2Fc"}} {
		sent(t, c, say(id, func(r *pb.SendMessageRequest) { r.Tenant, r.Message.ContextId = of[0], of[1] }))
	}
	sessions := map[string]string{}
	for _, req := range r.model.requests() {
		id, name := req.Metadata["message_id"], req.Metadata["session"]
		for other, have := range sessions {
			if have == name {
				t.Errorf("%s and %s are in the session %q", id, other, name)
			}
		}
		sessions[id] = name
	}
	if len(sessions) != 5 || sessions["hello-1"] != "a/b/c" {
		t.Errorf("sessions are %q", sessions)
	}
}

// older is a store of runs that were suspended when a tenant's sessions had other names.
type older struct{ pending.Store }

// Put implements pending.Store.
func (o older) Put(ctx context.Context, r pending.Run) error {
	r.Session = strings.ReplaceAll(r.Session, "\x1f", "/")
	return o.Store.Put(ctx, r)
}

func TestATenantsOlderRunGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Pending = older{rt.Pending} })
	c := r.bindings(t, "")["JSONRPC"]
	tenanted := func(r *pb.SendMessageRequest) { r.Tenant = "acme" }
	asks := sent(t, c, say("ask-1", tenanted))
	if got := sent(t, c, say("monday-1", at(asks.GetId()), tenanted)); got.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
		t.Errorf("answered: %v", got.GetStatus())
	}
}
