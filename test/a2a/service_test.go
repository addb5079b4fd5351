package a2a

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc/codes"
)

// services is section 3.2.6. Versions and extensions are further down.
func services() []requirement {
	return []requirement{
		{
			id: "PARAM-1", section: "3.2.6", level: must, what: "names of service parameters are the same in small and capital letters",
			test: func(t *testing.T, c caller) {
				c = c.with("A2A-Version", "")
				for _, name := range []string{"a2a-version", "A2A-VERSION", "a2A-vErSiOn"} {
					c.with(name, "1.0").completed(t)
				}
			},
		},
		{
			id: "PARAM-2", section: "3.2.6", level: must, what: "their values are not",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Version", "V1.0").refused(t, getTask, text(t, object{"id": uuid()}), "VERSION_NOT_SUPPORTED")
			},
		},
		{
			id: "PARAM-3", section: "3.2.6", level: may, what: "other headers and metadata may come beside service parameters",
			test: func(t *testing.T, c caller) {
				c.with("X-Something", "else").with("A2A-Unheard-Of", "1").completed(t)
			},
		},
	}
}

// requestFor gives a request of an operation that would be answered, or refused for the task alone.
func requestFor(t *testing.T, op, taskID string) string {
	t.Helper()
	switch op {
	case sendMessage, streamMessage:
		return message(t, "tck-complete-task")
	case getTask, cancelTask, subscribeTask:
		return text(t, object{"id": taskID})
	case createPush:
		return text(t, object{"taskId": taskID, "url": "http://127.0.0.1:1/"})
	case listPush:
		return text(t, object{"taskId": taskID})
	case getPush, deletePush:
		return text(t, object{"taskId": taskID, "id": "1"})
	default:
		return `{}`
	}
}

// unauthenticated wants a refusal for want of a key.
func (c caller) unauthenticated(t *testing.T, op string, a answer) {
	t.Helper()
	f := a.fault
	switch {
	case f == nil:
		t.Errorf("%s was answered: %s", op, a.body)
	case c.binding == gRPC && f.grpc != codes.Unauthenticated:
		t.Errorf("%s: %s", op, f.grpc)
	case c.binding != gRPC && a.status != 401:
		t.Errorf("%s: status %d", op, a.status)
	case f.message == "":
		t.Errorf("%s: no message: %+v", op, f)
	}
}

