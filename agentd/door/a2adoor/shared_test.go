package a2adoor_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/pending/inpending"
	"github.com/agentry/agentry/agentd/redis"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/agentd/task/redistask"
	"github.com/agentry/agentry/agentd/tool"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/test/harness"
)

// together are rigs whose tasks and suspended runs are kept in one place.
type together struct {
	server *harness.Redis
	runs   *inpending.Store
}

func newTogether(t *testing.T) together {
	t.Helper()
	runs, err := inpending.New(inpending.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return together{server: harness.StartRedis(t, harness.RedisOptions{}), runs: runs}
}

// store opens the tasks as one process does.
func (g together) store(t *testing.T) *redistask.Store {
	t.Helper()
	c, err := redis.New(redis.Config{Address: g.server.URL, Prefix: redis.Prefix("default", "helper"), Credential: func() secret.Value { return secret.Value{} }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := redistask.New(redistask.Config{Client: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(s.Close(), c.Close()) })
	return s
}

// rig is one process of them.
func (g together) rig(t *testing.T, s task.Store, change ...func(*run.Runtime, *a2adoor.Config)) *rig {
	t.Helper()
	return newRig(t, append([]func(*run.Runtime, *a2adoor.Config){func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.Tasks, rt.Pending = s, g.runs
	}}, change...)...)
}

// One process that shuts down fails what it works on, and leaves what waits to the others.
func TestAProcessThatLeavesTheOthers(t *testing.T) {
	t.Parallel()
	g := newTogether(t)
	mine := g.store(t)
	first, second := g.rig(t, mine), g.rig(t, g.store(t))
	a, b := first.bindings(t, "")["JSONRPC"], second.bindings(t, "")["GRPC"]
	slow := sent(t, a, say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
	asks := sent(t, a, say("ask-1"))
	until(t, b, slow.GetId(), pb.TaskState_TASK_STATE_WORKING)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := errors.Join(first.door.Close(ctx), mine.Close()); err != nil {
		t.Fatal(err)
	}
	until(t, b, slow.GetId(), pb.TaskState_TASK_STATE_FAILED)
	if got := state(t, b, asks.GetId()); got != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
		t.Errorf("what waits is %v", got)
	}
	if done := sent(t, b, say("ask-2", at(asks.GetId()))); done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
		t.Errorf("answered elsewhere: %v", done)
	}
}

// Canceling elsewhere ends the model call, also that of a run which goes on after a consent.
func TestCancelElsewhere(t *testing.T) {
	t.Parallel()
	g := newTogether(t)
	consent := func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.Tools = tools{slowTool{}}
		rt.Approval = &run.Approval{Needs: func(_, name string, _ map[string]any, _, _ string) (string, bool) {
			return "money leaves", name == "refund"
		}}
	}
	first, second := g.rig(t, g.store(t), consent), g.rig(t, g.store(t), consent)
	a, b := first.bindings(t, "")["JSONRPC"], second.bindings(t, "")["HTTP+JSON"]
	task := sent(t, a, say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
	if f := b.call(t, "CancelTask", &pb.CancelTaskRequest{Id: task.GetId()}, &pb.Task{}); f != nil {
		t.Fatalf("%+v", f)
	}
	select {
	case <-first.model.left:
	case <-time.After(5 * time.Second):
		t.Error("the model call goes on")
	}
	for name, decide := range map[string]func(id string){
		"by a message": func(string) {
			sent(t, a, say("approve", at(task.GetId()), configured(&pb.SendMessageConfiguration{ReturnImmediately: true}), func(r *pb.SendMessageRequest) {
				r.Message.Parts[0].Content = &pb.Part_Text{Text: "approve"}
			}))
		},
		"at another door": func(id string) {
			if err := first.runner.DecideAndRun(t.Context(), id, run.Decision{By: "boss", Approved: true}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		task = sent(t, a, say("refund-1"))
		waiting, err := first.runner.Pending(t.Context(), pending.Filter{States: []pending.State{pending.Waiting}})
		if err != nil || len(waiting) != 1 {
			t.Fatalf("%s: %v %v", name, waiting, err)
		}
		decide(waiting[0].ID)
		until(t, b, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
		if f := b.call(t, "CancelTask", &pb.CancelTaskRequest{Id: task.GetId()}, &pb.Task{}); f != nil {
			t.Fatalf("%s: %+v", name, f)
		}
		for end := time.Now().Add(5 * time.Second); ; {
			p, err := first.runner.PendingRun(t.Context(), waiting[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			if p.State.Final() {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the run goes on", name)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
}

// slowTool is a tool that ends with its caller.
type slowTool struct{ refund }

// Call implements tool.Tool.
func (slowTool) Call(ctx context.Context, _ json.RawMessage) (tool.Result, error) {
	<-ctx.Done()
	return tool.Result{}, ctx.Err()
}

// flaky is a store that is gone whenever a task is to be completed, for a number of times.
type flaky struct {
	*redistask.Store

	refuse atomic.Int64
}

// Update implements task.Store.
func (f *flaky) Update(ctx context.Context, ref task.Ref, change func(*task.Record) ([]task.Event, error)) (task.Record, error) {
	return f.Store.Update(ctx, ref, func(r *task.Record) ([]task.Event, error) {
		events, err := change(r)
		for _, e := range events {
			if e.Status != nil && e.Status.State == task.Completed && f.refuse.Add(-1) >= 0 {
				return nil, errs.New(errs.Unavailable, "down")
			}
		}
		return events, err
	})
}

// A task whose end could not be written doesn't work for ever: it ends when the store is back, or fails.
func TestTheStoreIsGoneAsATaskEnds(t *testing.T) {
	t.Parallel()
	for want, times := range map[pb.TaskState]int64{pb.TaskState_TASK_STATE_COMPLETED: 3, pb.TaskState_TASK_STATE_FAILED: 1 << 40} {
		t.Run(want.String(), func(t *testing.T) {
			t.Parallel()
			g := newTogether(t)
			s := &flaky{Store: g.store(t)}
			s.refuse.Store(times)
			r := g.rig(t, s, func(_ *run.Runtime, cfg *a2adoor.Config) {
				if want == pb.TaskState_TASK_STATE_FAILED {
					cfg.Impatient()
				}
			})
			c := r.bindings(t, "")["JSONRPC"]
			for range 5 { // more than are looked at at a time, and all before it
				sent(t, c, say("ask-1"))
			}
			id := sent(t, c, say("hello", configured(&pb.SendMessageConfiguration{ReturnImmediately: true}))).GetId()
			for end := time.Now().Add(30 * time.Second); state(t, c, id) != want; {
				if time.Now().After(end) {
					t.Fatalf("the task is %v, want %v", state(t, c, id), want)
				}
				<-time.After(20 * time.Millisecond)
			}
			out := &pb.Task{}
			if f := c.call(t, "GetTask", &pb.GetTaskRequest{Id: id}, out); f != nil {
				t.Fatalf("%+v", f)
			}
			if parts := out.GetArtifacts(); want == pb.TaskState_TASK_STATE_COMPLETED && (len(parts) != 1 || parts[0].GetParts()[0].GetText() != "Hello hi") {
				t.Errorf("the answer is %v", parts)
			}
		})
	}
}

// Tasks that a config before kept in the process are found; lists don't show them.
func TestTasksOfAConfigBefore(t *testing.T) {
	t.Parallel()
	before := newRig(t)
	c := before.bindings(t, "")["JSONRPC"]
	old := sent(t, c, say("hello"))
	g := newTogether(t)
	now := g.rig(t, g.store(t), func(_ *run.Runtime, cfg *a2adoor.Config) { cfg.Store = before.store })
	for name, c := range now.bindings(t, "") {
		if got := state(t, c, old.GetId()); got != pb.TaskState_TASK_STATE_COMPLETED {
			t.Errorf("%s: %v", name, got)
		}
		list := &pb.ListTasksResponse{}
		if f := c.call(t, "ListTasks", &pb.ListTasksRequest{}, list); f != nil || len(list.GetTasks()) != 0 {
			t.Errorf("%s: %v %+v", name, list, f)
		}
		failsWith(t, c.call(t, "GetTask", &pb.GetTaskRequest{Id: "other"}, &pb.Task{}), "TASK_NOT_FOUND")
	}
}

// The model sees the images of an answer to its question.
func TestAnAnswerWithAnImage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.bindings(t, "")["JSONRPC"]
	for _, words := range []string{"this one", ""} {
		asks := sent(t, c, say("ask-1"))
		done := sent(t, c, say("see-2", at(asks.GetId()), func(r *pb.SendMessageRequest) {
			picture := &pb.Part{Content: &pb.Part_Url{Url: "https://example.com/p.png"}, MediaType: "image/png"}
			r.Message.Parts = []*pb.Part{picture}
			if words != "" {
				r.Message.Parts = []*pb.Part{{Content: &pb.Part_Text{Text: words}}, picture}
			}
		}))
		if done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
			t.Fatalf("%v", done)
		}
		r.model.mu.Lock()
		last := r.model.seen[len(r.model.seen)-1].Messages
		r.model.mu.Unlock()
		m := last[len(last)-1]
		if len(m.Images) != 1 || m.Images[0].URL != "https://example.com/p.png" || !strings.Contains(last[len(last)-2].Text, words) {
			t.Errorf("the model saw %+v", last)
		}
	}
}
