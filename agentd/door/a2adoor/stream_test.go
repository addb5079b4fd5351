package a2adoor_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

// kinds tells a stream in words.
func kinds(events []*pb.StreamResponse) []string {
	var out []string
	for _, e := range events {
		switch p := e.GetPayload().(type) {
		case *pb.StreamResponse_Task:
			out = append(out, "task")
		case *pb.StreamResponse_Message:
			out = append(out, "message")
		case *pb.StreamResponse_StatusUpdate:
			out = append(out, strings.TrimPrefix(p.StatusUpdate.GetStatus().GetState().String(), "TASK_STATE_"))
		case *pb.StreamResponse_ArtifactUpdate:
			out = append(out, "artifact")
		}
	}
	return out
}

// collect reads a stream to its end.
func collect(t *testing.T, c client, req *pb.SendMessageRequest) []*pb.StreamResponse {
	t.Helper()
	var out []*pb.StreamResponse
	if f := c.stream(t.Context(), t, "SendStreamingMessage", req, func(s *pb.StreamResponse) bool { out = append(out, s); return true }); f != nil {
		t.Fatalf("stream: %+v", f)
	}
	return out
}

func TestStreamsBeginWithTheTaskAndEndWithIt(t *testing.T) {
	t.Parallel()
	for name, builtins := range map[string][]string{"with reply": nil, "without": {"ask_user", "attach"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) {
				if builtins != nil {
					rt.Builtins = builtins
				}
			})
			each(t, r, func(t *testing.T, c client) {
				t.Helper()
				for id, want := range map[string][]string{
					"hello-1":  {"task", "WORKING", "artifact", "COMPLETED"},
					"attach-1": {"task", "WORKING", "artifact", "COMPLETED"},
					"pieces-1": {"task", "WORKING", "artifact", "artifact", "COMPLETED"},
					"ask-1":    {"task", "WORKING", "INPUT_REQUIRED"},
				} {
					got := collect(t, c, say(id))
					if diff := cmp.Diff(want, kinds(got)); diff != "" {
						t.Errorf("%s: %s", id, diff)
					}
					first := got[0].GetTask()
					for _, e := range got[1:] {
						if u := e.GetStatusUpdate(); u != nil && (u.GetTaskId() != first.GetId() || u.GetContextId() != first.GetContextId()) {
							t.Errorf("%s: an update of %s", id, u.GetTaskId())
						}
					}
					if id == "ask-1" {
						next := collect(t, c, say("complete-1", at(first.GetId())))
						if diff := cmp.Diff([]string{"task", "artifact", "COMPLETED"}, kinds(next)); diff != "" || next[0].GetTask().GetStatus().GetState() != pb.TaskState_TASK_STATE_WORKING {
							t.Errorf("going on: %s %v", diff, next[0])
						}
					}
				}
				last := collect(t, c, say("pieces-1"))
				if u := last[3].GetArtifactUpdate(); !u.GetAppend() || !u.GetLastChunk() || u.GetArtifact().GetArtifactId() != last[2].GetArtifactUpdate().GetArtifact().GetArtifactId() {
					t.Errorf("the second piece is %v", u)
				}
			})
		})
	}
}

