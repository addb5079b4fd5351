package a2a

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// getting is section 3.1.3.
func getting() []requirement {
	return []requirement{
		{
			id: "GET-1", section: "3.1.3", level: must, what: "a task is given as it is now, with its status and artifacts",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				have := c.get(t, task.GetId())
				if !proto.Equal(have, task) || textOf(have.GetArtifacts()[0].GetParts()) != "Hello from TCK" {
					t.Errorf("the task is %v", have)
				}
				waiting := c.waiting(t)
				c.send(t, message(t, "tck-complete-task", "message.taskId", waiting.GetId()))
				if s := c.get(t, waiting.GetId()).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the task is %s", s)
				}
			},
		},
		{
			id: "GET-2", section: "3.1.3", level: must, what: "a task that is unknown, or somebody else's, is refused by TaskNotFound",
			test: func(t *testing.T, c caller) {
				c.refused(t, getTask, text(t, object{"id": uuid()}), "TASK_NOT_FOUND")
				c.as(c.world.bob).refused(t, getTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_FOUND")
			},
		},
		{
			id: "GET-3", section: "3.1.3", level: must, what: "the final task can be had after its stream has ended",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "tck-stream")).all(t)
				have := c.get(t, events[0].GetTask().GetId())
				if !proto.Equal(have.GetStatus(), events[len(events)-1].GetStatusUpdate().GetStatus()) || !sameArtifacts(have.GetArtifacts(), rebuilt(t, events)) {
					t.Errorf("the task is %v", have)
				}
			},
		},
		{
			id: "IDEM-1", section: "3.3.1", level: must, what: "asking twice changes nothing: GetTask, ListTasks, GetExtendedAgentCard",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				id := text(t, object{"id": c.completed(t).GetId()})
				for op, request := range map[string]string{getTask: id, listTasks: `{}`} {
					first, second := c.ask(t, op, request), c.ask(t, op, request)
					if a, b := plain(t, first.result), plain(t, second.result); a == "null" || a != b {
						t.Errorf("%s: %s\nthen %s", op, a, b)
					}
				}
				a, b := &pb.AgentCard{}, &pb.AgentCard{}
				c.must(t, extendedCard, `{}`, a)
				c.must(t, extendedCard, `{}`, b)
				if a.Signatures, b.Signatures = nil, nil; !proto.Equal(a, b) { // a signature may differ each time
					t.Errorf("two cards: %v\n%v", a, b)
				}
			},
		},
		{
			id: "IDEM-2", section: "3.3.1", level: may, what: "a message that comes twice is one",
			without: "not done: the same messageId may come again for a later turn, and is a new turn",
		},
		{
			id: "IDEM-3", section: "3.3.1", level: must, what: "to cancel twice is as to cancel once",
			test: func(t *testing.T, c caller) {
				request := text(t, object{"id": c.working(t).GetId()})
				first, second := &pb.Task{}, &pb.Task{}
				c.must(t, cancelTask, request, first)
				c.must(t, cancelTask, request, second)
				if !proto.Equal(first, second) {
					t.Errorf("first %v\nthen %v", first, second)
				}
			},
		},
		{
			id: "IDEM-4", section: "3.3.1", level: may, what: "TaskNotFound for a canceled task that is gone",
			without: "a canceled task stays for an hour; then it is as one that never was (GET-2)",
		},
	}
}

// plain gives JSON whose bytes say nothing but its content.
func plain(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
	}
	return text(t, v)
}

// talk makes a task of n turns of the caller, the last of which it still waits after, and gives it with the messages' ids in order.
func (c caller) talk(t *testing.T, n int) (*pb.Task, []string) {
	t.Helper()
	task := c.waiting(t)
	said := []string{task.GetHistory()[0].GetMessageId()}
	for range n - 1 {
		task = c.send(t, message(t, "tck-input-required", "message.taskId", task.GetId()))
		if task.GetStatus().GetState() != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
			t.Fatalf("the task is %v", task)
		}
	}
	for _, m := range task.GetHistory()[1:] {
		if m.GetRole() == pb.Role_ROLE_USER {
			said = append(said, m.GetMessageId())
		}
	}
	if len(said) != n {
		t.Fatalf("%d turns, have %v", n, task.GetHistory())
	}
	return task, said
}

