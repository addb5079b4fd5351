package a2a

import (
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// contexts is sections 3.4.1 and 3.4.2.
func contexts() []requirement {
	return []requirement{
		{
			id: "CTX-1", section: "3.4.1", level: may, what: "a message without a context gets one",
			test: func(t *testing.T, c caller) {
				if a, b := c.completed(t), c.completed(t); a.GetContextId() == "" || a.GetContextId() == b.GetContextId() {
					t.Errorf("contexts %q, %q", a.GetContextId(), b.GetContextId())
				}
			},
		},
		{
			id: "CTX-2", section: "3.4.1", level: must, what: "a context that the agent made is in the answer, task or message",
			test: func(t *testing.T, c caller) {
				if c.completed(t).GetContextId() == "" {
					t.Error("none in the task")
				}
				out := &pb.SendMessageResponse{}
				c.at(c.world.open).must(t, sendMessage, message(t, "tck-message-response"), out)
				if out.GetMessage().GetContextId() == "" {
					t.Errorf("none in the message: %v", out)
				}
			},
		},
		{
			id: "CTX-3", section: "3.4.1", level: may, what: "a context that the caller names is kept",
			test: func(t *testing.T, c caller) {
				id := "mine-" + uuid()
				if have := c.completed(t, "message.contextId", id).GetContextId(); have != id {
					t.Errorf("the task is of %q", have)
				}
				out := &pb.SendMessageResponse{}
				c.at(c.world.open).must(t, sendMessage, message(t, "tck-message-response", "message.contextId", id), out)
				if out.GetMessage().GetContextId() != id {
					t.Errorf("the message is %v", out)
				}
			},
		},
		{
			id: "CTX-4", section: "3.4.1", level: must, what: "a context that can't be taken is refused, and no other put in its place",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				for _, id := range []string{strings.Repeat("x", 3000), "a\nb"} {
					c.refused(t, sendMessage, message(t, "tck-complete-task", "message.contextId", id), "INVALID_PARAMS")
				}
				if have := c.list(t); have.GetTotalSize() != 0 {
					t.Errorf("there are tasks: %v", have)
				}
			},
		},
		{
			id: "CTX-5", section: "3.4.1", level: should, what: "what has the same context is one session",
			test: func(t *testing.T, c caller) {
				word := uuid()
				first := c.completed(t, "message.parts", []any{object{"text": "remember " + word}})
				second := c.completed(t, "message.contextId", first.GetContextId())
				if !c.sawIt(t, second, word) {
					t.Error("the second task's model request doesn't hold what was said in the first")
				}
				if c.sawIt(t, c.completed(t), word) {
					t.Error("another context's model request holds it")
				}
			},
		},
		{
			id: "CTX-6", section: "3.4.1", level: may, what: "the context carries the model's memory from task to task",
			test: func(t *testing.T, c caller) {
				first := c.completed(t)
				if !c.sawIt(t, c.completed(t, "message.contextId", first.GetContextId()), "Hello from TCK") {
					t.Error("the second task's model request doesn't hold the first one's answer")
				}
			},
		},
		{
			id: "CTX-7", section: "3.4.1", level: may, what: "contexts may end after a time",
			without: "they are sessions of the agent's memory, and end as those do (docs/memory.md)",
		},
		{
			id: "CTX-8", section: "3.4.1", level: should, what: "say when contexts end",
			without: "docs/memory.md says it",
		},
		onClients("CTX-9", "3.4.1", should, "don't name a context unless you know how the server takes it"),
		onClients("CTX-10", "3.4.1", should, "take a server's contextId as it is, and read nothing into it"),
		{
			id: "TASK-1", section: "3.4.2", level: must, what: "every new task has an id of its own",
			test: func(t *testing.T, c caller) {
				seen := map[string]bool{}
				for range 20 {
					seen[c.completed(t).GetId()] = true
				}
				if len(seen) != 20 || seen[""] {
					t.Errorf("ids %v", seen)
				}
			},
		},
		{
			id: "TASK-2", section: "3.4.2", level: must, what: "the task that is given to the caller has its id",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				if c.get(t, task.GetId()).GetId() != task.GetId() || task.GetId() == "" {
					t.Errorf("the task is %v", task)
				}
				if c.stream(t, streamMessage, message(t, "tck-complete-task")).next(t).GetTask().GetId() == "" {
					t.Error("a stream's task has no id")
				}
			},
		},
		{
			id: "TASK-3", section: "3.4.2", level: must, what: "a taskId in a message is that of a task there is; else TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", uuid()), "TASK_NOT_FOUND")
			},
		},
		{
			id: "TASK-4", section: "3.4.2", level: must, what: "callers can't give a new task its id",
			test: func(t *testing.T, c caller) {
				id := uuid()
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", id, "message.contextId", uuid()), "TASK_NOT_FOUND")
				c.refused(t, getTask, text(t, object{"id": id}), "TASK_NOT_FOUND")
			},
		},
	}
}

