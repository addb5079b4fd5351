package a2a

import (
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc/codes"
)

// security is section 7.
func security() []requirement {
	return slices.Concat(authentication(), authorization(), inTask())
}

// deployed is why the rows of encrypted connections have no test.
const deployed = "on who runs it: agentd takes a certificate (--tls-cert, --tls-key), or stands behind what ends TLS, and its card names that address (agentd --advertise)"

// rejected wants a request to be refused for want of a key.
func (c caller) rejected(t *testing.T, op, request string) answer {
	t.Helper()
	a := c.try(t, op, request)
	switch {
	case a.fault == nil:
		t.Fatalf("%s was answered: %s", op, a.result)
	case a.fault.reason() != "UNAUTHENTICATED" || a.fault.message == "":
		t.Errorf("%s: %+v", op, a.fault)
	case c.binding == gRPC && a.fault.grpc != codes.Unauthenticated, c.binding != gRPC && a.status != 401:
		t.Errorf("%s: %d %s", op, a.status, a.fault.grpc)
	}
	return a
}

func authentication() []requirement {
	return []requirement{
		{id: "AUTH-1", section: "7.1", level: must, what: "connections are encrypted", elsewhere: "agentd/app: TestRunWithTLS"},
		{id: "AUTH-2", section: "7.1", level: should, what: "TLS is of version 1.3", without: deployed},
		{
			id: "AUTH-3", section: "7.2", level: should, what: "a client verifies the server's certificate",
			elsewhere: "internal/egress: TestTLS",
		},
		{
			id: "AUTH-4", section: "7.3", level: must, what: "the card, which anybody may read, says how to authenticate",
			once: func(t *testing.T, w *world) {
				if len(w.main.card.GetSecuritySchemes()) == 0 || len(w.open.card.GetSecuritySchemes()) != 0 {
					t.Errorf("main has %v, open has %v", w.main.card.GetSecuritySchemes(), w.open.card.GetSecuritySchemes())
				}
				for _, r := range w.main.card.GetSecurityRequirements() {
					for name := range r.GetSchemes() {
						if w.main.card.GetSecuritySchemes()[name] == nil {
							t.Errorf("the card requires %s, which it doesn't have", name)
						}
					}
				}
			},
		},
		{
			id: "AUTH-5", section: "7.3", level: must, what: "a client shows its credentials with every request, in headers or metadata",
			elsewhere: "agentd/door/a2adoor: TestTheClientShowsItsKey",
		},
		{
			id: "AUTH-6", section: "7.4", level: must, what: "every request of every operation is authenticated, and nothing is done before",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				for _, shown := range []string{"", "Bearer ", "Bearer wrong", "Basic " + c.world.alice, "Bearer " + c.world.alice + "x"} {
					for op, request := range about(t, task) {
						c.as("").with("Authorization", shown).rejected(t, op, request)
					}
				}
				if s := c.get(t, task).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_INPUT_REQUIRED || len(c.configsOf(t, task)) != 0 {
					t.Errorf("the refused requests left the task %s", s)
				}
			},
		},
		{
			id: "AUTH-7", section: "7.4", level: should, what: "a refusal has the binding's own code: 401, UNAUTHENTICATED",
			test: func(t *testing.T, c caller) { c.as("").rejected(t, listTasks, `{}`) },
		},
		{
			id: "AUTH-8", section: "7.4", level: should, what: "a refusal has a challenge",
			test: func(t *testing.T, c caller) {
				for _, key := range []string{"", "wrong"} {
					if a := c.as(key).rejected(t, getTask, text(t, object{"id": "x"})); !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Bearer ") {
						t.Errorf("%q: %v", key, a.header)
					}
				}
			},
		},
	}
}

func authorization() []requirement {
	return []requirement{
		{
			id: "AUTH-9", section: "7.5", level: may, what: "who may do what goes by skills, actions, data or scopes",
			without: "by data: a task belongs to the caller who made it (SCOPE-1); by actions: approvers alone decide on tool calls (docs/approvals.md)",
		},
	}
}

