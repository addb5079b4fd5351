package a2a

import (
	"context"
	"errors"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// finished reports whether an event is a status in which a task is over.
func finished(e *pb.StreamResponse) bool { return over(e.GetStatusUpdate().GetStatus().GetState()) }

// wellFormed wants the events of a task's stream: the task, then updates of it, the last of which ends it.
func wellFormed(t *testing.T, events []*pb.StreamResponse, end pb.TaskState) {
	t.Helper()
	if len(events) < 2 || events[0].GetTask() == nil {
		t.Fatalf("want a task and what follows, have %v", events)
	}
	task := events[0].GetTask()
	for i, e := range events[1:] {
		if e.GetStatusUpdate() == nil && e.GetArtifactUpdate() == nil {
			t.Errorf("event %d is %v", i+1, e)
		}
		if s := e.GetStatusUpdate(); s != nil && s.GetTaskId() != task.GetId() {
			t.Errorf("event %d is of task %s, not %s", i+1, s.GetTaskId(), task.GetId())
		}
		if finished(e) != (i == len(events)-2) {
			t.Errorf("event %d of %d is %v", i+1, len(events)-1, e)
		}
	}
	if s := events[len(events)-1].GetStatusUpdate().GetStatus().GetState(); s != end {
		t.Errorf("the task ended %s, want %s", s, end)
	}
}

// streams is section 3.1.2, with 3.2.3.
func streams() []requirement {
	return []requirement{
		{
			id: "STREAM-1", section: "3.1.2", level: must, what: "a streaming connection is made, and tells of the task while it is worked on",
			test: func(t *testing.T, c caller) {
				s := c.stream(t, streamMessage, message(t, "hang"))
				task := s.next(t).GetTask()
				if task == nil || over(task.GetStatus().GetState()) {
					t.Fatalf("the first event is %v", task)
				}
				t.Cleanup(func() { c.stop(task.GetId()) })
			},
		},
		{
			id: "STREAM-2", section: "3.1.2", level: must, what: "where the answer is a message, the stream is that message, and ends",
			test: func(t *testing.T, c caller) {
				events := c.at(c.world.open).stream(t, streamMessage, message(t, "tck-message-response")).all(t)
				if len(events) != 1 || events[0].GetMessage() == nil {
					t.Errorf("events %v", events)
				}
			},
		},
		{
			id: "STREAM-3", section: "3.1.2", level: must, what: "a task's stream is the task, then updates of its status and artifacts, and nothing else",
			test: func(t *testing.T, c caller) {
				for _, prefix := range []string{"tck-complete-task", "tck-stream", "two-artifacts", "tck-stream-artifact-chunked"} {
					wellFormed(t, c.stream(t, streamMessage, message(t, prefix)).all(t), pb.TaskState_TASK_STATE_COMPLETED)
				}
			},
		},
		{
			id: "STREAM-4", section: "3.1.2", level: must, what: "the stream ends when the task is completed, failed, canceled or rejected",
			test: func(t *testing.T, c caller) {
				for prefix, state := range ended() {
					wellFormed(t, c.stream(t, streamMessage, message(t, prefix)).all(t), state)
				}
				s := c.stream(t, streamMessage, message(t, "hang"))
				begun := s.next(t)
				c.must(t, cancelTask, text(t, object{"id": begun.GetTask().GetId()}), &pb.Task{})
				wellFormed(t, append([]*pb.StreamResponse{begun}, s.all(t)...), pb.TaskState_TASK_STATE_CANCELED)
			},
		},
		{
			id: "STREAM-5", section: "3.1.2", level: must, what: "progress and intermediate results are told as they come",
			test: func(t *testing.T, c caller) {
				s := c.stream(t, streamMessage, message(t, "tck-stream"))
				id, pieces := s.next(t).GetTask().GetId(), 0
				for e := s.next(t); e != nil; e = s.next(t) {
					if e.GetArtifactUpdate() == nil {
						continue
					}
					if pieces++; pieces == 1 && over(c.get(t, id).GetStatus().GetState()) {
						t.Error("the first piece came when the task was over")
					}
				}
				if pieces < 2 {
					t.Errorf("%d pieces", pieces)
				}
			},
		},
		{
			id: "STREAM-6", section: "3.1.2", level: may, what: "updates of status and artifacts may follow the task",
			test: func(t *testing.T, c caller) {
				var statuses, pieces int
				for _, e := range c.stream(t, streamMessage, message(t, "tck-stream")).all(t) {
					if e.GetStatusUpdate() != nil {
						statuses++
					}
					if e.GetArtifactUpdate() != nil {
						pieces++
					}
				}
				if statuses == 0 || pieces == 0 {
					t.Errorf("%d statuses, %d pieces", statuses, pieces)
				}
			},
		},
		{
			id: "STREAM-7", section: "3.1.2", level: must, what: "a message to a task that is over is refused by UnsupportedOperation, before a stream begins",
			test: func(t *testing.T, c caller) {
				for _, task := range c.terminal(t) {
					c.refused(t, streamMessage, message(t, "tck-complete-task", "message.taskId", task.GetId()), "UNSUPPORTED_OPERATION")
				}
			},
		},
		{
			id: "STREAM-8", section: "3.1.2", level: must, what: "a part of a media type that the agent doesn't take is refused by ContentTypeNotSupported",
			test: func(t *testing.T, c caller) {
				part := object{"raw": "dGNr", "mediaType": "application/x-unknown"}
				c.refused(t, streamMessage, message(t, "tck-complete-task", "message.parts", []any{part}), "CONTENT_TYPE_NOT_SUPPORTED")
			},
		},
		{
			id: "STREAM-9", section: "3.1.2", level: must, what: "a message to a task that is unknown, or somebody else's, is refused by TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, streamMessage, message(t, "tck-complete-task", "message.taskId", uuid()), "TASK_NOT_FOUND")
				c.as(c.world.bob).refused(t, streamMessage, message(t, "tck-complete-task", "message.taskId", c.waiting(t).GetId()), "TASK_NOT_FOUND")
			},
		},
		{
			id: "STREAM-10", section: "3.1.2", level: must, what: "an agent without streaming refuses by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c.at(c.world.plain).refused(t, streamMessage, message(t, "tck-complete-task"), "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "STREAM-11", section: "3.2.3", level: must, what: "an event is exactly one of task, message, statusUpdate and artifactUpdate",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "two-artifacts")).all(t)
				events = append(events, c.at(c.world.open).stream(t, streamMessage, message(t, "tck-message-response")).all(t)...)
				for _, e := range events { // strict reading refuses two, and anything else
					if e.GetPayload() == nil {
						t.Errorf("event %v", e)
					}
				}
			},
		},
	}
}

