package a2a

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// overREST is section 11.
func overREST() []requirement {
	rows := slices.Concat(restProtocol(), restQueries(), restErrors(), restStreams())
	for i := range rows {
		if rows[i].test != nil {
			rows[i].on, rows[i].without = []binding{rest}, "of HTTP+JSON"
		}
	}
	return rows
}

// to asks for a path below the binding's address.
func (c caller) to(t *testing.T, method, path, body string) answer {
	t.Helper()
	return c.fetch(t.Context(), t, method, c.address[rest]+path, body)
}

func restProtocol() []requirement {
	return []requirement{
		{
			id: "REST-1", section: "11.1", level: should, what: "answers are application/a2a+json, errors too",
			test: func(t *testing.T, c caller) {
				for _, a := range []answer{c.to(t, http.MethodGet, "/tasks", ""), c.to(t, http.MethodGet, "/tasks/nothing", ""), c.to(t, http.MethodGet, "/nothing", "")} {
					if !strings.HasPrefix(a.header.Get("Content-Type"), "application/a2a+json") {
						t.Errorf("%d %v", a.status, a.header)
					}
				}
			},
		},
		{
			id: "REST-2", section: "11.1", level: should, what: "requests may be application/a2a+json or application/json, and are refused as anything else",
			test: func(t *testing.T, c caller) {
				for media, ok := range map[string]bool{"application/a2a+json": true, "application/json": true, "application/a2a+json; charset=utf-8": true, "text/plain": false, "application/xml": false} {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.address[rest]+"/message:send", strings.NewReader(message(t, "tck-complete-task")))
					if err != nil {
						t.Fatal(err)
					}
					for name, value := range c.header {
						req.Header.Set(name, value)
					}
					req.Header.Set("Content-Type", media)
					resp, err := c.client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body := whole(t, resp)
					_ = resp.Body.Close()
					if ok != (resp.StatusCode == http.StatusOK) || !ok && !strings.Contains(string(body), "CONTENT_TYPE_NOT_SUPPORTED") {
						t.Errorf("%s: %d %s", media, resp.StatusCode, body)
					}
				}
			},
		},
		{
			id: "REST-3", section: "11.1", level: must, what: "methods of HTTP are GET, POST and DELETE, each where it belongs; others are refused with Allow",
			test: func(t *testing.T, c caller) {
				for path, allowed := range map[string]string{
					"/message:send": "POST", "/message:stream": "POST", "/tasks": "GET", "/tasks/x": "GET", "/tasks/x:cancel": "POST", "/tasks/x:subscribe": "POST, GET",
					"/tasks/x/pushNotificationConfigs": "POST, GET", "/tasks/x/pushNotificationConfigs/y": "GET, DELETE", "/extendedAgentCard": "GET",
				} {
					for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
						if strings.Contains(allowed, method) {
							continue
						}
						if a := c.to(t, method, path, ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != allowed {
							t.Errorf("%s %s: %d, Allow: %s", method, path, a.status, a.header.Get("Allow"))
						}
					}
				}
			},
		},
		{
			id: "REST-4", section: "11.2", level: must, what: "service parameters are HTTP headers, whose names have no case",
			test: func(t *testing.T, c caller) { c.with("A2A-Version", "").with("a2a-version", "1.0").completed(t) },
		},
		{
			id: "REST-5", section: "11.2", level: should, what: "several values of a parameter stand in one header, with commas",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Extensions", "https://example.com/a/v1, https://example.com/b/v1").completed(t)
			},
		},
		{
			id: "REST-6", section: "11.3", level: must, what: "each operation has its path and method; a subscription may be a POST or a GET",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				for _, one := range []struct{ method, path, body string }{
					{http.MethodPost, "/message:send", message(t, "tck-complete-task")},
					{http.MethodGet, "/tasks/" + task, ""},
					{http.MethodGet, "/tasks", ""},
					{http.MethodPost, "/tasks/" + task + "/pushNotificationConfigs", `{"id": "c", "url": "https://example.com/hook"}`},
					{http.MethodGet, "/tasks/" + task + "/pushNotificationConfigs/c", ""},
					{http.MethodGet, "/tasks/" + task + "/pushNotificationConfigs", ""},
					{http.MethodDelete, "/tasks/" + task + "/pushNotificationConfigs/c", ""},
					{http.MethodGet, "/extendedAgentCard", ""},
				} {
					if a := c.to(t, one.method, one.path, one.body); a.fault != nil {
						t.Errorf("%s %s: %+v", one.method, one.path, a.fault)
					}
				}
				for _, method := range []string{http.MethodGet, http.MethodPost} {
					resp := c.http(t.Context(), t, method, c.address[rest]+"/tasks/"+task+":subscribe", "", "text/event-stream")
					if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
						t.Errorf("%s: %d %v", method, resp.StatusCode, resp.Header)
					}
					_ = resp.Body.Close()
				}
				if a := c.to(t, http.MethodPost, "/tasks/"+task+":cancel", ""); a.fault != nil {
					t.Errorf("cancel: %+v", a.fault)
				}
			},
		},
		{
			id: "REST-7", section: "proto", level: must, what: "each path may begin with a tenant, and a body may name it",
			test: func(t *testing.T, c caller) {
				there := c.in("tenant-" + uuid())
				task := there.completed(t)
				there.get(t, task.GetId())
				c.refused(t, getTask, text(t, object{"id": task.GetId()}), "TASK_NOT_FOUND")
				named := c.send(t, message(t, "tck-complete-task", "tenant", there.tenant))
				if have := there.list(t); have.GetTotalSize() != 2 || there.get(t, named.GetId()) == nil {
					t.Errorf("the tenant has %v", have)
				}
			},
		},
		{
			id: "REST-8", section: "11.4", level: must, what: "requests and answers are the JSON of the proto's messages",
			test: func(t *testing.T, c caller) {
				strictly(t, c.to(t, http.MethodPost, "/message:send", message(t, "tck-complete-task")).result, &pb.SendMessageResponse{})
				strictly(t, c.to(t, http.MethodGet, "/tasks", "").result, &pb.ListTasksResponse{})
				strictly(t, c.to(t, http.MethodGet, "/extendedAgentCard", "").result, &pb.AgentCard{})
			},
		},
		{
			id: "REST-9", section: "11.4", level: must, what: "a body that is no JSON, or not that of the message, is refused",
			test: func(t *testing.T, c caller) {
				c.checkFault(t, c.to(t, http.MethodPost, "/message:send", `{"message":`), "PARSE_ERROR")
				c.checkFault(t, c.to(t, http.MethodPost, "/message:send", `{"message": 5}`), "INVALID_PARAMS")
				c.checkFault(t, c.to(t, http.MethodPost, "/message:send", `[]`), "INVALID_PARAMS")
				c.checkFault(t, c.to(t, http.MethodPost, "/message:send", ``), "INVALID_PARAMS")
			},
		},
	}
}

