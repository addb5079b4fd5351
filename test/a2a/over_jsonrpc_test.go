package a2a

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// overJSONRPC is section 9.
func overJSONRPC() []requirement {
	rows := slices.Concat(rpcProtocol(), rpcMethods(), rpcErrors())
	for i := range rows {
		if rows[i].test != nil {
			rows[i].on, rows[i].without = []binding{jsonrpc}, "of JSON-RPC"
		}
	}
	return rows
}

// wants sends a body and wants this code, and this id back.
func (c caller) wants(t *testing.T, body string, code int, id string) *fault {
	t.Helper()
	resp := c.http(t.Context(), t, http.MethodPost, c.address[jsonrpc], body, "")
	defer func() { _ = resp.Body.Close() }()
	a := answer{status: resp.StatusCode, body: whole(t, resp)}
	in := a.readRPC(t, a.body)
	if string(in.ID) != id {
		t.Errorf("%s: the id is %s, want %s", body, in.ID, id)
	}
	if a.fault == nil || a.fault.rpc != code || a.fault.message == "" {
		t.Fatalf("%s: want %d, have %s", body, code, a.body)
	}
	return a.fault
}

func rpcProtocol() []requirement {
	return []requirement{
		{
			id: "RPC-1", section: "9.1", level: must, what: "requests and answers are JSON-RPC 2.0 over HTTP, as application/json",
			test: func(t *testing.T, c caller) {
				for _, request := range []string{rpcRequest(listTasks, `{}`), rpcRequest("Nothing", `{}`), `{`} {
					a := c.postTo(t, c.address[jsonrpc], request) // reads it as JSON-RPC 2.0
					if a.status != http.StatusOK || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
						t.Errorf("%s: %d %v", request, a.status, a.header)
					}
				}
			},
		},
		{
			id: "RPC-2", section: "9.1", level: must, what: "methods have the names of gRPC, and not those of 0.3",
			test: func(t *testing.T, c caller) {
				for _, name := range []string{"message/send", "message/stream", "tasks/get", "sendMessage", "sendmessage", "Tasks/Get", "A2AService/GetTask"} {
					c.wants(t, rpcRequest(name, `{}`), -32601, rpcID)
				}
			},
		},
		{
			id: "RPC-3", section: "9.1", level: must, what: "streams are Server-Sent Events, as text/event-stream",
			test: func(t *testing.T, c caller) {
				s, a := c.open(t, streamMessage, message(t, "tck-stream"))
				if s == nil || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") || a.status != http.StatusOK {
					t.Fatalf("%+v", a)
				}
				s.all(t)
			},
		},
		{
			id: "RPC-4", section: "9.2", level: must, what: "service parameters are HTTP headers, whose names have no case",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Version", "").with("a2a-version", "1.0").completed(t)
				f := c.with("A2A-Version", "").wants(t, strings.Replace(rpcRequest(listTasks, `{}`), `{`, `{"A2A-Version":"1.0",`, 1), -32009, rpcID)
				if f.reason() != "VERSION_NOT_SUPPORTED" {
					t.Errorf("%+v", f)
				}
			},
		},
		{
			id: "RPC-5", section: "9.2", level: should, what: "several values of a parameter stand in one header, with commas",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Extensions", "https://example.com/a/v1,https://example.com/b/v1 , https://example.com/c/v1").completed(t)
			},
		},
		{
			id: "RPC-6", section: "9.3", level: must, what: "what is no request of JSON-RPC 2.0 is refused as that",
			test: func(t *testing.T, c caller) {
				for body, id := range map[string]string{
					`{"id":1,"method":"ListTasks"}`: "1", `{"jsonrpc":"1.0","id":1,"method":"ListTasks"}`: "1", `{"jsonrpc":"2.0","id":"x"}`: `"x"`,
					`{"jsonrpc":"2.0","id":{},"method":"ListTasks"}`: "null", `{"jsonrpc":"2.0","id":true,"method":"ListTasks"}`: "null", `{"jsonrpc":"2.0","method":"ListTasks"}`: "null",
					`[]`: "null", `[{"jsonrpc":"2.0","id":1,"method":"ListTasks"}]`: "null", `"ListTasks"`: "null", `1`: "null", `null`: "null",
					`{"jsonrpc":"2.0","id":1,"method":7}`: "null",
				} {
					c.wants(t, body, -32600, id)
				}
			},
		},
		{
			id: "RPC-7", section: "9.3", level: must, what: "the answer has the request's id, whatever string or number it is",
			test: func(t *testing.T, c caller) {
				for _, id := range []string{`"a"`, `""`, `0`, `-7`, `1234567890123456789`, `1.5`, `"\u00e4"`, `null`} {
					request := strings.Replace(rpcRequest(listTasks, `{}`), rpcID, id, 1)
					resp := c.http(t.Context(), t, http.MethodPost, c.address[jsonrpc], request, "")
					a := answer{status: resp.StatusCode, body: whole(t, resp)}
					_ = resp.Body.Close()
					if in := a.readRPC(t, a.body); string(in.ID) != id && (id != `"\u00e4"` || string(in.ID) != `"ä"`) {
						t.Errorf("id %s comes back as %s", id, in.ID)
					}
				}
			},
		},
	}
}