// subscribing is section 3.1.6.
func subscribing() []requirement {
	return []requirement{
		{
			id: "SUB-1", section: "3.1.6", level: must, what: "the first event is the task as it is",
			test: func(t *testing.T, c caller) {
				task := c.working(t)
				want := c.until(t, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
				if have := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()})).next(t).GetTask(); !proto.Equal(have, want) {
					t.Errorf("have %v\nwant %v", have, want)
				}
			},
		},
		{
			id: "SUB-2", section: "3.1.6", level: must, what: "every task that is not over can be subscribed to, waiting ones too",
			test: func(t *testing.T, c caller) {
				waiting := []*pb.Task{c.waiting(t), c.reached(t, "tck-auth-required", pb.TaskState_TASK_STATE_AUTH_REQUIRED)}
				for _, task := range waiting {
					s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
					if have := s.next(t).GetTask(); have.GetStatus().GetState() != task.GetStatus().GetState() {
						t.Errorf("the task is %v", have)
					}
					c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId()))
					if events := s.all(t); !finished(events[len(events)-1]) {
						t.Errorf("events %v", events)
					}
				}
			},
		},
		{
			id: "SUB-3", section: "3.1.6", level: must, what: "the stream ends when the task is completed, failed, canceled or rejected",
			test: func(t *testing.T, c caller) {
				for prefix, state := range ended() {
					task := c.waiting(t)
					s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
					c.send(t, message(t, prefix, "message.taskId", task.GetId()))
					wellFormed(t, s.all(t), state)
				}
				task := c.working(t)
				s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
				c.must(t, cancelTask, text(t, object{"id": task.GetId()}), &pb.Task{})
				wellFormed(t, s.all(t), pb.TaskState_TASK_STATE_CANCELED)
			},
		},
		{
			id: "SUB-4", section: "3.1.6", level: must, what: "a task that is over is refused by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				for _, task := range c.terminal(t) {
					c.refused(t, subscribeTask, text(t, object{"id": task.GetId()}), "UNSUPPORTED_OPERATION")
				}
			},
		},
		{
			id: "SUB-5", section: "3.1.6", level: must, what: "a task that is unknown, or somebody else's, is refused by TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, subscribeTask, text(t, object{"id": uuid()}), "TASK_NOT_FOUND")
				c.as(c.world.bob).refused(t, subscribeTask, text(t, object{"id": c.waiting(t).GetId()}), "TASK_NOT_FOUND")
			},
		},
		{
			id: "SUB-6", section: "3.1.6", level: must, what: "an agent without streaming refuses by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c = c.at(c.world.plain)
				c.refused(t, subscribeTask, text(t, object{"id": c.waiting(t).GetId()}), "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "SUB-7", section: "3.1.6", level: must, what: "nothing is lost between the task of the first event and the updates that follow",
			test: func(t *testing.T, c caller) {
				task := c.send(t, message(t, "tck-stream", "configuration.returnImmediately", true))
				s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
				built := rebuilt(t, s.all(t))
				if have := c.get(t, task.GetId()); !strings.HasPrefix(textOf(have.GetArtifacts()[0].GetParts()), "Stream hello") || !sameArtifacts(built, have.GetArtifacts()) {
					t.Errorf("the stream told %v\nthe task has %v", built, have.GetArtifacts())
				}
			},
		},
	}
}

