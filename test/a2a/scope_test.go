package a2a

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// scoping is section 13.1: what is a caller's is for him alone.
func scoping() []requirement {
	out := []requirement{
		{
			id: "SCOPE-1", section: "13.1", level: must, what: "what a caller may see ends where his own tasks do, for another key and for another tenant",
			test: func(t *testing.T, c caller) {
				for name, one := range c.strangers() {
					task := one.owner.waiting(t).GetId()
					one.stranger.refused(t, getTask, text(t, object{"id": task}), "TASK_NOT_FOUND")
					if s := one.owner.get(t, task).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
						t.Errorf("%s: the task is %s", name, s)
					}
				}
			},
		},
		{
			id: "SCOPE-2", section: "13.1", level: must, what: "every operation looks who asks",
			test: func(t *testing.T, c caller) {
				for name, one := range c.strangers() {
					task := one.owner.waiting(t)
					one.owner.watch(t, task.GetId(), "c", "https://example.com/hook")
					for op, request := range about(t, task.GetId()) {
						if op != listTasks && op != extendedCard {
							one.stranger.refused(t, op, request, "TASK_NOT_FOUND")
						}
					}
					if s := one.owner.get(t, task.GetId()).GetStatus().GetState(); s != task.GetStatus().GetState() || len(one.owner.configsOf(t, task.GetId())) != 1 {
						t.Errorf("%s: the task is %s", name, s)
					}
				}
			},
		},
		{
			id: "SCOPE-3", section: "13.1", level: must, what: "a list has the caller's tasks alone, whatever it is filtered by, and counts no other",
			test: func(t *testing.T, c caller) {
				for name, one := range c.strangers() {
					context := "ctx-" + uuid()
					one.owner.completed(t, "message.contextId", context)
					own := one.stranger.completed(t, "message.contextId", context).GetId()
					for _, filter := range [][]any{{"contextId", context}, {"contextId", context, "status", "TASK_STATE_COMPLETED"}, {"contextId", context, "statusTimestampAfter", "2020-01-01T00:00:00Z"}} {
						if have := one.stranger.list(t, filter...); have.GetTotalSize() != 1 || len(have.GetTasks()) != 1 || have.GetTasks()[0].GetId() != own {
							t.Errorf("%s: %v lists %v", name, filter, have)
						}
					}
				}
			},
		},
	}
	for i, op := range operations() {
		out = append(out, requirement{
			id: fmt.Sprintf("SCOPE-%d", i+4), section: "13.1", level: must, what: op + " answers, byte for byte, what concerns somebody else's task as what concerns one that there is none of",
			test: func(t *testing.T, c caller) { c.tellsNothing(t, op) },
		})
	}
	return append(out,
		requirement{
			id: "SCOPE-15", section: "13.1", level: must, what: "who may is looked at before anything that could tell: somebody else's context, task or configs change no answer",
			test: func(t *testing.T, c caller) {
				for name, one := range c.strangers() {
					context := "ctx-" + uuid()
					one.owner.waiting(t, "message.contextId", context) // its owner could begin nothing else in this context now
					if task := one.stranger.completed(t, "message.contextId", context); len(task.GetHistory()) != 1 {
						t.Errorf("%s: the stranger's task knows %v", name, task.GetHistory())
					}
				}
			},
		},
		requirement{
			id: "SCOPE-16", section: "13.1", level: may, what: "who may see what goes by user and by tenant",
			test: func(t *testing.T, c caller) {
				for name, one := range c.strangers() {
					task := one.owner.completed(t).GetId()
					if one.owner.get(t, task).GetId() != task {
						t.Errorf("%s: the owner has no access", name)
					}
				}
			},
		},
		requirement{
			id: "SCOPE-17", section: "13.1", level: should, what: "who may see what is written down",
			without: "docs/a2a.md, Tasks: a task belongs to who made it, and to the tenant",
		},
	)
}

// pair is a caller who has something, and one who hasn't.
type pair struct{ owner, stranger caller }

// strangers are all ways not to be the owner: another key, another tenant, none instead of one, and one instead of none.
func (c caller) strangers() map[string]pair {
	one, other := "tenant-a", "tenant-b"
	return map[string]pair{
		"another key": {c, c.as(c.world.bob)}, "another key in the same tenant": {c.in(one), c.as(c.world.bob).in(one)},
		"another tenant": {c.in(one), c.in(other)}, "no tenant": {c.in(one), c}, "a tenant": {c, c.in(one)}, "both": {c.in(one), c.as(c.world.bob).in(other)},
	}
}

// likewise gives another ID of the same form.
func likewise(id string) string {
	out := []byte(id)
	for i, b := range out {
		switch {
		case b >= '0' && b <= '9':
			out[i] = '0' + byte(rand.IntN(10))
		case b >= 'a' && b <= 'f':
			out[i] = 'a' + byte(rand.IntN(6))
		case b >= 'A' && b <= 'Z':
			out[i] = 'A' + byte(rand.IntN(26))
		}
	}
	return string(out)
}