// sawIt reports whether the model, asked for a task's first message, saw a text.
func (c caller) sawIt(t *testing.T, task *pb.Task, what string) bool {
	t.Helper()
	for _, m := range c.seen(t, task.GetHistory()[0].GetMessageId()).Messages {
		if strings.Contains(m.Content, what) {
			return true
		}
	}
	return false
}

// turns is sections 3.3.3 and 3.4.3.
func turns() []requirement {
	return []requirement{
		{
			id: "TURN-1", section: "3.3.3", level: may, what: "a task that is not over takes further messages, where it asks for them",
			test: func(t *testing.T, c caller) {
				task, _ := c.talk(t, 3)
				if done := c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId())); done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the task is %v", done)
				}
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", c.working(t).GetId()), "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "TURN-2", section: "3.4.3", level: must, what: "a task keeps its context through all its turns",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				if next := c.send(t, message(t, "tck-input-required", "message.taskId", task.GetId())); next.GetContextId() != task.GetContextId() || next.GetId() != task.GetId() {
					t.Errorf("first %v\nthen %v", task, next)
				}
			},
		},
		{
			id: "TURN-3", section: "3.4.3", level: must, what: "where a message names only the task, its context is the task's",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t, "message.contextId", "ctx-"+uuid())
				done := c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId()))
				for _, m := range done.GetHistory() {
					if m.GetContextId() != task.GetContextId() || done.GetContextId() != task.GetContextId() {
						t.Errorf("the task is %v", done)
					}
				}
			},
		},
		{
			id: "TURN-4", section: "3.4.3", level: must, what: "a message whose context is not its task's is refused",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				for _, op := range []string{sendMessage, streamMessage} {
					c.refused(t, op, message(t, "tck-complete-task", "message.taskId", task.GetId(), "message.contextId", uuid()), "INVALID_PARAMS")
				}
				if have := c.get(t, task.GetId()); len(have.GetHistory()) != len(task.GetHistory()) {
					t.Errorf("the message was taken: %v", have)
				}
			},
		},
		{
			id: "TURN-5", section: "3.4.3", level: must, what: "a task asks for input by INPUT_REQUIRED with its question, and goes on with the next message to it",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				if question := task.GetStatus().GetMessage(); textOf(question.GetParts()) != "What else should I know?" || question.GetRole() != pb.Role_ROLE_AGENT {
					t.Errorf("the question is %v", question)
				}
				word := uuid()
				reply := message(t, "echo", "message.taskId", task.GetId(), "message.contextId", task.GetContextId(), "message.parts", []any{object{"text": word}})
				done := c.send(t, reply)
				if done.GetId() != task.GetId() || done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the task is %v", done)
				}
				told := false
				for _, m := range c.seen(t, done.GetHistory()[len(done.GetHistory())-1].GetMessageId()).Messages {
					told = told || strings.Contains(m.Content, word)
				}
				if !told {
					t.Errorf("the model was not told the answer %s", word)
				}
			},
		},
		{
			id: "TURN-6", section: "3.4.3", level: must, what: "a task asks for credentials by AUTH_REQUIRED, and goes on with the next message to it",
			test: func(t *testing.T, c caller) {
				task := c.reached(t, "tck-auth-required", pb.TaskState_TASK_STATE_AUTH_REQUIRED)
				if textOf(task.GetStatus().GetMessage().GetParts()) == "" {
					t.Error("it doesn't say what for")
				}
				if done := c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId())); done.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the task is %v", done)
				}
			},
		},
		{
			id: "TURN-7", section: "3.4.3", level: may, what: "a message that names a context and no task begins a new task of that context",
			test: func(t *testing.T, c caller) {
				first := c.completed(t)
				if second := c.completed(t, "message.contextId", first.GetContextId()); second.GetId() == first.GetId() || second.GetContextId() != first.GetContextId() {
					t.Errorf("first %v\nthen %v", first, second)
				}
			},
		},
		{
			id: "TURN-8", section: "3.4.3", level: should, what: "tasks that a message refers to are taken into account",
			test: func(t *testing.T, c caller) {
				first := c.reached(t, "named", pb.TaskState_TASK_STATE_COMPLETED)
				second := c.completed(t, "message.referenceTaskIds", []any{first.GetId()})
				if !c.sawIt(t, second, "all is well") {
					t.Error("the model was not told what the first task made")
				}
				if other := c.as(c.world.bob); other.sawIt(t, other.completed(t, "message.referenceTaskIds", []any{first.GetId()}), "all is well") {
					t.Error("bob's model was told of alice's task")
				}
			},
		},
		{
			id: "TURN-9", section: "3.4.3", level: should, what: "the context is used for answers that fit it",
			test: func(t *testing.T, c caller) {
				word := uuid()
				first := c.completed(t, "message.parts", []any{object{"text": word}})
				if !c.sawIt(t, c.completed(t, "message.contextId", first.GetContextId()), word) {
					t.Error("the model did not see what was said before")
				}
			},
		},
		onClients("TURN-10", "3.4.3", may, "name a context, or a task with or without its context, to go on with it"),
		onClients("TURN-11", "3.4.3", should, "name related tasks in referenceTaskIds"),
	}
}

