package a2a

import (
	"fmt"
	"slices"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// by gives the same caller on another binding.
func (c caller) by(b binding) caller {
	c.binding = b
	return c
}

// equivalence is sections 5.1 to 5.4.
func equivalence() []requirement {
	return slices.Concat(sameness(), mapping(), errorMapping())
}

func sameness() []requirement {
	return []requirement{
		{
			id: "EQUAL-1", section: "5.1", level: must, what: "every binding has every operation",
			test: func(t *testing.T, c caller) {
				for op, request := range about(t, c.waiting(t).GetId()) {
					if a := c.try(t, op, request); a.fault != nil && a.fault.reason() == "METHOD_NOT_FOUND" {
						t.Errorf("%s: %+v", op, a.fault)
					}
				}
			},
		},
		{
			id: "EQUAL-2", section: "5.1", level: must, what: "what was made by one binding is the same by every other",
			test: func(t *testing.T, c caller) {
				c = c.in("equal-" + string(c.binding))
				task := c.completed(t)
				c.watch(t, task.GetId(), "c", "https://example.com/hook")
				list, pushes := c.list(t, "includeArtifacts", true), c.configsOf(t, task.GetId())
				for _, b := range bindings() {
					other := c.by(b)
					if have := other.get(t, task.GetId()); !proto.Equal(have, c.get(t, task.GetId())) {
						t.Errorf("%s gives %v", b, have)
					}
					if have := other.list(t, "includeArtifacts", true); !proto.Equal(have, list) {
						t.Errorf("%s lists %v, not %v", b, have, list)
					}
					if have := other.configsOf(t, task.GetId()); len(have) != 1 || !proto.Equal(have[0], pushes[0]) {
						t.Errorf("%s lists %v, not %v", b, have, pushes)
					}
				}
			},
		},
		{
			id: "EQUAL-3", section: "5.1", level: must, what: "every binding refuses the same requests for the same reason, in the same words",
			test: func(t *testing.T, c caller) {
				task := c.completed(t).GetId()
				for i, one := range []struct{ op, request string }{
					{getTask, text(t, object{"id": "no-such-task"})},
					{getTask, text(t, object{"id": task, "historyLength": -1})},
					{listTasks, `{"pageSize": 0}`},
					{listTasks, `{"pageSize": 101}`},
					{listTasks, `{"pageToken": "nonsense"}`},
					{cancelTask, text(t, object{"id": task})},
					{subscribeTask, text(t, object{"id": task})},
					{sendMessage, message(t, "x", "message.parts", []any{})},
					{sendMessage, message(t, "x", "message.role", "ROLE_AGENT")},
					{sendMessage, message(t, "x", "message.messageId", nil)},
					{sendMessage, message(t, "x", "message.taskId", task)},
					{sendMessage, message(t, "x", "message.parts", []any{object{"raw": "AAAA", "mediaType": "application/x-unknown"}})},
					{createPush, config(t, task, "c", "nowhere")},
					{getPush, text(t, object{"taskId": task, "id": "none"})},
				} {
					want := c.try(t, one.op, one.request).fault
					for _, b := range bindings() {
						have := c.by(b).try(t, one.op, one.request).fault
						if have == nil || want == nil || have.reason() != want.reason() || have.message != want.message || fmt.Sprint(have.detail("BadRequest")["fieldViolations"]) != fmt.Sprint(want.detail("BadRequest")["fieldViolations"]) {
							t.Errorf("%d, %s: %s answers %+v, not %+v", i, one.op, b, have, want)
						}
					}
				}
			},
		},
		{
			id: "EQUAL-4", section: "5.1", level: must, what: "every binding takes each security scheme of the card",
			test: func(t *testing.T, c caller) {
				for name, scheme := range c.card.GetSecuritySchemes() {
					plain := c.as("")
					switch s := scheme.GetScheme().(type) {
					case *pb.SecurityScheme_HttpAuthSecurityScheme:
						plain = plain.with("Authorization", s.HttpAuthSecurityScheme.GetScheme()+" "+c.world.alice)
					case *pb.SecurityScheme_ApiKeySecurityScheme:
						plain = plain.with(s.ApiKeySecurityScheme.GetName(), c.world.alice)
					default:
						t.Fatalf("the card has %s: %v", name, scheme)
					}
					plain.completed(t)
				}
				if len(c.card.GetSecuritySchemes()) == 0 || len(c.card.GetSecurityRequirements()) == 0 {
					t.Error("the card names no scheme")
				}
			},
		},
		{
			id: "EQUAL-5", section: "5.2", level: must, what: "the card names every binding that is served",
			once: func(t *testing.T, w *world) {
				for _, a := range []*agent{w.main, w.open, w.plain} {
					var names []string
					for _, i := range a.card.GetSupportedInterfaces() {
						names = append(names, i.GetProtocolBinding())
					}
					if !slices.Equal(names, []string{"JSONRPC", "HTTP+JSON", "GRPC"}) {
						t.Errorf("it names %v", names)
					}
				}
			},
		},
		onClients("EQUAL-6", "5.2", may, "a client takes any binding of the card"),
		onClients("EQUAL-7", "5.2", should, "a client falls back to another binding"),
	}
}

// mapping has a row for each operation of 5.3.
func mapping() []requirement {
	out := make([]requirement, 0, len(operations()))
	for i, op := range operations() {
		at := restPaths()[op]
		out = append(out, requirement{
			id: fmt.Sprintf("MAP-%d", i+1), section: "5.3", level: must, what: fmt.Sprintf("%s is called so by JSON-RPC and gRPC, and is %s %s by HTTP+JSON", op, at.method, at.path),
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				c.watch(t, task, "c", "https://example.com/hook")
				if a := c.try(t, op, about(t, task)[op]); a.fault != nil {
					t.Errorf("%+v", a.fault)
				}
			},
		})
	}
	return out
}

