package a2adoor_test

import (
	"context"
	"strings"
	"testing"

	old "github.com/a2aproject/a2a-go/a2apb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func client03(t *testing.T, r *rig) old.A2AServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(r.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return old.NewA2AServiceClient(conn)
}

// rpc03 makes a JSON-RPC call of 0.3 and gives its result, or the code of its error.
func TestLegacyGRPC(t *testing.T) {
	t.Parallel()
	r := newRig03(t)
	c := client03(t, r)
	text := func(id string) *old.SendMessageRequest {
		return &old.SendMessageRequest{Request: &old.Message{MessageId: id, Role: old.Role_ROLE_USER, Parts: []*old.Part{{Part: &old.Part_Text{Text: "hi"}}}}}
	}
	sent, err := c.SendMessage(t.Context(), text("ask"))
	if err != nil || sent.GetTask().GetStatus().GetState() != old.TaskState_TASK_STATE_INPUT_REQUIRED || sent.GetTask().GetStatus().GetUpdate().GetParts()[0].GetText() != "Which day?" {
		t.Fatalf("%v, %v", sent, err)
	}
	id := sent.GetTask().GetId()
	if got, err := c.GetTask(t.Context(), &old.GetTaskRequest{Name: "tasks/" + id}); err != nil || len(got.GetHistory()) == 0 {
		t.Errorf("%v, %v", got, err)
	}
	stream, err := c.SendStreamingMessage(t.Context(), text("drip"))
	if err != nil {
		t.Fatal(err)
	}
	var last *old.StreamResponse
	for n := 0; ; n++ {
		e, err := stream.Recv()
		if err != nil {
			break
		}
		if n == 0 && e.GetTask() == nil {
			t.Errorf("the first event is %v", e)
		}
		last = e
	}
	if !last.GetStatusUpdate().GetFinal() || last.GetStatusUpdate().GetStatus().GetState() != old.TaskState_TASK_STATE_COMPLETED {
		t.Errorf("the last event is %v", last)
	}
	if got, err := c.ListTasks(t.Context(), &old.ListTasksRequest{Status: old.TaskState_TASK_STATE_INPUT_REQUIRED}); err != nil || got.GetTotalSize() != 1 || got.GetTasks()[0].GetId() != id {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := c.CancelTask(t.Context(), &old.CancelTaskRequest{Name: "tasks/" + id}); err != nil || got.GetStatus().GetState() != old.TaskState_TASK_STATE_CANCELLED {
		t.Errorf("%v, %v", got, err)
	}
	for name, c := range map[string]struct {
		call func(context.Context) error
		code codes.Code
	}{
		"no such task": {func(ctx context.Context) error {
			_, err := c.GetTask(ctx, &old.GetTaskRequest{Name: "tasks/nobodys"})
			return err
		}, codes.NotFound},
		"no name":    {func(ctx context.Context) error { _, err := c.GetTask(ctx, &old.GetTaskRequest{Name: id}); return err }, codes.InvalidArgument},
		"no message": {func(ctx context.Context) error { _, err := c.SendMessage(ctx, &old.SendMessageRequest{}); return err }, codes.InvalidArgument},
		"an empty part": {func(ctx context.Context) error {
			m := text("m")
			m.Request.Parts[0].Part = nil
			_, err := c.SendMessage(ctx, m)
			return err
		}, codes.InvalidArgument},
		"no card": {func(ctx context.Context) error { _, err := c.GetAgentCard(ctx, &old.GetAgentCardRequest{}); return err }, codes.FailedPrecondition},
		"a name of less": {func(ctx context.Context) error {
			_, err := c.GetTaskPushNotificationConfig(ctx, &old.GetTaskPushNotificationConfigRequest{Name: "tasks/" + id})
			return err
		}, codes.InvalidArgument},
		"no config": {func(ctx context.Context) error {
			_, err := c.CreateTaskPushNotificationConfig(ctx, &old.CreateTaskPushNotificationConfigRequest{Parent: "tasks/" + id})
			return err
		}, codes.InvalidArgument},
		"what isn't done": {func(ctx context.Context) error {
			s, err := c.TaskSubscription(ctx, &old.TaskSubscriptionRequest{Name: "tasks/" + id})
			if err == nil {
				_, err = s.Recv()
			}
			return err
		}, codes.Unimplemented},
	} {
		if err := c.call(t.Context()); status.Code(err) != c.code {
			t.Errorf("%s: %v, want %v", name, err, c.code)
		}
	}
}