// rebuilt gives the artifacts that a stream told of.
func rebuilt(t *testing.T, events []*pb.StreamResponse) []*pb.Artifact {
	t.Helper()
	out := events[0].GetTask().GetArtifacts()
	for _, e := range events[1:] {
		u := e.GetArtifactUpdate()
		if u == nil {
			continue
		}
		at := -1
		for i, a := range out {
			if a.GetArtifactId() == u.GetArtifact().GetArtifactId() {
				at = i
			}
		}
		switch {
		case !u.GetAppend() && at < 0:
			out = append(out, u.GetArtifact())
		case !u.GetAppend():
			out[at] = u.GetArtifact()
		case at < 0:
			t.Errorf("a piece for no artifact: %v", u)
		default:
			out[at].Parts = append(out[at].Parts, u.GetArtifact().GetParts()...)
		}
	}
	return out
}

// sameArtifacts compares ids and texts: a stream tells pieces, a task has them joined.
func sameArtifacts(a, b []*pb.Artifact) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].GetArtifactId() != b[i].GetArtifactId() || textOf(a[i].GetParts()) != textOf(b[i].GetParts()) {
			return false
		}
	}
	return true
}

// deliveries is section 3.5.
func deliveries() []requirement {
	return []requirement{
		{
			id: "DELIVER-1", section: "3.5.2", level: must, what: "events come in the order in which they happened",
			test: func(t *testing.T, c caller) {
				pieces, at := "", int64(0)
				for _, e := range c.stream(t, streamMessage, message(t, "tck-stream-artifact-chunked")).all(t) {
					pieces += textOf(e.GetArtifactUpdate().GetArtifact().GetParts())
					if s := e.GetStatusUpdate().GetStatus().GetTimestamp(); s != nil {
						if now := s.AsTime().UnixMilli(); now < at {
							t.Errorf("a status of %d after one of %d", now, at)
						} else {
							at = now
						}
					}
				}
				if pieces != "chunk-1 chunk-2" {
					t.Errorf("pieces %q", pieces)
				}
			},
		},
		{
			id: "DELIVER-2", section: "3.5.2", level: may, what: "a task may have several streams at a time",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				for range 5 {
					if s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()})); s.next(t).GetTask().GetId() != task.GetId() {
						t.Error("another task")
					}
				}
			},
		},
		{
			id: "DELIVER-3", section: "3.5.2", level: must, what: "every stream of a task gets its events",
			test: func(t *testing.T, c caller) {
				for i, events := range c.watched(t, 4) {
					wellFormed(t, events, pb.TaskState_TASK_STATE_COMPLETED)
					if built := rebuilt(t, events); len(built) != 1 || !strings.HasPrefix(textOf(built[0].GetParts()), "Stream hello from TCK") {
						t.Errorf("stream %d told %v", i, built)
					}
				}
			},
		},
		{
			id: "DELIVER-4", section: "3.5.2", level: must, what: "every stream of a task gets the same events in the same order",
			test: func(t *testing.T, c caller) {
				all := c.watched(t, 4)
				for i, events := range all {
					same := len(events) == len(all[0])
					for j := range events {
						same = same && proto.Equal(events[j], all[0][j])
					}
					if !same {
						t.Errorf("stream %d told\n%v\nthe first told\n%v", i, events, all[0])
					}
				}
			},
		},
		{
			id: "DELIVER-5", section: "3.5.2", level: must, what: "who closes his stream ends nobody else's",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				subscribe := text(t, object{"id": task.GetId()})
				gone, stays := c.stream(t, subscribeTask, subscribe), c.stream(t, subscribeTask, subscribe)
				gone.next(t)
				gone.close()
				c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId()))
				wellFormed(t, stays.all(t), pb.TaskState_TASK_STATE_COMPLETED)
			},
		},
		{
			id: "DELIVER-6", section: "3.5.2", level: must, what: "a task goes on when its streams are closed",
			test: func(t *testing.T, c caller) {
				s := c.stream(t, streamMessage, message(t, "tck-stream"))
				task := s.next(t).GetTask()
				s.close()
				if done := c.until(t, task.GetId(), pb.TaskState_TASK_STATE_COMPLETED); len(done.GetArtifacts()) != 1 {
					t.Errorf("the task came to %v", done)
				}
			},
		},
		{
			id: "DELIVER-7", section: "3.5.1", level: must, what: "a task can be followed by asking for it again and again",
			test: func(t *testing.T, c caller) {
				task := c.working(t)
				c.until(t, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
				c.must(t, cancelTask, text(t, object{"id": task.GetId()}), &pb.Task{})
				c.until(t, task.GetId(), pb.TaskState_TASK_STATE_CANCELED)
			},
		},
	}
}