// bounded asks for a task in each way that takes a historyLength.
func (c caller) bounded(t *testing.T, id string, n int) map[string]*pb.Task {
	t.Helper()
	out := map[string]*pb.Task{getTask: c.get(t, id, "historyLength", n)}
	for _, task := range c.list(t, "historyLength", n).GetTasks() {
		if task.GetId() == id {
			out[listTasks] = task
		}
	}
	out[streamMessage] = c.stream(t, streamMessage, message(t, "tck-input-required", "message.taskId", id, "configuration.historyLength", n)).next(t).GetTask()
	c.until(t, id, pb.TaskState_TASK_STATE_INPUT_REQUIRED)
	out[sendMessage] = c.send(t, message(t, "tck-input-required", "message.taskId", id, "configuration.historyLength", n))
	return out
}

// histories is section 3.2.4.
func histories() []requirement {
	return []requirement{
		{
			id: "HIST-1", section: "3.2.4", level: must, what: "without a historyLength the caller sets no bound: all of it is given",
			test: func(t *testing.T, c caller) {
				task, said := c.talk(t, 3)
				if have := c.get(t, task.GetId()); len(have.GetHistory()) < len(said) {
					t.Errorf("history %v", have.GetHistory())
				}
			},
		},
		{
			id: "HIST-2", section: "3.2.4", level: should, what: "with a historyLength of 0 GetTask leaves the field history out",
			test: func(t *testing.T, c caller) {
				a := c.ask(t, getTask, text(t, object{"id": c.waiting(t).GetId(), "historyLength": 0}))
				if _, there := plainJSON(t, a.result)["history"]; there || a.fault != nil {
					t.Errorf("the answer is %s", a.body)
				}
			},
		},
		{
			id: "HIST-3", section: "3.2.4", level: should, what: "with a historyLength of 0 SendMessage leaves the field history out",
			test: func(t *testing.T, c caller) {
				a := c.ask(t, sendMessage, message(t, "tck-complete-task", "configuration.historyLength", 0))
				task, ok := plainJSON(t, a.result)["task"].(map[string]any)
				if _, there := task["history"]; there || !ok {
					t.Errorf("the answer is %s", a.body)
				}
			},
		},
		{
			id: "HIST-4", section: "3.2.4", level: must, what: "never more messages than historyLength, in GetTask, ListTasks, SendMessage and a stream's task",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				for _, n := range []int{0, 1, 2, 1000} {
					task, _ := c.talk(t, 3)
					have := c.bounded(t, task.GetId(), n)
					if len(have) != 4 {
						t.Fatalf("not asked in four ways: %v", have)
					}
					for op, in := range have {
						if got := len(in.GetHistory()); got > n || n > 0 && got == 0 {
							t.Errorf("%s with %d gave %d", op, n, got)
						}
					}
				}
			},
		},
		{
			id: "HIST-5", section: "3.2.4", level: must, what: "the messages that are given are the latest",
			test: func(t *testing.T, c caller) {
				task, _ := c.talk(t, 3)
				all := c.get(t, task.GetId()).GetHistory()
				for n := 1; n <= len(all); n++ {
					have := c.get(t, task.GetId(), "historyLength", n).GetHistory()
					if len(have) != n || !slices.EqualFunc(have, all[len(all)-n:], func(a, b *pb.Message) bool { return proto.Equal(a, b) }) {
						t.Errorf("of %v the latest %d are %v", all, n, have)
					}
				}
			},
		},
		{
			id: "HIST-6", section: "3.2.4", level: should, what: "the history is in the order in which the messages were exchanged",
			test: func(t *testing.T, c caller) {
				task, said := c.talk(t, 3)
				next := 0
				for _, m := range task.GetHistory() {
					if m.GetRole() == pb.Role_ROLE_USER && m.GetMessageId() == said[next] {
						next++
					}
				}
				if next != len(said) {
					t.Errorf("said %v, have %v", said, task.GetHistory())
				}
			},
		},
		{
			id: "HIST-7", section: "3.2.4", level: should, what: "what is kept of a message is what was sent",
			test: func(t *testing.T, c caller) {
				id := "tck-complete-task-" + uuid()
				sent := object{
					"messageId": id, "role": "ROLE_USER", "parts": []any{object{"text": "one"}, object{"data": anyJSON()}}, "metadata": anyJSON(),
				}
				task := c.send(t, text(t, object{"message": sent}))
				want := &pb.Message{}
				sent["taskId"], sent["contextId"] = task.GetId(), task.GetContextId()
				strictly(t, []byte(text(t, sent)), want)
				if have := c.get(t, task.GetId()).GetHistory()[0]; !proto.Equal(have, want) {
					t.Errorf("have %v\nwant %v", have, want)
				}
			},
		},
		{
			id: "HIST-8", section: "3.2.4", level: must, what: "a negative historyLength is refused by InvalidParams",
			test: func(t *testing.T, c caller) {
				c.refused(t, getTask, text(t, object{"id": c.completed(t).GetId(), "historyLength": -1}), "INVALID_PARAMS")
				c.refused(t, listTasks, `{"historyLength": -1}`, "INVALID_PARAMS")
				c.refused(t, sendMessage, message(t, "tck-complete-task", "configuration.historyLength", -1), "INVALID_PARAMS")
			},
		},
	}
}