// variants are requests of an operation about a task and a context. Their own IDs are fixed: what differs is what they ask about.
func variants(t *testing.T, op, task, context string) []string {
	t.Helper()
	said := func(more ...any) string {
		return text(t, edit(t, object{"message": object{"messageId": "tck-input-required-of-the-stranger", "role": "ROLE_USER", "parts": []any{object{"text": "x"}}}}, more...))
	}
	switch op {
	case sendMessage, streamMessage:
		return []string{
			said("message.taskId", task), said("message.taskId", task, "message.contextId", context), said("message.taskId", task, "configuration.returnImmediately", true),
			said("message.taskId", task, "configuration.historyLength", 1), said("message.taskId", task, "configuration.taskPushNotificationConfig", object{"url": "https://example.com/hook"}),
			said("message.taskId", task, "message.contextId", "another"), said("message.taskId", task, "message.referenceTaskIds", []any{task}),
			said("message.taskId", task, "message.parts", []any{object{"data": object{"decision": "approve"}}}),
		}
	case getTask:
		return []string{text(t, object{"id": task}), text(t, object{"id": task, "historyLength": 0}), text(t, object{"id": task, "historyLength": 5})}
	case listTasks:
		return []string{text(t, object{"contextId": context}), text(t, object{"contextId": context, "includeArtifacts": true, "pageSize": 1}), text(t, object{"contextId": context, "status": "TASK_STATE_INPUT_REQUIRED"})}
	case createPush:
		return []string{config(t, task, "c", "https://example.com/hook"), config(t, task, "other", "https://example.com/hook"), config(t, task, "c", "http://127.0.0.1/"), config(t, task, "c", "nowhere")}
	case getPush, deletePush:
		return []string{text(t, object{"taskId": task, "id": "c"}), text(t, object{"taskId": task, "id": "other"})}
	case listPush:
		return []string{text(t, object{"taskId": task})}
	case extendedCard:
		return []string{`{}`}
	default:
		return []string{text(t, object{"id": task})}
	}
}

// tellsNothing wants a stranger to be answered alike about a task that isn't his and one that isn't there, in each state of the task.
func (c caller) tellsNothing(t *testing.T, op string) {
	t.Helper()
	for name, one := range c.strangers() {
		for _, task := range []*pb.Task{one.owner.waiting(t), one.owner.completed(t), one.owner.working(t)} {
			if task.GetStatus().GetState() != pb.TaskState_TASK_STATE_WORKING {
				one.owner.watch(t, task.GetId(), "c", "https://example.com/hook")
			}
			noTask, noContext := likewise(task.GetId()), likewise(task.GetContextId())
			about, none := variants(t, op, task.GetId(), task.GetContextId()), variants(t, op, noTask, noContext)
			for i := range about {
				have := one.stranger.told(t, op, about[i], task.GetId(), task.GetContextId())
				want := one.stranger.told(t, op, none[i], noTask, noContext)
				if have != want {
					t.Errorf("%s, %s, %s:\n%s\nwant\n%s", name, task.GetStatus().GetState(), about[i], have, want)
				}
				if op != listTasks && op != extendedCard && !strings.Contains(have, "TASK_NOT_FOUND") {
					t.Errorf("%s, %s: %s", name, about[i], have)
				}
			}
			if now := one.owner.get(t, task.GetId()); over(now.GetStatus().GetState()) != over(task.GetStatus().GetState()) {
				t.Errorf("%s: the task became %s", name, now.GetStatus().GetState())
			}
		}
	}
}

// withoutSignatures finds a card's signatures, which differ each time that they are made.
var withoutSignatures = regexp.MustCompile(`,"signatures":\[[^\]]*\]`)

// told gives everything of an answer that its reader sees, but the IDs that he asked about and the time.
func (c caller) told(t *testing.T, op, request, task, context string) string {
	t.Helper()
	a := c.try(t, op, request)
	var out strings.Builder
	fmt.Fprintln(&out, a.status)
	names := make([]string, 0, len(a.header))
	for name := range a.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if values := a.header[name]; !strings.EqualFold(name, "Date") && !strings.EqualFold(name, "Grpc-Status-Details-Bin") { // details are below
			fmt.Fprintln(&out, name, values)
		}
	}
	body := a.body
	if a.fault != nil && len(body) == 0 { // of gRPC
		details, err := json.Marshal(a.fault.details)
		if err != nil {
			t.Fatal(err)
		}
		body = fmt.Appendf(nil, "%d %s %s", a.fault.grpc, a.fault.message, details)
	}
	if a.fault == nil && c.binding == gRPC { // whose JSON has white space at random
		var plain bytes.Buffer
		if err := json.Compact(&plain, body); err != nil {
			t.Fatal(err)
		}
		body = plain.Bytes()
	}
	out.Write(withoutSignatures.ReplaceAll(body, nil))
	return strings.NewReplacer(task, "TASK", context, "CONTEXT").Replace(out.String())
}
