package a2a

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// ended are prefixes of messages whose tasks end at once, with the state in which they do.
func ended() map[string]pb.TaskState {
	return map[string]pb.TaskState{
		"tck-complete-task": pb.TaskState_TASK_STATE_COMPLETED, "tck-fail": pb.TaskState_TASK_STATE_FAILED, "tck-reject": pb.TaskState_TASK_STATE_REJECTED,
	}
}

// terminal makes a task of each terminal state.
func (c caller) terminal(t *testing.T) []*pb.Task {
	t.Helper()
	var out []*pb.Task
	for prefix, state := range ended() {
		out = append(out, c.reached(t, prefix, state))
	}
	canceled := &pb.Task{}
	c.must(t, cancelTask, text(t, object{"id": c.waiting(t).GetId()}), canceled)
	return append(out, canceled)
}

// sending is section 3.1.1.
func sending() []requirement {
	return []requirement{
		{
			id: "SEND-1", section: "3.1.1", level: must, what: "a message is answered by a task, or by a message",
			test: func(t *testing.T, c caller) {
				if task := c.completed(t); task.GetId() == "" || task.GetStatus() == nil {
					t.Errorf("no whole task: %v", task)
				}
				out := &pb.SendMessageResponse{}
				c.at(c.world.open).must(t, sendMessage, message(t, "tck-message-response"), out)
				if out.GetMessage() == nil {
					t.Errorf("no message: %v", out)
				}
			},
		},
		{
			id: "SEND-2", section: "3.1.1", level: may, what: "a simple message may be answered by a message alone, and then there is no task",
			test: func(t *testing.T, c caller) {
				c = c.at(c.world.open).in(uuid())
				out := &pb.SendMessageResponse{}
				c.must(t, sendMessage, message(t, "tck-message-response"), out)
				if m := out.GetMessage(); m.GetRole() != pb.Role_ROLE_AGENT || m.GetTaskId() != "" || textOf(m.GetParts()) != "Direct message response" {
					t.Errorf("the message is %v", m)
				}
				if have := c.list(t); have.GetTotalSize() != 0 {
					t.Errorf("there are tasks: %v", have)
				}
			},
		},
		{
			id: "SEND-3", section: "3.1.1", level: may, what: "a task may be worked on after the answer",
			test: func(t *testing.T, c caller) {
				task := c.send(t, message(t, "tck-stream", "configuration.returnImmediately", true))
				if over(task.GetStatus().GetState()) {
					t.Fatalf("it is %s already", task.GetStatus().GetState())
				}
				c.until(t, task.GetId(), pb.TaskState_TASK_STATE_COMPLETED)
			},
		},
		{
			id: "SEND-4", section: "3.1.1", level: must, what: "a part of a media type that the agent doesn't take is refused by ContentTypeNotSupported",
			test: func(t *testing.T, c caller) {
				for _, part := range []object{{"raw": "dGNr", "mediaType": "application/x-unknown"}, {"text": "x", "mediaType": "text/x-unknown"}} {
					c.refused(t, sendMessage, message(t, "tck-complete-task", "message.parts", []any{part}), "CONTENT_TYPE_NOT_SUPPORTED")
				}
			},
		},
		{
			id: "SEND-5", section: "3.1.1", level: must, what: "a message to a task that is completed, failed, canceled or rejected is refused by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				for _, task := range c.terminal(t) {
					c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", task.GetId()), "UNSUPPORTED_OPERATION")
					if again := c.get(t, task.GetId()); !proto.Equal(again.GetStatus(), task.GetStatus()) {
						t.Errorf("the refused message changed the task: %v", again)
					}
				}
			},
		},
		{
			id: "SEND-6", section: "3.1.1", level: must, what: "a message to a task that is unknown, or somebody else's, is refused by TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", uuid()), "TASK_NOT_FOUND")
				c.as(c.world.bob).refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", c.waiting(t).GetId()), "TASK_NOT_FOUND")
			},
		},
		{
			id: "SEND-7", section: "3.2.1", level: must, what: "a request to send names a message",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, `{}`, "INVALID_PARAMS")
				c.refused(t, streamMessage, `{}`, "INVALID_PARAMS")
			},
		},
		{
			id: "SEND-8", section: "3.2.5", level: may, what: "metadata of a request may hold any JSON",
			test: func(t *testing.T, c caller) {
				c.send(t, message(t, "tck-complete-task", "metadata", anyJSON()))
				task := c.waiting(t)
				c.must(t, cancelTask, text(t, object{"id": task.GetId(), "metadata": anyJSON()}), &pb.Task{})
			},
		},
	}
}