// watched lets n streams watch a task from before its answer begins, and gives what each told.
func (c caller) watched(t *testing.T, n int) [][]*pb.StreamResponse {
	t.Helper()
	task := c.waiting(t)
	open := make([]*stream, n)
	for i := range open {
		open[i] = c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
	}
	c.send(t, message(t, "tck-stream", "message.taskId", task.GetId()))
	out := make([][]*pb.StreamResponse, n)
	for i, s := range open {
		out[i] = s.all(t)
	}
	return out
}

// canceling is section 3.1.5.
func canceling() []requirement {
	return []requirement{
		{
			id: "CANCEL-1", section: "3.1.5", level: must, what: "a task under way is canceled, and the answer is the task as it then is",
			test: func(t *testing.T, c caller) {
				for _, task := range []*pb.Task{c.working(t), c.waiting(t), c.reached(t, "tck-auth-required", pb.TaskState_TASK_STATE_AUTH_REQUIRED)} {
					have := &pb.Task{}
					c.must(t, cancelTask, text(t, object{"id": task.GetId()}), have)
					if have.GetId() != task.GetId() || have.GetStatus().GetState() != pb.TaskState_TASK_STATE_CANCELED || !proto.Equal(have, c.get(t, task.GetId())) {
						t.Errorf("the answer is %v", have)
					}
				}
			},
		},
		{
			id: "CANCEL-2", section: "3.1.5", level: must, what: "a task that is completed, failed or rejected is refused by TaskNotCancelable",
			test: func(t *testing.T, c caller) {
				for prefix, state := range ended() {
					c.refused(t, cancelTask, text(t, object{"id": c.reached(t, prefix, state).GetId()}), "TASK_NOT_CANCELABLE")
				}
			},
		},
		{
			id: "CANCEL-3", section: "3.1.5", level: must, what: "a task that is unknown, or somebody else's, is refused by TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, cancelTask, text(t, object{"id": uuid()}), "TASK_NOT_FOUND")
				task := c.waiting(t)
				c.as(c.world.bob).refused(t, cancelTask, text(t, object{"id": task.GetId()}), "TASK_NOT_FOUND")
				if state := c.get(t, task.GetId()).GetStatus().GetState(); state != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
					t.Errorf("the task is %s", state)
				}
			},
		},
		{
			id: "CANCEL-4", section: "3.1.5", level: must, what: "the work of a canceled task ends",
			test: func(t *testing.T, c caller) {
				task := c.working(t)
				c.until(t, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
				asked := task.GetHistory()[0].GetMessageId()
				c.must(t, cancelTask, text(t, object{"id": task.GetId()}), &pb.Task{})
				eventually(t, func(context.Context) error {
					for _, seen := range c.world.asked.Requests() {
						if seen.Metadata["message_id"] == asked && !seen.Aborted {
							return errors.New("the model still works")
						}
					}
					return nil
				})
			},
		},
	}
}