// inTask is section 7.6.
func inTask() []requirement {
	const prefix = "tck-auth-required"
	asks := func(t *testing.T, c caller) *pb.Task {
		t.Helper()
		return c.reached(t, prefix, pb.TaskState_TASK_STATE_AUTH_REQUIRED)
	}
	return []requirement{
		{
			id: "GRANT-1", section: "7.6.1", level: must, what: "an agent that needs an authorization has a task for what it does",
			test: func(t *testing.T, c caller) {
				if task := asks(t, c); task.GetId() == "" || c.get(t, task.GetId()).GetId() != task.GetId() {
					t.Errorf("it is %v", task)
				}
			},
		},
		{
			id: "GRANT-2", section: "7.6.1", level: must, what: "the task becomes AUTH_REQUIRED",
			test: func(t *testing.T, c caller) {
				if s := c.get(t, asks(t, c).GetId()).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_AUTH_REQUIRED {
					t.Errorf("it is %s", s)
				}
			},
		},
		{
			id: "GRANT-3", section: "7.6.1", level: must, what: "the status has a message that says which authorization is needed",
			test: func(t *testing.T, c caller) {
				if m := asks(t, c).GetStatus().GetMessage(); m.GetRole() != pb.Role_ROLE_AGENT || !strings.Contains(textOf(m.GetParts()), "https://example.com/authorize") {
					t.Errorf("it says %v", m)
				}
			},
		},
		{
			id: "GRANT-4", section: "7.6.1", level: must, what: "credentials come to the agent by another way than A2A",
			without: "on who writes the agent: its model says where to authorize, and the agent's tools use what was granted there",
		},
		{
			id: "GRANT-5", section: "7.6.1", level: should, what: "streams stay open while an authorization is awaited",
			test: func(t *testing.T, c caller) {
				task := asks(t, c)
				s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
				if first := s.next(t); first.GetTask().GetStatus().GetState() != pb.TaskState_TASK_STATE_AUTH_REQUIRED {
					t.Fatalf("it begins with %v", first)
				}
				c.answerTo(t, task)
				events := s.all(t)
				if len(events) == 0 || events[len(events)-1].GetStatusUpdate().GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the stream went on with %v", events)
				}
			},
		},
		{
			id: "GRANT-6", section: "7.6.1", level: may, what: "the task goes on by itself when the credential has come",
			without: "not done: the next message to the task makes it go on",
		},
		{
			id: "GRANT-7", section: "7.6.1", level: should, what: "a task that awaits an authorization takes messages, again and again",
			test: func(t *testing.T, c caller) {
				task := asks(t, c)
				if s := c.send(t, message(t, prefix, "message.taskId", task.GetId())).GetStatus(); s.GetState() != pb.TaskState_TASK_STATE_AUTH_REQUIRED || textOf(s.GetMessage().GetParts()) != "The authorization is still missing." {
					t.Errorf("it is %v", s)
				}
				if s := c.answerTo(t, task).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("it is %s", s)
				}
			},
		},
		onClients("GRANT-8", "7.6.2", should, "a client that is an agent and passes the request on does so by the rules for agents"),
		onClients("GRANT-9", "7.6.2", should, "a client subscribes, has a webhook told, or polls, so as not to miss that the task goes on"),
		{
			id: "GRANT-10", section: "7.6.3", level: should, what: "credentials come by a secure channel beside A2A",
			without: "on who writes the agent",
		},
		{
			id: "GRANT-11", section: "7.6.3", level: should, what: "credentials within A2A are bound to the agent that asked",
			without: "not done: agentd takes no credentials within A2A",
		},
		{
			id: "GRANT-12", section: "7.6.3", level: should, what: "credentials within A2A are readable for the agent that asked alone",
			without: "not done: agentd takes no credentials within A2A",
		},
	}
}