// anyJSON is an object with a value of each kind.
func anyJSON() object {
	return object{"s": "text", "n": 1.5, "b": true, "z": nil, "a": []any{1, "two", object{"x": "y"}}, "o": object{"deep": object{"er": "still"}}}
}

// textOf joins the texts of parts.
func textOf(parts []*pb.Part) string {
	var out strings.Builder
	for _, p := range parts {
		out.WriteString(p.GetText())
	}
	return out.String()
}

// until waits for a task to be in a state.
func (c caller) until(t *testing.T, id string, want pb.TaskState) *pb.Task {
	t.Helper()
	var task *pb.Task
	eventually(t, func(context.Context) error {
		if task = c.get(t, id); task.GetStatus().GetState() != want {
			return errors.New("the task is " + task.GetStatus().GetState().String())
		}
		return nil
	})
	return task
}

// modes is section 3.2.2.
func modes() []requirement {
	return []requirement{
		{
			id: "MODE-1", section: "3.2.2", level: must, what: "a send waits for the task's end, where returnImmediately is unset or false",
			test: func(t *testing.T, c caller) {
				for _, more := range [][]any{nil, {"configuration", object{}}, {"configuration.returnImmediately", false}} {
					if task := c.send(t, message(t, "tck-stream", more...)); task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
						t.Errorf("%v: it came back %s", more, task.GetStatus().GetState())
					}
				}
				for prefix, state := range ended() {
					c.reached(t, prefix, state)
				}
			},
		},
		{
			id: "MODE-2", section: "3.2.2", level: must, what: "a send that waits comes back when the task asks for input or for authorization",
			test: func(t *testing.T, c caller) {
				c.waiting(t)
				c.reached(t, "tck-auth-required", pb.TaskState_TASK_STATE_AUTH_REQUIRED)
			},
		},
		{
			id: "MODE-3", section: "3.2.2", level: must, what: "the answer of a send that waited is the latest task with all its artifacts",
			test: func(t *testing.T, c caller) {
				for _, prefix := range []string{"tck-stream", "two-artifacts"} {
					task := c.send(t, message(t, prefix))
					if len(task.GetArtifacts()) == 0 || !proto.Equal(task, c.get(t, task.GetId())) {
						t.Errorf("%s: the answer is %v", prefix, task)
					}
				}
			},
		},
		{
			id: "MODE-4", section: "3.2.2", level: must, what: "with returnImmediately a send comes back as soon as there is a task, which is under way",
			test: func(t *testing.T, c caller) {
				begun := time.Now()
				task := c.working(t)
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("it took %s of a minute's work", took)
				}
				if s := task.GetStatus().GetState(); s != pb.TaskState_TASK_STATE_SUBMITTED && s != pb.TaskState_TASK_STATE_WORKING {
					t.Errorf("the task is %s", s)
				}
				c.until(t, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
			},
		},
		{
			id: "MODE-5", section: "3.2.2", level: must, what: "returnImmediately changes nothing where the answer is a message",
			test: func(t *testing.T, c caller) {
				out := &pb.SendMessageResponse{}
				c.at(c.world.open).must(t, sendMessage, message(t, "tck-message-response", "configuration.returnImmediately", true), out)
				if textOf(out.GetMessage().GetParts()) != "Direct message response" {
					t.Errorf("the answer is %v", out)
				}
			},
		},
		{
			id: "MODE-6", section: "3.2.2", level: must, what: "returnImmediately changes nothing about a stream",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "tck-stream", "configuration.returnImmediately", true)).all(t)
				if last := events[len(events)-1].GetStatusUpdate(); last.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the stream ended by %v", last)
				}
			},
		},
		{
			id: "MODE-7", section: "3.2.2", level: must, what: "push notifications come whether returnImmediately is set or not",
			test: func(t *testing.T, c caller) {
				for _, at := range []bool{true, false} {
					var told atomic.Int64
					hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told.Add(1) }))
					t.Cleanup(hook.Close)
					c.send(t, message(t, "tck-complete-task", "configuration.returnImmediately", at, "configuration.taskPushNotificationConfig", object{"url": hook.URL}))
					eventually(t, func(context.Context) error {
						if told.Load() == 0 {
							return errors.New("nobody was told")
						}
						return nil
					})
				}
			},
		},
		{
			id: "MODE-8", section: "3.2.2", level: should, what: "the agent goes by acceptedOutputModes",
			without: "not done: an answer is text, and what its model attaches; the field is read and has no effect",
		},
		{
			id: "MODE-9", section: "3.2.2", level: must, what: "a client that does not wait follows the task itself",
			elsewhere: "agentd/door/a2adoor: TestFollowEndsAsTheTaskDoes, TestFollowOutlivesCutConnections",
		},
	}
}
