package a2a

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// uuid gives a random id.
func uuid() string { return rand.Text() }

// message is a request to send one: the prefix of its id says what the agent does (ourRules, examples/a2a-conformance). more are pairs of a path
// such as "message.taskId" and a value.
func message(t *testing.T, prefix string, more ...any) string {
	t.Helper()
	return text(t, edit(t, object{"message": object{
		"messageId": prefix + "-" + uuid(), "role": "ROLE_USER", "parts": []any{object{"text": "hello"}},
	}}, more...))
}

// edit sets fields of an object by their paths; a nil value takes a field away.
func edit(t *testing.T, o object, more ...any) object {
	t.Helper()
	for i := 0; i+1 < len(more); i += 2 {
		path, ok := more[i].(string)
		if !ok {
			t.Fatalf("%v is no path", more[i])
		}
		at := o
		name, rest, deeper := strings.Cut(path, ".")
		for deeper {
			inner, ok := at[name].(object)
			if !ok {
				inner = object{}
				at[name] = inner
			}
			at = inner
			name, rest, deeper = strings.Cut(rest, ".")
		}
		if more[i+1] == nil {
			delete(at, name)
		} else {
			at[name] = more[i+1]
		}
	}
	return o
}

// send sends a message that makes or continues a task.
func (c caller) send(t *testing.T, request string) *pb.Task {
	t.Helper()
	out := &pb.SendMessageResponse{}
	c.must(t, sendMessage, request, out)
	if out.GetTask() == nil {
		t.Fatalf("no task: %v", out)
	}
	return out.GetTask()
}

// get reads a task. more are pairs for the request.
func (c caller) get(t *testing.T, id string, more ...any) *pb.Task {
	t.Helper()
	out := &pb.Task{}
	c.must(t, getTask, text(t, edit(t, object{"id": id}, more...)), out)
	return out
}

// list reads a page of tasks.
func (c caller) list(t *testing.T, more ...any) *pb.ListTasksResponse {
	t.Helper()
	out := &pb.ListTasksResponse{}
	c.must(t, listTasks, text(t, edit(t, object{}, more...)), out)
	return out
}

// completed makes a task that is over.
func (c caller) completed(t *testing.T, more ...any) *pb.Task {
	t.Helper()
	return c.reached(t, "tck-complete-task", pb.TaskState_TASK_STATE_COMPLETED, more...)
}

// waiting makes a task that waits for input.
func (c caller) waiting(t *testing.T, more ...any) *pb.Task {
	t.Helper()
	return c.reached(t, "tck-input-required", pb.TaskState_TASK_STATE_INPUT_REQUIRED, more...)
}

// working makes a task that works for a minute; it is canceled when the test ends.
func (c caller) working(t *testing.T) *pb.Task {
	t.Helper()
	task := c.send(t, message(t, "hang", "configuration.returnImmediately", true))
	if state := task.GetStatus().GetState(); over(state) {
		t.Fatalf("the task is %s already", state)
	}
	t.Cleanup(func() { c.stop(task.GetId()) })
	return task
}

// reached makes a task and wants it to be in a state.
func (c caller) reached(t *testing.T, prefix string, want pb.TaskState, more ...any) *pb.Task {
	t.Helper()
	task := c.send(t, message(t, prefix, more...))
	if state := task.GetStatus().GetState(); state != want {
		t.Fatalf("%s: the task is %s: %v", prefix, state, task)
	}
	return task
}

// stop cancels a task after a test, where that can be done.
func (c caller) stop(id string) {
	// The test's own context is over.
	ctx, cancel := contextAfter()
	defer cancel()
	out := &pb.Task{}
	_ = c.conn.Invoke(c.outgoing(ctx), service+cancelTask, &pb.CancelTaskRequest{Id: id, Tenant: c.tenant}, out)
}

// over reports whether a state is terminal.
func over(s pb.TaskState) bool {
	return slices.Contains([]pb.TaskState{
		pb.TaskState_TASK_STATE_COMPLETED, pb.TaskState_TASK_STATE_FAILED, pb.TaskState_TASK_STATE_CANCELED, pb.TaskState_TASK_STATE_REJECTED,
	}, s)
}

// plainJSON reads JSON as Go values.
func plainJSON(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}