// errorMapping has a row for each error of 5.4.
func errorMapping() []requirement {
	row := func(n int, reason string, r requirement) requirement {
		want := errorCodes()[reason]
		r.id, r.section, r.level = fmt.Sprintf("CODE-%d", n), "5.4", must
		r.what = fmt.Sprintf("%s is %d in JSON-RPC, %d in HTTP, and %s in gRPC", reason, want.rpc, want.http, want.grpc)
		return r
	}
	tested := func(n int, reason string, provoke func(*testing.T, caller) (caller, string, string)) requirement {
		return row(n, reason, requirement{test: func(t *testing.T, c caller) {
			at, op, request := provoke(t, c)
			at.refused(t, op, request, reason)
		}})
	}
	const codes = "internal/a2a: TestCodes"
	return []requirement{
		tested(1, "TASK_NOT_FOUND", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c, getTask, text(t, object{"id": uuid()})
		}),
		tested(2, "TASK_NOT_CANCELABLE", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c, cancelTask, text(t, object{"id": c.completed(t).GetId()})
		}),
		tested(3, "PUSH_NOTIFICATION_NOT_SUPPORTED", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c.at(c.world.plain), listPush, text(t, object{"taskId": uuid()})
		}),
		tested(4, "UNSUPPORTED_OPERATION", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c, subscribeTask, text(t, object{"id": c.completed(t).GetId()})
		}),
		tested(5, "CONTENT_TYPE_NOT_SUPPORTED", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c, sendMessage, message(t, "x", "message.parts", []any{object{"raw": "AAAA", "mediaType": "video/mp4"}})
		}),
		row(6, "INVALID_AGENT_RESPONSE", requirement{elsewhere: codes, without: "agentd makes its answers itself"}),
		row(7, "EXTENDED_AGENT_CARD_NOT_CONFIGURED", requirement{elsewhere: codes, without: "where the card announces an extended card there is one"}),
		row(8, "EXTENSION_SUPPORT_REQUIRED", requirement{elsewhere: "agentd/door/a2adoor: TestRequiredExtensions"}),
		tested(9, "VERSION_NOT_SUPPORTED", func(t *testing.T, c caller) (caller, string, string) {
			t.Helper()
			return c.with("A2A-Version", "3.0"), getTask, text(t, object{"id": uuid()})
		}),
		{id: "CODE-10", section: "5.4", level: must, what: "a custom binding maps every error", without: noCustom},
		{id: "CODE-11", section: "5.4", level: should, what: "a custom binding has a table of its errors", without: noCustom},
	}
}

// noCustom is why the rows of custom bindings have no test.
const noCustom = "agentd has no custom binding"