// several makes n tasks that are over, and gives their ids, latest first. No two of them are of one millisecond, whose order is that of their ids.
func (c caller) several(t *testing.T, n int) []string {
	t.Helper()
	out := make([]string, n)
	for i := range n {
		task := c.completed(t)
		out[n-1-i] = task.GetId()
		past(task)
	}
	return out
}

// past waits until a status of now has a later time than that of task.
func past(task *pb.Task) {
	<-time.After(time.Until(task.GetStatus().GetTimestamp().AsTime().Add(time.Millisecond))) // the agents' clock is ours
}

func idsOf(tasks []*pb.Task) []string {
	out := make([]string, len(tasks))
	for i, task := range tasks {
		out[i] = task.GetId()
	}
	return out
}

// pages reads all pages, and calls between after the first.
func (c caller) pages(t *testing.T, size int, between func()) []string {
	t.Helper()
	var out []string
	for token, n := "", 0; ; n++ {
		page := c.list(t, "pageSize", size, "pageToken", token)
		if len(page.GetTasks()) > size || n > 100 {
			t.Fatalf("page %d has %d tasks", n, len(page.GetTasks()))
		}
		out = append(out, idsOf(page.GetTasks())...)
		if token = page.GetNextPageToken(); token == "" {
			return out
		}
		if n == 0 && between != nil {
			between()
		}
	}
}