// queries gives what a list answers to query parameters.
func (c caller) queries(t *testing.T, pairs ...string) *pb.ListTasksResponse {
	t.Helper()
	var q []string
	for i := 0; i+1 < len(pairs); i += 2 {
		q = append(q, pairs[i]+"="+url.QueryEscape(pairs[i+1]))
	}
	a := c.to(t, http.MethodGet, "/"+c.tenant+"/tasks?"+strings.Join(q, "&"), "")
	if a.fault != nil {
		t.Fatalf("%v: %+v", pairs, a.fault)
	}
	out := &pb.ListTasksResponse{}
	strictly(t, a.result, out)
	return out
}

func restQueries() []requirement {
	return []requirement{
		{
			id: "REST-10", section: "11.5", level: must, what: "GET and DELETE take a request's fields from path and query",
			test: func(t *testing.T, c caller) {
				task := c.completed(t).GetId()
				if a := c.to(t, http.MethodGet, "/tasks/"+task+"?historyLength=0", ""); a.fault != nil || strings.Contains(string(a.result), `"history"`) {
					t.Errorf("%s %+v", a.result, a.fault)
				}
			},
		},
		{
			id: "REST-11", section: "11.5", level: must, what: "query parameters are camelCase: contextId, pageSize, pageToken, historyLength, includeArtifacts, statusTimestampAfter",
			test: func(t *testing.T, c caller) {
				c = c.in("query-" + uuid())
				first := c.completed(t)
				past(first)
				second := c.waiting(t)
				if have := c.queries(t, "contextId", first.GetContextId(), "includeArtifacts", "true", "historyLength", "0"); len(have.GetTasks()) != 1 || len(have.GetTasks()[0].GetArtifacts()) == 0 || len(have.GetTasks()[0].GetHistory()) != 0 {
					t.Errorf("%v", have)
				}
				one := c.queries(t, "pageSize", "1")
				if len(one.GetTasks()) != 1 || one.GetTasks()[0].GetId() != second.GetId() || one.GetPageSize() != 1 {
					t.Errorf("%v", one)
				}
				if two := c.queries(t, "pageSize", "1", "pageToken", one.GetNextPageToken()); len(two.GetTasks()) != 1 || two.GetTasks()[0].GetId() != first.GetId() {
					t.Errorf("%v", two)
				}
				if none := c.queries(t, "statusTimestampAfter", "2999-01-01T00:00:00Z"); len(none.GetTasks()) != 0 {
					t.Errorf("%v", none)
				}
			},
		},
		{
			id: "REST-12", section: "11.5", level: must, what: "values are plain strings, true and false, decimal numbers, names of enums, and ISO 8601 times",
			test: func(t *testing.T, c caller) {
				c = c.in("values-" + uuid())
				c.completed(t)
				c.waiting(t)
				if have := c.queries(t, "status", "TASK_STATE_INPUT_REQUIRED", "includeArtifacts", "false", "statusTimestampAfter", "2020-01-01T00:00:00.000Z"); have.GetTotalSize() != 1 {
					t.Errorf("%v", have)
				}
				for _, wrong := range []string{"pageSize=ten", "pageSize=1.5", "includeArtifacts=maybe", "status=running", "statusTimestampAfter=yesterday", "historyLength=-5", "pageSize=150"} {
					c.checkFault(t, c.to(t, http.MethodGet, "/tasks?"+wrong, ""), "INVALID_PARAMS")
				}
			},
		},
		{
			id: "REST-13", section: "11.5", level: may, what: "repeated fields come as a parameter again and again, or with commas",
			without: "does not arise: no operation by GET or DELETE has one",
		},
		{
			id: "REST-14", section: "11.5", level: must, what: "nested objects come by POST",
			test: func(t *testing.T, c caller) {
				c.send(t, message(t, "tck-complete-task", "metadata", anyJSON(), "configuration", object{"historyLength": 1}))
			},
		},
		{
			id: "REST-15", section: "11.5", level: must, what: "values are URL-encoded",
			test: func(t *testing.T, c caller) {
				c = c.in("encoded-" + uuid())
				const odd = `a b&c=d/e?f#g+h%20ä"`
				c.completed(t, "message.contextId", odd)
				c.completed(t)
				if have := c.queries(t, "contextId", odd); have.GetTotalSize() != 1 || have.GetTasks()[0].GetContextId() != odd {
					t.Errorf("%v", have)
				}
			},
		},
	}
}