func rpcMethods() []requirement {
	return []requirement{
		{
			id: "RPC-8", section: "9.4.1", level: must, what: "the result of SendMessage has one field: task, or message",
			test: func(t *testing.T, c caller) {
				if task := plainJSON(t, c.ask(t, sendMessage, message(t, "tck-complete-task")).result); len(task) != 1 || task["task"] == nil {
					t.Errorf("it is %v", task)
				}
				if lone := plainJSON(t, c.at(c.world.open).ask(t, sendMessage, message(t, "tck-message-response")).result); len(lone) != 1 || lone["message"] == nil {
					t.Errorf("it is %v", lone)
				}
			},
		},
		{
			id: "RPC-9", section: "9.4.2", level: must, what: "each event of a stream is an answer to the request, with its id and one StreamResponse",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "tck-stream")).all(t) // reads them as that
				if len(events) < 2 || events[0].GetTask() == nil {
					t.Errorf("they are %v", events)
				}
			},
		},
		{
			id: "RPC-10", section: "9.4.6", level: must, what: "SubscribeToTask answers as SendStreamingMessage does; of a task that is over by UnsupportedOperation, as JSON",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				s := c.stream(t, subscribeTask, text(t, object{"id": task.GetId()}))
				if first := s.next(t); first.GetTask().GetId() != task.GetId() {
					t.Errorf("it begins with %v", first)
				}
				s.close()
				for _, over := range c.terminal(t) {
					a := c.try(t, subscribeTask, text(t, object{"id": over.GetId()}))
					c.checkFault(t, a, "UNSUPPORTED_OPERATION")
					if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
						t.Errorf("%v", a.header)
					}
				}
			},
		},
		{
			id: "RPC-11", section: "9.4.8", level: must, what: "GetExtendedAgentCard needs no params",
			test: func(t *testing.T, c caller) {
				a := c.postTo(t, c.address[jsonrpc], `{"jsonrpc":"2.0","id":6,"method":"GetExtendedAgentCard"}`)
				if a.fault != nil {
					t.Fatalf("%+v", a.fault)
				}
				strictly(t, a.result, &pb.AgentCard{})
			},
		},
	}
}