// listing is section 3.1.4. Each test lists within a tenant of its own.
func listing() []requirement {
	return []requirement{
		{
			id: "LIST-1", section: "3.1.4", level: must, what: "only the caller's own tasks are listed",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				mine := c.completed(t).GetId()
				other := c.as(c.world.bob)
				theirs := other.completed(t).GetId()
				if have := idsOf(c.list(t).GetTasks()); !slices.Equal(have, []string{mine}) {
					t.Errorf("alice has %v", have)
				}
				if have := idsOf(other.list(t).GetTasks()); !slices.Equal(have, []string{theirs}) {
					t.Errorf("bob has %v", have)
				}
			},
		},
		{
			id: "LIST-2", section: "3.1.4", level: must, what: "pages go by a cursor: new tasks between two pages shift nothing",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				want := c.several(t, 5)
				have := c.pages(t, 2, func() { c.several(t, 2) })
				if !slices.Equal(have, want) {
					t.Errorf("have %v, want %v", have, want)
				}
			},
		},
		{
			id: "LIST-3", section: "3.1.4", level: must, what: "tasks are ordered by the time of their status, latest first",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				first := c.waiting(t)
				want := c.several(t, 3)
				c.send(t, message(t, "tck-complete-task", "message.taskId", first.GetId()))
				have := c.list(t).GetTasks()
				if ids := idsOf(have); !slices.Equal(ids, append([]string{first.GetId()}, want...)) {
					t.Errorf("have %v, want %s and %v", ids, first.GetId(), want)
				}
				for i := 1; i < len(have); i++ {
					if have[i].GetStatus().GetTimestamp().AsTime().After(have[i-1].GetStatus().GetTimestamp().AsTime()) {
						t.Errorf("task %d is later than the one before it", i)
					}
				}
			},
		},
		{
			id: "LIST-4", section: "3.1.4", level: must, what: "nextPageToken is always there, and empty on the last page",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				c.several(t, 3)
				token := c.list(t, "pageSize", 2).GetNextPageToken()
				if token == "" {
					t.Fatal("no token after the first page")
				}
				a := c.ask(t, listTasks, text(t, object{"pageSize": 2, "pageToken": token}))
				if next, there := plainJSON(t, a.result)["nextPageToken"]; c.binding != gRPC && !there || there && next != "" {
					t.Errorf("the last page: %s", a.body)
				}
			},
		},
		{
			id: "LIST-5", section: "3.1.4", level: must, what: "artifacts are left out of every task unless includeArtifacts",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				c.several(t, 2)
				for _, request := range []string{`{}`, `{"includeArtifacts": false}`} {
					if a := c.ask(t, listTasks, request); a.fault != nil || bytes.Contains(a.body, []byte(`"artifacts"`)) {
						t.Errorf("%s: %s", request, a.body)
					}
				}
			},
		},
		{
			id: "LIST-6", section: "3.1.4", level: should, what: "artifacts are given with includeArtifacts",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				c.several(t, 2)
				for _, task := range c.list(t, "includeArtifacts", true).GetTasks() {
					if len(task.GetArtifacts()) != 1 || textOf(task.GetArtifacts()[0].GetParts()) != "Hello from TCK" {
						t.Errorf("the task is %v", task)
					}
				}
			},
		},
		{
			id: "LIST-7", section: "3.1.4", level: must, what: "contextId lists the tasks of a context only",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				c.several(t, 2)
				first := c.completed(t)
				past(first)
				second := c.completed(t, "message.contextId", first.GetContextId())
				if have := idsOf(c.list(t, "contextId", first.GetContextId()).GetTasks()); !slices.Equal(have, []string{second.GetId(), first.GetId()}) {
					t.Errorf("have %v", have)
				}
				if have := c.list(t, "contextId", uuid()); have.GetTotalSize() != 0 || len(have.GetTasks()) != 0 {
					t.Errorf("of no context: %v", have)
				}
			},
		},
		{
			id: "LIST-8", section: "3.1.4", level: must, what: "status lists the tasks of a state only",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				want := map[string]string{}
				for _, task := range append(c.terminal(t), c.waiting(t)) {
					want[task.GetStatus().GetState().String()] = task.GetId()
				}
				for state, id := range want {
					if have := idsOf(c.list(t, "status", state).GetTasks()); !slices.Equal(have, []string{id}) {
						t.Errorf("%s: %v, want %s", state, have, id)
					}
				}
				if have := c.list(t, "status", "TASK_STATE_AUTH_REQUIRED"); have.GetTotalSize() != 0 {
					t.Errorf("of no task: %v", have)
				}
			},
		},
		{
			id: "LIST-9", section: "3.1.4", level: must, what: "statusTimestampAfter lists what has a status of that time or later",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				c.completed(t)
				at := c.apart(t)
				if have := idsOf(c.list(t, "statusTimestampAfter", stamp(at)).GetTasks()); !slices.Equal(have, []string{at.GetId()}) {
					t.Errorf("have %v, want %s", have, at.GetId())
				}
				later := at.GetStatus().GetTimestamp().AsTime().Add(time.Hour).Format(time.RFC3339)
				if have := c.list(t, "statusTimestampAfter", later); have.GetTotalSize() != 0 {
					t.Errorf("in an hour: %v", have)
				}
			},
		},
		{
			id: "LIST-10", section: "3.1.4", level: must, what: "at most 50 tasks are listed where pageSize is not given",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				all := c.several(t, 52)
				have := c.list(t)
				if len(have.GetTasks()) != 50 || have.GetPageSize() != 50 || have.GetTotalSize() != 52 || have.GetNextPageToken() == "" {
					t.Errorf("%d tasks, page size %d, total %d", len(have.GetTasks()), have.GetPageSize(), have.GetTotalSize())
				}
				if rest := c.list(t, "pageToken", have.GetNextPageToken()); !slices.Equal(idsOf(rest.GetTasks()), all[50:]) {
					t.Errorf("the rest: %v", idsOf(rest.GetTasks()))
				}
			},
		},
		{
			id: "LIST-11", section: "3.1.4", level: must, what: "pageSize is from 1 to 100",
			test: func(t *testing.T, c caller) {
				for _, n := range []int{-1, 0, 101} {
					c.refused(t, listTasks, fmt.Sprintf(`{"pageSize": %d}`, n), "INVALID_PARAMS")
				}
				for _, n := range []int{1, 100} {
					if have := c.list(t, "pageSize", n); int(have.GetPageSize()) != n {
						t.Errorf("page size %d, want %d", have.GetPageSize(), n)
					}
				}
			},
		},
		{
			id: "LIST-12", section: "3.1.4", level: must, what: "tasks, pageSize and totalSize are always there",
			test: func(t *testing.T, c caller) {
				a := c.in(uuid()).ask(t, listTasks, `{}`)
				have := plainJSON(t, a.result)
				if c.binding != gRPC && text(t, have["tasks"]) != "[]" || have["pageSize"] != 50.0 {
					t.Errorf("no tasks: %s", a.body)
				}
				if _, there := have["totalSize"]; c.binding != gRPC && !there {
					t.Errorf("no totalSize: %s", a.body)
				}
				c = c.in(uuid())
				c.several(t, 3)
				if page := c.list(t, "pageSize", 2); page.GetTotalSize() != 3 {
					t.Errorf("a total of %d, before pages", page.GetTotalSize())
				}
			},
		},
		{
			id: "LIST-13", section: "3.1.4", level: must, what: "a pageToken that the agent never gave, and a status that is none, are refused by InvalidParams",
			test: func(t *testing.T, c caller) {
				c.refused(t, listTasks, `{"pageToken": "made-up"}`, "INVALID_PARAMS")
				if c.binding != gRPC { // which can't say it
					c.refused(t, listTasks, `{"status": "TASK_STATE_BORED"}`, "INVALID_PARAMS")
					c.refused(t, listTasks, `{"statusTimestampAfter": "yesterday"}`, "INVALID_PARAMS")
				}
			},
		},
	}
}

// apart makes a task whose status is later than every other's by a millisecond at least.
func (c caller) apart(t *testing.T) *pb.Task {
	t.Helper()
	last := c.list(t, "pageSize", 1).GetTasks()[0]
	for {
		task := c.in(uuid()).completed(t) // time goes by
		if task.GetStatus().GetTimestamp().AsTime().After(last.GetStatus().GetTimestamp().AsTime()) {
			break
		}
	}
	return c.completed(t)
}

// stamp gives a status's time as it is written.
func stamp(task *pb.Task) string {
	return task.GetStatus().GetTimestamp().AsTime().Format("2006-01-02T15:04:05.000Z")
}