func TestAnswersStreamAsTheyAreMade(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		var text strings.Builder
		pieces := 0
		events := collect(t, c, say("drip-1"))
		for i, e := range events {
			if u := e.GetArtifactUpdate(); u != nil {
				if u.GetAppend() != (pieces > 0) {
					t.Errorf("event %d: append is %v", i, u.GetAppend())
				}
				pieces++
				text.WriteString(u.GetArtifact().GetParts()[0].GetText())
			}
		}
		if text.String() != "01234" || pieces < 3 {
			t.Errorf("%d pieces of %q", pieces, text.String())
		}
		out := &pb.Task{}
		if f := c.call(t, "GetTask", &pb.GetTaskRequest{Id: events[0].GetTask().GetId()}, out); f != nil || out.GetArtifacts()[0].GetParts()[0].GetText() != "01234" || len(out.GetArtifacts()[0].GetParts()) != 1 {
			t.Errorf("the task has %v (%v)", out.GetArtifacts(), f)
		}
	})
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		waiting := sent(t, c, say("ask-1"))
		const readers = 10
		var wg sync.WaitGroup
		seen := make([][]string, readers)
		began := make(chan struct{}, readers)
		for i := range readers {
			wg.Go(func() {
				_ = c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: waiting.GetId()}, func(s *pb.StreamResponse) bool {
					b, err := protojson.MarshalOptions{}.Marshal(s)
					if err != nil {
						t.Error(err)
					}
					var plain strings.Builder // protojson puts spaces in at random, but the same ones for a process
					plain.Write(b)
					seen[i] = append(seen[i], plain.String())
					if len(seen[i]) == 1 {
						if s.GetTask().GetStatus().GetState() != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
							t.Errorf("first event is %v", s)
						}
						began <- struct{}{}
					}
					return i > 0 // the first reader leaves at once
				})
			})
		}
		for range readers {
			<-began
		}
		sent(t, c, say("drip-1", at(waiting.GetId())))
		wg.Wait()
		if len(seen[0]) != 1 {
			t.Errorf("who left saw %d", len(seen[0]))
		}
		for i := 2; i < readers; i++ {
			if diff := cmp.Diff(seen[1], seen[i]); diff != "" {
				t.Fatalf("reader %d saw otherwise: %s", i, diff)
			}
		}
		if n := len(seen[1]); n < 4 || !strings.Contains(seen[1][n-1], "TASK_STATE_COMPLETED") {
			t.Errorf("readers saw %v", seen[1])
		}
		none := func(*pb.StreamResponse) bool { t.Error("an event"); return false }
		failsWith(t, c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: waiting.GetId()}, none), "UNSUPPORTED_OPERATION")
		failsWith(t, c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: "nobodys"}, none), "TASK_NOT_FOUND")
	})
}

// A caller who leaves his stream leaves the task alone.
func TestTasksOutliveTheirStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var id string
		_ = c.stream(ctx, t, "SendStreamingMessage", say("delayed-1"), func(s *pb.StreamResponse) bool {
			id = s.GetTask().GetId()
			return false
		})
		cancel()
		until(t, c, id, pb.TaskState_TASK_STATE_COMPLETED)
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		name := strings.ReplaceAll(t.Name(), "/", "-")
		task := sent(t, c, say("slow-"+name, configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
		ended := make(chan []*pb.StreamResponse, 1)
		began := make(chan struct{})
		go func() {
			var got []*pb.StreamResponse
			_ = c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: task.GetId()}, func(s *pb.StreamResponse) bool {
				if got = append(got, s); len(got) == 1 {
					close(began)
				}
				return true
			})
			ended <- got
		}()
		<-began
		out := &pb.Task{}
		if f := c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: task.GetId()}, out); f != nil || out.GetId() != task.GetId() || out.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED {
			t.Fatalf("canceled: %v, %+v", out, f)
		}
		select {
		case got := <-ended:
			if k := kinds(got); k[len(k)-1] != "CANCELED" {
				t.Errorf("the stream saw %v", k)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the stream goes on")
		}
		for gone := ""; gone != "slow-"+name; {
			select {
			case gone = <-r.model.left:
				if gone != "slow-"+name {
					r.model.left <- gone // another binding's
				}
			case <-time.After(5 * time.Second):
				t.Fatal("the model is still asked")
			}
		}
		if f := c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: task.GetId()}, out); f != nil || out.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED {
			t.Errorf("once more: %+v", f)
		}
		failsWith(t, c.call(t, "SendMessage", say("more", at(task.GetId())), &pb.SendMessageResponse{}), "UNSUPPORTED_OPERATION")

		done := sent(t, c, say("hello"))
		failsWith(t, c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: done.GetId()}, out), "TASK_NOT_CANCELABLE")
		failsWith(t, c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: "nobodys"}, out), "TASK_NOT_FOUND")

		// a task that waits is canceled with the run that it waits for: its context is free again
		waiting := sent(t, c, say("ask-1"))
		if f := c.call(t, "CancelTask", &pb.CancelTaskRequest{Id: waiting.GetId()}, out); f != nil {
			t.Fatal(f)
		}
		next := sent(t, c, say("hello", func(r *pb.SendMessageRequest) { r.Message.ContextId = waiting.GetContextId() }))
		if next.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
			t.Errorf("the context is %v", next.GetStatus())
		}
	})
}

func TestStreamingSwitchedOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.Streaming, rt.A2A.Push = false, false })
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		none := func(*pb.StreamResponse) bool { return false }
		failsWith(t, c.stream(t.Context(), t, "SendStreamingMessage", say("x"), none), "UNSUPPORTED_OPERATION")
		failsWith(t, c.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: "x"}, none), "UNSUPPORTED_OPERATION")
		failsWith(t, c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: "x", Url: "https://example.com"}, &pb.TaskPushNotificationConfig{}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
		failsWith(t, c.call(t, "GetTaskPushNotificationConfig", &pb.GetTaskPushNotificationConfigRequest{TaskId: "x", Id: "y"}, &pb.TaskPushNotificationConfig{}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
		failsWith(t, c.call(t, "ListTaskPushNotificationConfigs", &pb.ListTaskPushNotificationConfigsRequest{TaskId: "x"}, &pb.ListTaskPushNotificationConfigsResponse{}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
		failsWith(t, c.call(t, "DeleteTaskPushNotificationConfig", &pb.DeleteTaskPushNotificationConfigRequest{TaskId: "x", Id: "y"}, &emptypb.Empty{}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
		failsWith(t, c.call(t, "SendMessage", say("x", configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: &pb.TaskPushNotificationConfig{Url: "https://example.com"}})), &pb.SendMessageResponse{}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
		failsWith(t, c.call(t, "GetExtendedAgentCard", &pb.GetExtendedAgentCardRequest{}, &pb.AgentCard{}), "UNSUPPORTED_OPERATION")
	})
}

func TestListTasks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		contextID := "list-" + strings.ReplaceAll(t.Name(), "/", "-")
		in := func(r *pb.SendMessageRequest) { r.Message.ContextId = contextID }
		for range 7 {
			sent(t, c, say("hello", in))
		}
		waiting := sent(t, c, say("ask-1", in)).GetId()
		list := func(q *pb.ListTasksRequest) *pb.ListTasksResponse {
			t.Helper()
			q.ContextId = contextID
			out := &pb.ListTasksResponse{}
			if f := c.call(t, "ListTasks", q, out); f != nil {
				t.Fatal(f)
			}
			return out
		}
		all := list(&pb.ListTasksRequest{})
		if all.GetTotalSize() != 8 || len(all.GetTasks()) != 8 || all.GetNextPageToken() != "" || all.GetPageSize() != 50 {
			t.Errorf("all: %d of %d, page size %d, next %q", len(all.GetTasks()), all.GetTotalSize(), all.GetPageSize(), all.GetNextPageToken())
		}
		var got []string
		var last time.Time
		for _, task := range all.GetTasks() {
			at := task.GetStatus().GetTimestamp().AsTime()
			if !last.IsZero() && at.After(last) {
				t.Error("not newest first")
			}
			last = at
			if task.GetArtifacts() != nil {
				t.Error("artifacts without being asked for")
			}
			got = append(got, task.GetId())
		}
		var paged []string
		token := ""
		for pages := 0; ; pages++ {
			size := int32(3)
			page := list(&pb.ListTasksRequest{PageSize: &size, PageToken: token})
			for _, task := range page.GetTasks() {
				paged = append(paged, task.GetId())
			}
			if page.GetTotalSize() != 8 || page.GetPageSize() != 3 || pages > 5 {
				t.Fatalf("page %d is %v", pages, page)
			}
			if token = page.GetNextPageToken(); token == "" {
				break
			}
		}
		if diff := cmp.Diff(got, paged); diff != "" {
			t.Errorf("pages differ: %s", diff)
		}
		yes := true
		with := list(&pb.ListTasksRequest{IncludeArtifacts: &yes, Status: pb.TaskState_TASK_STATE_COMPLETED})
		if len(with.GetTasks()) != 7 || len(with.GetTasks()[0].GetArtifacts()) != 1 || slices.ContainsFunc(with.GetTasks(), func(x *pb.Task) bool { return x.GetId() == waiting }) {
			t.Errorf("completed: %d", len(with.GetTasks()))
		}
		out := &pb.ListTasksResponse{}
		for _, n := range []int32{0, -1, 101} {
			failsWith(t, c.call(t, "ListTasks", &pb.ListTasksRequest{PageSize: &n}, out), "INVALID_PARAMS")
		}
		failsWith(t, c.call(t, "ListTasks", &pb.ListTasksRequest{PageToken: "nonsense"}, out), "INVALID_PARAMS")
		if empty := (&pb.ListTasksResponse{}); c.call(t, "ListTasks", &pb.ListTasksRequest{ContextId: "nobodys"}, empty) != nil || len(empty.GetTasks()) != 0 {
			t.Error("an unknown context has tasks")
		}
	})
}
