package a2a

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/encoding/protowire"
)

// inJSON are the bindings that write JSON.
func inJSON() []binding { return []binding{jsonrpc, rest} }

const noJSON = "gRPC has no JSON"

// bodies gives the JSON of several answers: a task, a list, a config, the extended card, and an error.
func (c caller) bodies(t *testing.T) []json.RawMessage {
	t.Helper()
	task := c.waiting(t).GetId()
	c.watch(t, task, "c", "https://example.com/hook")
	out := []json.RawMessage{c.ask(t, sendMessage, message(t, "tck-artifact-file")).body}
	for op, request := range map[string]string{
		getTask: text(t, object{"id": task}), listTasks: `{"includeArtifacts": true}`, listPush: text(t, object{"taskId": task}), extendedCard: `{}`, cancelTask: text(t, object{"id": task}),
	} {
		a := c.ask(t, op, request)
		if a.fault != nil {
			t.Fatalf("%s: %+v", op, a.fault)
		}
		out = append(out, a.body)
	}
	return append(out, c.ask(t, getTask, text(t, object{"id": uuid()})).body)
}

// walk calls f with each field of JSON.
func walk(v any, f func(name string, v any)) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			f(name, inner)
			walk(inner, f)
		}
	case []any:
		for _, inner := range v {
			walk(inner, f)
		}
	}
}

// jsonConventions is sections 5.5 to 5.8.
func jsonConventions() []requirement {
	return slices.Concat(names(), timestamps(), presence())
}

func names() []requirement {
	return []requirement{
		{
			id: "JSON-1", section: "5.5", level: must, what: "names of fields are camelCase", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) {
				for _, body := range c.bodies(t) {
					walk(plainJSON(t, body), func(name string, _ any) {
						if strings.Contains(name, "_") || name != "@type" && name[0] >= 'A' && name[0] <= 'Z' {
							t.Errorf("%q in %s", name, body)
						}
					})
				}
			},
		},
		{
			id: "JSON-2", section: "5.5", level: must, what: "values of enums are their names in the proto", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) {
				states, roles := 0, 0
				for _, body := range c.bodies(t) {
					walk(plainJSON(t, body), func(name string, v any) {
						s, _ := v.(string)
						switch name {
						case "state":
							states++
							if _, ok := pb.TaskState_value[s]; !ok {
								t.Errorf("the state %v", v)
							}
						case "role":
							roles++
							if _, ok := pb.Role_value[s]; !ok {
								t.Errorf("the role %v", v)
							}
						}
					})
				}
				if states == 0 || roles == 0 {
					t.Errorf("%d states and %d roles", states, roles)
				}
			},
		},
		{
			id: "JSON-3", section: "5.5", level: must, what: "a reader of ProtoJSON takes the proto's names, and enums by number, too", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) {
				request := `{"message": {"message_id": "tck-complete-task-` + uuid() + `", "context_id": "ctx-` + uuid() + `", "role": 1, "parts": [{"text": "x", "media_type": "text/plain"}]}, "configuration": {"return_immediately": false, "history_length": 1}}`
				if task := c.send(t, request); task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || len(task.GetHistory()) > 1 || !strings.HasPrefix(task.GetContextId(), "ctx-") {
					t.Errorf("it is %v", task)
				}
			},
		},
	}
}