func restErrors() []requirement {
	return []requirement{
		{
			id: "REST-16", section: "11.6", level: must, what: "an error is a google.rpc.Status below error: code, which is the HTTP status, status, message and details",
			test: func(t *testing.T, c caller) {
				for path, want := range map[string]string{"/tasks/nothing": "404 NOT_FOUND", "/tasks?pageSize=0": "400 INVALID_ARGUMENT", "/nothing": "404 UNIMPLEMENTED"} {
					a := c.to(t, http.MethodGet, path, "")
					if f := a.fault; f == nil || fmt.Sprint(f.http, " ", f.name) != want || a.status != f.http || f.message == "" || len(f.details) == 0 {
						t.Errorf("%s: %d %+v", path, a.status, f)
					}
				}
			},
		},
		{
			id: "REST-17", section: "11.6", level: must, what: "each object of details has its @type",
			test: func(t *testing.T, c caller) {
				for _, d := range c.to(t, http.MethodGet, "/tasks?pageSize=0", "").fault.details {
					if s, _ := d["@type"].(string); !strings.HasPrefix(s, "type.googleapis.com/google.rpc.") {
						t.Errorf("%v", d)
					}
				}
			},
		},
		{
			id: "REST-18", section: "11.6", level: must, what: "an error of A2A has an ErrorInfo, with reason and domain",
			test: func(t *testing.T, c caller) {
				c.refused(t, cancelTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_CANCELABLE") // which looks at both
				c.at(c.world.plain).refused(t, listPush, text(t, object{"taskId": "x"}), "PUSH_NOTIFICATION_NOT_SUPPORTED")
			},
		},
		{
			id: "REST-19", section: "11.6", level: should, what: "where a field is wrong a BadRequest says which",
			test: func(t *testing.T, c caller) {
				if f := c.to(t, http.MethodGet, "/tasks?pageSize=0", "").fault; !strings.Contains(text(t, f.detail("BadRequest")), `"pageSize"`) {
					t.Errorf("%+v", f)
				}
			},
		},
		{
			id: "REST-20", section: "11.6", level: may, what: "details have further objects: an ErrorInfo and a BadRequest come together",
			test: func(t *testing.T, c caller) {
				if f := c.to(t, http.MethodGet, "/tasks?pageSize=0", "").fault; len(f.details) != 2 {
					t.Errorf("%+v", f)
				}
			},
		},
	}
}

func restStreams() []requirement {
	return []requirement{
		{
			id: "REST-21", section: "11.7", level: must, what: "streams are Server-Sent Events, of one StreamResponse each",
			test: func(t *testing.T, c caller) {
				s, a := c.open(t, streamMessage, message(t, "tck-stream"))
				if s == nil || !strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
					t.Fatalf("%+v", a)
				}
				if events := s.all(t); len(events) < 2 { // reads them as that
					t.Errorf("they are %v", events)
				}
			},
		},
		{
			id: "REST-22", section: "11.7", level: must, what: "a message's stream begins with the task, or is a lone message, and is closed when the task ends or asks",
			test: func(t *testing.T, c caller) {
				for prefix, last := range map[string]pb.TaskState{"tck-complete-task": pb.TaskState_TASK_STATE_COMPLETED, "tck-input-required": pb.TaskState_TASK_STATE_INPUT_REQUIRED} {
					events := c.stream(t, streamMessage, message(t, prefix)).all(t)
					if n := len(events); n < 2 || events[0].GetTask() == nil || events[n-1].GetStatusUpdate().GetStatus().GetState() != last {
						t.Errorf("%s: %v", prefix, events)
					}
				}
				if lone := c.at(c.world.open).stream(t, streamMessage, message(t, "tck-message-response")).all(t); len(lone) != 1 || lone[0].GetMessage() == nil {
					t.Errorf("%v", lone)
				}
			},
		},
		{
			id: "REST-23", section: "11.7", level: should, what: "events are not reordered: pieces come in the order of the answer",
			test: func(t *testing.T, c caller) {
				var parts []*pb.Part
				for _, e := range c.stream(t, streamMessage, message(t, "tck-stream")).all(t) {
					parts = append(parts, e.GetArtifactUpdate().GetArtifact().GetParts()...)
				}
				if said := textOf(parts); said != "Stream hello from TCK, in several pieces" {
					t.Errorf("they say %q", said)
				}
			},
		},
		{
			id: "REST-24", section: "11.7", level: may, what: "the whole task comes again before the stream is closed",
			without: "not done: the events add up to it",
		},
	}
}