func rpcErrors() []requirement {
	return []requirement{
		{
			id: "RPC-12", section: "9.5", level: must, what: "an error has code, message, and data: a list of objects",
			test: func(t *testing.T, c caller) {
				f := c.refused(t, getTask, text(t, object{"id": "nothing"}), "TASK_NOT_FOUND") // reads it so
				if len(f.details) == 0 {
					t.Errorf("%+v", f)
				}
			},
		},
		{
			id: "RPC-13", section: "9.5", level: must, what: "what is no JSON is -32700",
			test: func(t *testing.T, c caller) {
				for _, body := range []string{`{`, `{"jsonrpc":"2.0",}`, `GetTask`, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\x01\"}", `{}{}`} {
					c.wants(t, body, -32700, "null")
				}
			},
		},
		{
			id: "RPC-14", section: "9.5", level: must, what: "what is no request is -32600",
			test: func(t *testing.T, c caller) { c.wants(t, `{"id":1}`, -32600, "1") },
		},
		{
			id: "RPC-15", section: "9.5", level: must, what: "a method that there is none of is -32601",
			test: func(t *testing.T, c caller) { c.wants(t, rpcRequest("Nothing", `{}`), -32601, rpcID) },
		},
		{
			id: "RPC-16", section: "9.5", level: must, what: "params that are wrong are -32602",
			test: func(t *testing.T, c caller) {
				for _, params := range []string{`[]`, `"x"`, `{"id": 5}`, `{"id": "x", "historyLength": "many"}`, `{}`} {
					c.wants(t, rpcRequest(getTask, params), -32602, rpcID)
				}
				c.wants(t, rpcRequest(sendMessage, `{"message": []}`), -32602, rpcID)
				c.wants(t, rpcRequest(streamMessage, `{"message": {"parts": {}}}`), -32602, rpcID)
			},
		},
		{
			id: "RPC-17", section: "9.5", level: must, what: "a failure of the agent is -32603, and says nothing of its inside",
			elsewhere: "internal/a2a: TestStrangersStayInside",
		},
		{
			id: "RPC-18", section: "9.5", level: must, what: "the errors of A2A have codes from -32001 to -32099",
			test: func(t *testing.T, c caller) {
				for _, f := range []*fault{
					c.refused(t, getTask, text(t, object{"id": "nothing"}), "TASK_NOT_FOUND"),
					c.refused(t, cancelTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_CANCELABLE"),
					c.at(c.world.plain).refused(t, streamMessage, message(t, "x"), "UNSUPPORTED_OPERATION"),
				} {
					if f.rpc > -32001 || f.rpc < -32099 {
						t.Errorf("%+v", f)
					}
				}
			},
		},
		{
			id: "RPC-19", section: "9.5", level: must, what: "each object of data has its @type",
			test: func(t *testing.T, c caller) {
				for _, f := range []*fault{c.wants(t, `{`, -32700, "null"), c.wants(t, rpcRequest(sendMessage, `{}`), -32602, rpcID), c.wants(t, rpcRequest(getTask, `{"id":"x"}`), -32001, rpcID)} {
					for _, d := range f.details {
						if s, _ := d["@type"].(string); !strings.HasPrefix(s, "type.googleapis.com/google.rpc.") {
							t.Errorf("%v", d)
						}
					}
				}
			},
		},
		{
			id: "RPC-20", section: "9.5", level: should, what: "data has an ErrorInfo, and a BadRequest with the fields that are wrong",
			test: func(t *testing.T, c caller) {
				f := c.wants(t, rpcRequest(sendMessage, message(t, "x", "message.parts", []any{})), -32602, rpcID)
				if f.detail("ErrorInfo") == nil || !strings.Contains(text(t, f.detail("BadRequest")), `"message.parts"`) {
					t.Errorf("%+v", f)
				}
			},
		},
		{
			id: "RPC-21", section: "9.5", level: may, what: "data may have further objects: an ErrorInfo and a BadRequest come together",
			test: func(t *testing.T, c caller) {
				if f := c.wants(t, rpcRequest(sendMessage, `{}`), -32602, rpcID); len(f.details) != 2 {
					t.Errorf("%+v", f)
				}
			},
		},
	}
}