func timestamps() []requirement {
	stamps := func(t *testing.T, c caller, want string) {
		t.Helper()
		n := 0
		for _, body := range c.bodies(t) {
			walk(plainJSON(t, body), func(name string, v any) {
				if name != "timestamp" {
					return
				}
				n++
				if s, _ := v.(string); !regexp.MustCompile(want).MatchString(s) {
					t.Errorf("the time %v", v)
				}
			})
		}
		if n == 0 {
			t.Error("there is no time")
		}
	}
	return []requirement{
		{
			id: "TIME-1", section: "5.6.1", level: must, what: "times are written by ISO 8601 in UTC", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) { stamps(t, c, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`) },
		},
		{
			id: "TIME-2", section: "5.6.1", level: should, what: "times are written to the millisecond", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) { stamps(t, c, `\.\d{3}Z$`) },
		},
		{
			id: "TIME-3", section: "5.6.1", level: must, what: "no time is written with an offset", on: inJSON(), without: noJSON,
			test: func(t *testing.T, c caller) { stamps(t, c, `^[^+]+Z$`) },
		},
		{
			id: "TIME-4", section: "5.6.1", level: must, what: "times that come are read: with and without a fraction",
			test: func(t *testing.T, c caller) {
				c = c.in("times-" + uuid())
				task := c.completed(t)
				at := task.GetStatus().GetTimestamp().AsTime()
				for after, want := range map[string]int32{
					at.Add(-time.Hour).UTC().Format("2006-01-02T15:04:05Z"): 1, at.Add(-time.Minute).UTC().Format("2006-01-02T15:04:05.000Z"): 1,
					at.Add(time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"): 0,
				} {
					if have := c.list(t, "statusTimestampAfter", after); have.GetTotalSize() != want {
						t.Errorf("after %s: %v", after, have)
					}
				}
			},
		},
		{
			id: "TIME-5", section: "5.6.1", level: may, what: "a fraction that isn't known is left out or zero",
			without: "does not arise: times are always known to the millisecond",
		},
	}
}

func presence() []requirement {
	return []requirement{
		{
			id: "FIELD-1", section: "5.7", level: must, what: "required fields are set in what the agent says, required lists have an element",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				for _, m := range append(task.GetHistory(), c.waiting(t).GetStatus().GetMessage()) {
					if m.GetMessageId() == "" || m.GetRole() == pb.Role_ROLE_UNSPECIFIED || len(m.GetParts()) == 0 {
						t.Errorf("a message is %v", m)
					}
				}
				for _, a := range task.GetArtifacts() {
					if a.GetArtifactId() == "" || len(a.GetParts()) == 0 {
						t.Errorf("an artifact is %v", a)
					}
				}
				if task.GetId() == "" || task.GetStatus().GetState() == pb.TaskState_TASK_STATE_UNSPECIFIED || len(task.GetArtifacts()) == 0 {
					t.Errorf("the task is %v", task)
				}
			},
		},
		{
			id: "FIELD-2", section: "5.7", level: should, what: "a request without a required field is refused, and the answer names the field",
			test: func(t *testing.T, c caller) {
				for _, path := range []string{"message.messageId", "message.role", "message.parts", "message"} {
					f := c.refused(t, sendMessage, message(t, "x", path, nil), "INVALID_PARAMS")
					if !strings.Contains(text(t, f.detail("BadRequest")), `"`+path+`"`) {
						t.Errorf("%s: %+v", path, f)
					}
				}
				if c.binding != rest { // there they are in the path
					c.refused(t, getTask, `{}`, "INVALID_PARAMS")
					c.refused(t, cancelTask, `{}`, "INVALID_PARAMS")
					c.refused(t, subscribeTask, `{}`, "INVALID_PARAMS")
					c.refused(t, listPush, `{}`, "INVALID_PARAMS")
				}
			},
		},
		{
			id: "FIELD-3", section: "5.7", level: must, what: "a required list without an element is refused",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "x", "message.parts", []any{}), "INVALID_PARAMS")
				c.refused(t, streamMessage, message(t, "x", "message.parts", []any{}), "INVALID_PARAMS")
			},
		},
		{
			id: "FIELD-4", section: "5.7", level: should, what: "fields that aren't known are ignored",
			test: func(t *testing.T, c caller) {
				request := message(t, "tck-complete-task")
				if c.binding == gRPC {
					req := &pb.SendMessageRequest{}
					c.asProto(t, request, req)
					req.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 900, protowire.BytesType), "later"))
					out := &pb.SendMessageResponse{}
					if err := c.conn.Invoke(c.outgoing(t.Context()), service+sendMessage, req, out); err != nil {
						t.Error(err)
					}
					return
				}
				later := strings.Replace(request, `{`, `{"later": {"a": [1, null]}, "_x": 1, `, 1)
				later = strings.Replace(later, `"message":{`, `"message":{"kind":"message","laterStill":true,`, 1)
				a := c.raw(t, later)
				if a.fault != nil {
					t.Errorf("%+v", a.fault)
				}
			},
		},
		{
			id: "FIELD-5", section: "5.7", level: must, what: "an optional field that is set to its default is another thing than one that is left out",
			test: func(t *testing.T, c caller) {
				task := c.completed(t)
				if unset, zero := c.get(t, task.GetId()), c.get(t, task.GetId(), "historyLength", 0); len(unset.GetHistory()) == 0 || len(zero.GetHistory()) != 0 {
					t.Errorf("unset: %v, 0: %v", unset.GetHistory(), zero.GetHistory())
				}
				c.refused(t, listTasks, `{"pageSize": 0}`, "INVALID_PARAMS")
			},
		},
		{id: "FIELD-6", section: "5.8", level: should, what: "a custom binding is named by a URI", without: noCustom},
		{id: "FIELD-7", section: "5.8", level: must, what: "a custom binding that breaks what was gets a new URI", without: noCustom},
	}
}

// raw sends a message whose JSON need not be the proto's.
func (c caller) raw(t *testing.T, request string) answer {
	t.Helper()
	if c.binding == rest {
		return c.fetch(t.Context(), t, http.MethodPost, c.address[rest]+"/message:send", request)
	}
	return c.post(t.Context(), t, rpcRequest(sendMessage, request))
}

// postTo sends a body to a JSON-RPC endpoint at this address.
func (c caller) postTo(t *testing.T, address, body string) answer {
	t.Helper()
	resp := c.http(t.Context(), t, http.MethodPost, address, body, "")
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, header: resp.Header, body: whole(t, resp)}
	a.readRPC(t, a.body)
	return a
}
