package a2adoor_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/tool"
)

// refund is a tool that needs consent.
type refund struct{ calls chan string }

// Spec implements tool.Tool.
func (refund) Spec() tool.Spec {
	return tool.Spec{Name: "shop__refund", Server: "shop", Tool: "refund", Description: "Pays back.", Schema: json.RawMessage(`{"type":"object"}`)}
}

// Call implements tool.Tool.
func (r refund) Call(_ context.Context, args json.RawMessage) (tool.Result, error) {
	r.calls <- string(args)
	return tool.Result{Text: "paid"}, nil
}

type tools []tool.Tool

// Tools implements tool.Set.
func (t tools) Tools() []tool.Tool { return t }

// consenting is a rig whose model wants a refund, which needs consent.
func consenting(t *testing.T, change ...func(*run.Runtime, *a2adoor.Config)) (*rig, refund) {
	t.Helper()
	r := refund{calls: make(chan string, 10)}
	return newRig(t, append([]func(*run.Runtime, *a2adoor.Config){func(rt *run.Runtime, _ *a2adoor.Config) {
		rt.Tools = tools{r}
		rt.Inbound.Keys = keyed("ci", "boss")
		rt.Approval = &run.Approval{Needs: func(_, name string, _ map[string]any, _, _ string) (string, bool) {
			return "money leaves", name == "refund"
		}}
	}}, change...)...), r
}

func TestApprovalByAMessage(t *testing.T) {
	t.Parallel()
	r, tool := consenting(t)
	asker := r.bindings(t, "key-of-boss")
	for name, c := range asker {
		task := sent(t, c, say("refund-"+name))
		m := task.GetStatus().GetMessage()
		if task.GetStatus().GetState() != pb.TaskState_TASK_STATE_INPUT_REQUIRED || !strings.Contains(m.GetParts()[0].GetText(), "shop/refund") || m.GetParts()[1].GetData().GetStructValue().GetFields()["kind"].GetStringValue() != "approval" {
			t.Fatalf("status is %v", task.GetStatus())
		}
		failsWith(t, c.call(t, "SendMessage", say("please", at(task.GetId())), &pb.SendMessageResponse{}), "UNSUPPORTED_OPERATION")
		select {
		case <-tool.calls:
			t.Fatal("the tool ran without consent")
		default:
		}
		decision, err := structpb.NewValue(map[string]any{"decision": "approve", "reason": "fine"})
		if err != nil {
			t.Fatal(err)
		}
		done := sent(t, c, say("yes", at(task.GetId()), func(r *pb.SendMessageRequest) { r.Message.Parts[0].Content = &pb.Part_Data{Data: decision} }))
		if done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || len(done.GetArtifacts()) != 1 {
			t.Errorf("%s: approved: %v", name, done)
		}
		if args := <-tool.calls; args != `{"amount":5}` {
			t.Errorf("the tool got %s", args)
		}
		denied := sent(t, c, say("refund-again"))
		denied = sent(t, c, say("no", at(denied.GetId()), func(r *pb.SendMessageRequest) { r.Message.Parts[0].Content = &pb.Part_Text{Text: "deny"} }))
		if denied.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || len(tool.calls) != 0 {
			t.Errorf("%s: denied: %v", name, denied)
		}
	}
	c := r.bindings(t, "key-of-ci")["JSONRPC"]
	task := sent(t, c, say("refund-ci"))
	failsWith(t, c.call(t, "SendMessage", say("approve", at(task.GetId()), func(r *pb.SendMessageRequest) { r.Message.Parts[0].Content = &pb.Part_Text{Text: "approve"} }), &pb.SendMessageResponse{}), "UNSUPPORTED_OPERATION")
}

// Somebody decides at another door: whoever reads the task learns it.
func TestApprovalElsewhere(t *testing.T) {
	t.Parallel()
	for name, approved := range map[string]bool{"approved": true, "denied": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, tool := consenting(t)
			runner := r.runner
			c := r.bindings(t, "key-of-ci")["JSONRPC"]
			task := sent(t, c, say("refund-1"))
			began, ended := make(chan struct{}), make(chan []string, 1)
			go func() {
				var got []*pb.StreamResponse
				_ = c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: task.GetId()}, func(s *pb.StreamResponse) bool {
					if got = append(got, s); len(got) == 1 {
						close(began)
					}
					return true
				})
				ended <- kinds(got)
			}()
			<-began
			waiting, err := runner.Pending(t.Context(), pending.Filter{States: []pending.State{pending.Waiting}})
			if err != nil || len(waiting) != 1 {
				t.Fatalf("%v %v", waiting, err)
			}
			if err := runner.DecideAndRun(t.Context(), waiting[0].ID, run.Decision{By: "boss", Approved: approved}); err != nil {
				t.Fatal(err)
			}
			until(t, c, task.GetId(), pb.TaskState_TASK_STATE_COMPLETED)
			if approved == (len(tool.calls) == 0) {
				t.Errorf("the tool ran %d times", len(tool.calls))
			}
			select {
			case got := <-ended:
				if got[len(got)-1] != "COMPLETED" || got[len(got)-2] != "artifact" {
					t.Errorf("the reader saw %v", got)
				}
			case <-time.After(5 * time.Second):
				t.Error("the reader's stream goes on")
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Approval = &run.Approval{Timeout: 50 * time.Millisecond} })
	c := r.bindings(t, "")["JSONRPC"]
	task := sent(t, c, say("ask-1"))
	end := time.Now().Add(5 * time.Second)
	for state(t, c, task.GetId()) != pb.TaskState_TASK_STATE_FAILED {
		if err := r.runner.Sweep(t.Context(), time.Now()); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(end) {
			t.Fatal("the task waits on")
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-t.Context().Done():
		}
	}
}

func TestClosing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.bindings(t, "")["JSONRPC"]
	task := sent(t, c, say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
	until(t, c, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := r.door.Close(ctx); err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	out := &pb.Task{}
	if f := c.call(t, "GetTask", &pb.GetTaskRequest{Id: task.GetId()}, out); f != nil || out.GetStatus().GetState() != pb.TaskState_TASK_STATE_FAILED || !strings.Contains(out.GetStatus().GetMessage().GetParts()[0].GetText(), "shutting down") {
		t.Errorf("%v %+v", out, f)
	}
	failsWith(t, c.call(t, "SendMessage", say("hello"), &pb.SendMessageResponse{}), "UNAVAILABLE")
}

func TestTooManyTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(_ *run.Runtime, cfg *a2adoor.Config) { cfg.MaxRunning, cfg.MaxStreams = 1, 1 })
	c := r.bindings(t, "")["HTTP+JSON"]
	task := sent(t, c, say("slow-1", configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
	f := c.call(t, "SendMessage", say("hello"), &pb.SendMessageResponse{})
	if failsWith(t, f, "RESOURCE_EXHAUSTED"); f.Code != "429" {
		t.Errorf("%+v", f)
	}
	_ = c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: task.GetId()}, func(*pb.StreamResponse) bool {
		failsWith(t, c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: task.GetId()}, func(*pb.StreamResponse) bool { return false }), "RESOURCE_EXHAUSTED")
		return false
	})
}