// errorCategories is section 3.3.2.
func errorCategories() []requirement {
	return []requirement{
		{
			id: "ERR-1", section: "3.3.2", level: must, what: "what goes wrong is told by the error that belongs to it",
			test: func(t *testing.T, c caller) {
				c.refused(t, getTask, text(t, object{"id": uuid()}), "TASK_NOT_FOUND")
				c.refused(t, cancelTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_CANCELABLE")
				c.refused(t, sendMessage, `{}`, "INVALID_PARAMS")
			},
		},
		{
			id: "ERR-2", section: "3.3.2", level: should, what: "errors say what can be done",
			test: func(t *testing.T, c caller) {
				f := c.with("A2A-Version", "7.0").refused(t, getTask, text(t, object{"id": uuid()}), "VERSION_NOT_SUPPORTED")
				if !strings.Contains(f.message, "1.0") {
					t.Errorf("the message is %q", f.message)
				}
			},
		},
		{
			id: "ERR-AUTH-1", section: "3.3.2", level: must, what: "requests without a key, or with a wrong one, are refused",
			test: func(t *testing.T, c caller) {
				id := c.waiting(t).GetId()
				for _, op := range operations() {
					for _, who := range []caller{c.as(""), c.as("wrong"), c.with("Authorization", "Basic YTpi")} {
						who.unauthenticated(t, op, who.try(t, op, requestFor(t, op, id)))
					}
				}
			},
		},
		{
			id: "ERR-AUTH-2", section: "3.3.2", level: should, what: "the refusal carries a challenge",
			test: func(t *testing.T, c caller) {
				if a := c.as("").ask(t, listTasks, `{}`); a.header.Get("WWW-Authenticate") == "" {
					t.Errorf("headers %v", a.header)
				}
			},
		},
		{
			id: "ERR-AUTH-3", section: "3.3.2", level: should, what: "the refusal says which scheme is wanted",
			test: func(t *testing.T, c caller) {
				a := c.as("").ask(t, listTasks, `{}`)
				if says := a.header.Get("WWW-Authenticate") + a.fault.message; !strings.Contains(says, "Bearer") {
					t.Errorf("it says %q", says)
				}
			},
		},
		{
			id: "ERR-AUTHZ-1", section: "3.3.2", level: must, what: "a caller who may not do something gets an authorization error",
			without: "there is nothing of the kind: who has a key may do everything with his own tasks, and others' are not there for him (ERR-AUTHZ-3)",
		},
		{
			id: "ERR-AUTHZ-2", section: "3.3.2", level: should, what: "the error says which permission is missing",
			without: "as ERR-AUTHZ-1",
		},
		{
			id: "ERR-AUTHZ-3", section: "3.3.2", level: must, what: "that a task exists is not told to those who may not see it",
			test: func(t *testing.T, c caller) {
				id, other := c.waiting(t).GetId(), c.as(c.world.bob)
				for _, op := range []string{getTask, cancelTask, subscribeTask, createPush, getPush, listPush, deletePush} {
					other.refused(t, op, requestFor(t, op, id), "TASK_NOT_FOUND")
				}
			},
		},
		{
			id: "ERR-VAL-1", section: "3.3.2", level: must, what: "all parameters are looked at before anything is done",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				for what, more := range invalidMessages() {
					request := message(t, "tck-complete-task", more...)
					for _, op := range []string{sendMessage, streamMessage} {
						if a := c.try(t, op, request); a.fault == nil {
							t.Errorf("%s with %s was answered: %s", op, what, a.body)
						} else {
							c.checkFault(t, a, "INVALID_PARAMS")
						}
					}
				}
				if have := c.list(t); have.GetTotalSize() != 0 {
					t.Errorf("what was refused made tasks: %v", have)
				}
			},
		},
		{
			id: "ERR-VAL-2", section: "3.3.2", level: should, what: "the error names the parameter that is wrong, and why",
			test: func(t *testing.T, c caller) {
				for path, request := range map[string]string{
					"message.messageId": message(t, "tck-complete-task", "message.messageId", nil),
					"message.parts":     message(t, "tck-complete-task", "message.parts", []any{}),
				} {
					f := c.refused(t, sendMessage, request, "INVALID_PARAMS")
					if says := fmt.Sprint(f.detail("BadRequest")["fieldViolations"]); !strings.Contains(says, path) || !strings.Contains(f.message, path) {
						t.Errorf("it says %q, %s", f.message, says)
					}
				}
			},
		},
		{
			id: "ERR-VAL-3", section: "3.3.2", level: should, what: "the error says what would be right",
			test: func(t *testing.T, c caller) {
				f := c.refused(t, listTasks, `{"pageSize": 1000}`, "INVALID_PARAMS")
				if !strings.Contains(f.message, "1 to 100") {
					t.Errorf("it says %q", f.message)
				}
				f = c.refused(t, sendMessage, message(t, "tck-complete-task", "message.role", "ROLE_AGENT"), "INVALID_PARAMS")
				if !strings.Contains(f.message, "ROLE_USER") {
					t.Errorf("it says %q", f.message)
				}
			},
		},
		{
			id: "ERR-RES-1", section: "3.3.2", level: must, what: "what doesn't exist, or isn't the caller's, is refused by a not-found error",
			test: func(t *testing.T, c caller) {
				for _, op := range []string{getTask, cancelTask, subscribeTask, createPush, getPush, listPush, deletePush} {
					c.refused(t, op, requestFor(t, op, uuid()), "TASK_NOT_FOUND")
				}
				c.refused(t, getPush, requestFor(t, getPush, c.waiting(t).GetId()), "TASK_NOT_FOUND")
			},
		},
		{
			id: "ERR-RES-2", section: "3.3.2", level: should, what: "the error doesn't tell what isn't there from what isn't the caller's",
			test: func(t *testing.T, c caller) {
				theirs, none := c.waiting(t).GetId(), uuid()
				other := c.as(c.world.bob)
				for _, op := range []string{getTask, cancelTask, subscribeTask, createPush, getPush, listPush, deletePush} {
					a, b := other.try(t, op, requestFor(t, op, theirs)), other.try(t, op, requestFor(t, op, none))
					if x, y := strings.ReplaceAll(fmt.Sprintf("%+v", a.fault), theirs, "ID"), strings.ReplaceAll(fmt.Sprintf("%+v", b.fault), none, "ID"); x != y {
						t.Errorf("%s: of theirs %s\nof none %s", op, x, y)
					}
				}
			},
		},
		{
			id: "ERR-SYS-1", section: "3.3.2", level: should, what: "errors that pass have codes of their own",
			test: func(t *testing.T, c caller) {
				f := c.limited(t).fault
				if f.reason() != "RESOURCE_EXHAUSTED" || c.binding == gRPC && f.grpc != codes.ResourceExhausted || c.binding == rest && f.http != 429 {
					t.Errorf("the error is %+v", f)
				}
			},
		},
		{
			id: "ERR-SYS-2", section: "3.3.2", level: may, what: "errors that pass say when to try again",
			test: func(t *testing.T, c caller) {
				if a := c.limited(t); a.header.Get("Retry-After") == "" {
					t.Errorf("headers %v", a.header)
				}
			},
		},
		{
			id: "ERR-SYS-3", section: "3.3.2", level: should, what: "failures of the agent are logged",
			test: func(t *testing.T, c caller) {
				c.reached(t, "broken-model", pb.TaskState_TASK_STATE_FAILED)
				eventually(t, func(context.Context) error {
					if !strings.Contains(c.Output(), "broken on purpose") {
						return errors.New("the log doesn't say that the model failed")
					}
					return nil
				})
			},
		},
		{
			id: "ERR-PAY-1", section: "3.3.2", level: must, what: "every error has a code for machines and a message for people",
			test: func(t *testing.T, c caller) {
				for _, f := range c.faults(t) {
					if f.message == "" || f.rpc == 0 && f.http == 0 && f.grpc == 0 || c.binding == rest && f.name == "" {
						t.Errorf("the error is %+v", f)
					}
				}
			},
		},
		{
			id: "ERR-PAY-2", section: "3.3.2", level: must, what: "every object of an error's details has an @type",
			test: func(t *testing.T, c caller) {
				for _, f := range c.faults(t) {
					for _, d := range f.details {
						if kind, _ := d["@type"].(string); !strings.HasPrefix(kind, "type.googleapis.com/") {
							t.Errorf("the detail is %v", d)
						}
					}
				}
			},
		},
		{
			id: "ERR-PAY-3", section: "3.3.2", level: should, what: "details are of google.rpc's types: ErrorInfo always, BadRequest where a field is wrong",
			test: func(t *testing.T, c caller) {
				for _, f := range c.faults(t) {
					if f.detail("ErrorInfo") == nil || f.reason() == "INVALID_PARAMS" && f.detail("BadRequest") == nil {
						t.Errorf("the details are %v", f.details)
					}
				}
			},
		},
		{
			id: "ERR-PAY-4", section: "3.3.2", level: must, what: "an error means the same in every binding",
			once: func(t *testing.T, w *world) {
				reasons := map[binding]string{}
				for _, b := range bindings() {
					for _, f := range w.main.by(b, w.alice).faults(t) {
						reasons[b] += f.reason() + " " + f.message + "\n"
					}
				}
				if reasons[jsonrpc] != reasons[rest] || reasons[jsonrpc] != reasons[gRPC] {
					t.Errorf("the errors are %q", reasons)
				}
			},
		},
	}
}