// outputs is section 3.7.
func outputs() []requirement {
	return []requirement{
		{
			id: "OUT-1", section: "3.7", level: should, what: "results are artifacts",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				if len(task.GetArtifacts()) != 1 || textOf(task.GetArtifacts()[0].GetParts()) != "Hello from TCK" {
					t.Errorf("the task is %v", task)
				}
			},
		},
		{
			id: "OUT-2", section: "3.7", level: should, what: "results are not messages",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				if strings.Contains(task.GetStatus().String(), "Hello from TCK") || task.GetStatus().GetMessage() != nil {
					t.Errorf("the status is %v", task.GetStatus())
				}
				for _, m := range task.GetHistory() {
					if textOf(m.GetParts()) == "Hello from TCK" {
						t.Errorf("the history holds %v", m)
					}
				}
			},
		},
		{
			id: "OUT-3", section: "3.7", level: may, what: "messages with a status tell how it goes and ask for what is needed",
			test: func(t *testing.T, c caller) {
				for prefix, want := range map[string]string{"tck-fail": "failed on purpose", "tck-reject": "rejected", "tck-input-required": "What else should I know?"} {
					if have := textOf(c.send(t, message(t, prefix)).GetStatus().GetMessage().GetParts()); have != want {
						t.Errorf("%s says %q, want %q", prefix, have, want)
					}
				}
			},
		},
		{
			id: "OUT-4", section: "3.7", level: may, what: "messages are kept in the history",
			test: func(t *testing.T, c caller) {
				task, said := c.talk(t, 2)
				questions := 0
				for _, m := range c.get(t, task.GetId()).GetHistory() {
					if m.GetRole() == pb.Role_ROLE_AGENT {
						questions++
					}
				}
				if len(said) != 2 || questions == 0 {
					t.Errorf("said %v, and the history has %d questions", said, questions)
				}
			},
		},
		onClients("OUT-5", "3.7", must, "don't rely on messages for what must arrive"),
		onClients("OUT-6", "3.7", must, "don't rely on the history unless that was agreed on"),
	}
}