// limited gives the refusal of a caller who asks too often.
func (c caller) limited(t *testing.T) answer {
	t.Helper()
	c = c.at(c.world.limited)
	for range 3 {
		if a := c.ask(t, listTasks, `{}`); a.fault != nil {
			return a
		}
	}
	t.Fatal("an agent that takes one request a minute took three")
	return answer{}
}

// invalidMessages are messages that can't be taken, by what is wrong in them.
func invalidMessages() map[string][]any {
	return map[string][]any{
		"no message id":            {"message.messageId", nil},
		"an empty message id":      {"message.messageId", ""},
		"a message id of a page":   {"message.messageId", strings.Repeat("x", 3000)},
		"no role":                  {"message.role", nil},
		"the agent's role":         {"message.role", "ROLE_AGENT"},
		"no parts":                 {"message.parts", nil},
		"an empty list of parts":   {"message.parts", []any{}},
		"a part without content":   {"message.parts", []any{object{"mediaType": "text/plain"}}},
		"a file of no address":     {"message.parts", []any{object{"url": "not an address"}}},
		"a control character":      {"message.contextId", "a\u0001b"},
		"a negative historylength": {"configuration.historyLength", -5},
	}
}

// faults makes an error of each kind that a caller can cause; their texts hold no ids.
func (c caller) faults(t *testing.T) []*fault {
	t.Helper()
	return []*fault{
		c.refused(t, getTask, text(t, object{"id": "none"}), "TASK_NOT_FOUND"),
		c.refused(t, sendMessage, `{}`, "INVALID_PARAMS"),
		c.refused(t, listTasks, `{"pageSize": 0}`, "INVALID_PARAMS"),
		c.refused(t, cancelTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_CANCELABLE"),
		c.refused(t, sendMessage, message(t, "tck-complete-task", "message.taskId", c.completed(t).GetId()), "UNSUPPORTED_OPERATION"),
		c.refused(t, sendMessage, message(t, "tck-complete-task", "message.parts", []any{object{"text": "x", "mediaType": "text/x-unknown"}}), "CONTENT_TYPE_NOT_SUPPORTED"),
		c.with("A2A-Version", "9.9").refused(t, listTasks, `{}`, "VERSION_NOT_SUPPORTED"),
		c.at(c.world.plain).refused(t, listPush, requestFor(t, listPush, "none"), "PUSH_NOTIFICATION_NOT_SUPPORTED"),
	}
}

// capabilities is section 3.3.4.
func capabilities() []requirement {
	return []requirement{
		{
			id: "CAP-1", section: "3.3.4", level: must, what: "without pushNotifications on the card, everything about them is refused by PushNotificationNotSupported",
			test: func(t *testing.T, c caller) {
				c = c.at(c.world.plain)
				id := c.waiting(t).GetId()
				for _, op := range []string{createPush, getPush, listPush, deletePush} {
					c.refused(t, op, requestFor(t, op, id), "PUSH_NOTIFICATION_NOT_SUPPORTED")
				}
				inline := message(t, "tck-complete-task", "configuration.taskPushNotificationConfig", object{"url": "https://example.com/"})
				c.refused(t, sendMessage, inline, "PUSH_NOTIFICATION_NOT_SUPPORTED")
			},
		},
		{
			id: "CAP-2", section: "3.3.4", level: must, what: "without streaming on the card, both streams are refused by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c = c.at(c.world.plain)
				c.refused(t, streamMessage, message(t, "tck-complete-task"), "UNSUPPORTED_OPERATION")
				c.refused(t, subscribeTask, text(t, object{"id": c.waiting(t).GetId()}), "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "CAP-3", section: "3.3.4", level: must, what: "without extendedAgentCard on the card, it is refused by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c.at(c.world.plain).refused(t, extendedCard, `{}`, "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "CAP-4", section: "3.3.4", level: must, what: "an agent that declares an extended card and has none says ExtendedAgentCardNotConfigured",
			without: "there is no such agent: the card is made of the running config and the caller's key, and is there wherever it is declared",
		},
		{
			id: "CAP-5", section: "3.3.4", level: must, what: "a request that doesn't name a required extension is refused by ExtensionSupportRequired",
			elsewhere: "agentd/door/a2adoor: TestRequiredExtensions",
		},
		{
			id: "CAP-6", section: "3.3.4", level: must, what: "what the card declares is true",
			once: func(t *testing.T, w *world) {
				for name, a := range map[string]*agent{"main": w.main, "open": w.open, "plain": w.plain} {
					can := a.card.GetCapabilities()
					if plain := a == w.plain; can.GetStreaming() == plain || can.GetPushNotifications() == plain || can.GetExtendedAgentCard() != (a == w.main) {
						t.Errorf("%s declares %v", name, can)
					}
				}
			},
		},
		onClients("CAP-7", "3.3.4", should, "look at the card before what it need not declare is used"),
	}
}

// extendedCards is section 3.1.11.
func extendedCards() []requirement {
	return []requirement{
		{
			id: "XCARD-1", section: "3.1.11", level: must, what: "the extended card is a whole card, for callers who show a key",
			test: func(t *testing.T, c caller) {
				card := &pb.AgentCard{}
				c.must(t, extendedCard, `{}`, card)
				checkCard(t, card)
				who := c.as("")
				who.unauthenticated(t, extendedCard, who.ask(t, extendedCard, `{}`))
			},
		},
		{
			id: "XCARD-2", section: "3.1.11", level: may, what: "it tells more than the public card",
			test: func(t *testing.T, c caller) {
				card := &pb.AgentCard{}
				c.must(t, extendedCard, `{}`, card)
				if card.GetName() != c.card.GetName() || len(card.GetSkills()) < len(c.card.GetSkills()) {
					t.Errorf("the public card is %v\nthe extended one %v", c.card, card)
				}
			},
		},
		{
			id: "XCARD-3", section: "3.1.11", level: must, what: "an agent without one refuses by UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c.at(c.world.open).refused(t, extendedCard, `{}`, "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "XCARD-4", section: "3.1.11", level: must, what: "a client shows credentials of a scheme that the public card declares",
			elsewhere: "agentd/door/a2adoor: TestTheClientShowsItsKey",
		},
		onClients("XCARD-5", "3.1.11", should, "let the extended card take the place of the public one"),
	}
}
