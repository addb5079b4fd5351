package a2adoor_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

// ask makes a request with headers of its own and gives status and body.
func ask(t *testing.T, method, url, body string, header ...string) (plain, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, resp)
}

// plain is what of an answer isn't its body.
type plain struct {
	Status     string
	StatusCode int
	Header     http.Header
}

func read(t *testing.T, resp *http.Response) (plain, string) {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if cerr := resp.Body.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return plain{Status: resp.Status, StatusCode: resp.StatusCode, Header: resp.Header}, string(b)
}

const hello = `{"message":{"messageId":"m","role":"ROLE_USER","parts":[{"text":"hi"}]}}`

func TestVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn, err := grpc.NewClient(strings.TrimPrefix(r.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	for version, ok := range map[string]bool{"1.0": true, "1.0.1": true, "1.0.23": true, "": false, "0.3": false, "1.1": false, "2.0": false, "99.0": false, "1": false, "1.0.x": false, "v1.0": false} {
		_, rpc := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":`+hello+`}`, "Content-Type", "application/json", "A2A-Version", version)
		resp, rest := ask(t, http.MethodPost, r.URL+"/a2a/v1/message:send", hello, "Content-Type", "application/json", "A2A-Version", version)
		_, err := pb.NewA2AServiceClient(conn).SendMessage(metadata.AppendToOutgoingContext(t.Context(), "a2a-version", version), say("m"))
		if ok {
			if !strings.Contains(rpc, `"result"`) || resp.StatusCode != http.StatusOK || err != nil {
				t.Errorf("%q: %s, %s, %v", version, rpc, rest, err)
			}
			continue
		}
		if !strings.Contains(rpc, `"code":-32009`) || !strings.Contains(rpc, "VERSION_NOT_SUPPORTED") || resp.StatusCode != http.StatusBadRequest || !strings.Contains(rest, "VERSION_NOT_SUPPORTED") {
			t.Errorf("%q: %s, %d %s", version, rpc, resp.StatusCode, rest)
		}
		failsWith(t, grpcFault(t, err), "VERSION_NOT_SUPPORTED")
	}
	if _, body := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks?A2A-Version=1.0", ""); !strings.Contains(body, `"tasks":[`) {
		t.Errorf("a version in the query: %s", body)
	}
}

func TestJSONRPCEnvelope(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, c := range map[string]struct {
		body string
		code int
		id   string
	}{
		"no JSON":           {`{"jsonrpc":`, -32700, "null"},
		"nothing":           {``, -32700, "null"},
		"a batch":           {`[{"jsonrpc":"2.0","id":1,"method":"GetTask"}]`, -32600, "null"},
		"a word":            {`"GetTask"`, -32600, "null"},
		"no version":        {`{"id":1,"method":"GetTask"}`, -32600, "1"},
		"version 1":         {`{"jsonrpc":"1.0","id":1,"method":"GetTask"}`, -32600, "1"},
		"no method":         {`{"jsonrpc":"2.0","id":"a"}`, -32600, `"a"`},
		"an object for id":  {`{"jsonrpc":"2.0","id":{},"method":"GetTask"}`, -32600, "null"},
		"no id":             {`{"jsonrpc":"2.0","method":"GetTask"}`, -32600, "null"},
		"a number as id":    {`{"jsonrpc":"2.0","id":-7,"method":"GetTask","params":{"id":"x"}}`, -32001, "-7"},
		"null as id":        {`{"jsonrpc":"2.0","id":null,"method":"GetTask","params":{"id":"x"}}`, -32001, "null"},
		"unknown method":    {`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{}}`, -32601, "1"},
		"params as list":    {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":["x"]}`, -32602, "1"},
		"params of a kind":  {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":5}}`, -32602, "1"},
		"no params":         {`{"jsonrpc":"2.0","id":1,"method":"SendMessage"}`, -32602, "1"},
		"empty params":      {`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{}}`, -32602, "1"},
		"bad stream":        {`{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage","params":{}}`, -32602, "1"},
		"bad stream params": {`{"jsonrpc":"2.0","id":1,"method":"SendStreamingMessage","params":{"message":7}}`, -32602, "1"},
		"a long id":         {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1023) + `","method":"GetTask","params":{"id":"x"}}`, -32600, "null"},
		"the longest id":    {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1022) + `","method":"GetTask","params":{"id":"x"}}`, -32001, `"` + strings.Repeat("x", 1022) + `"`},
		"a long number":     {`{"jsonrpc":"2.0","id":` + strings.Repeat("1", 1025) + `,"method":"GetTask","params":{"id":"x"}}`, -32600, "null"},
		"two ids":           {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"},"id":2}`, -32600, "null"},
		"two ids by case":   {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"},"ID":2}`, -32600, "null"},
		"two methods":       {`{"jsonrpc":"2.0","id":1,"method":"GetTask","method":"CancelTask","params":{"id":"x"}}`, -32600, "1"},
		"two params":        {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x"},"params":{"id":"y"}}`, -32600, "1"},
		"twice in params":   {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x","id":"y"}}`, -32602, "1"},
		"unknown fields":    {`{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"id":"x","later":1},"more":true}`, -32001, "1"},
		"unknown role":      {`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"message":{"messageId":"m","role":"user","parts":[{"text":"x"}]}}}`, -32602, "1"},
		"deep":              {`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":{"metadata":` + strings.Repeat(`{"a":`, 500) + `1` + strings.Repeat(`}`, 500) + `}}`, -32602, "1"},
	} {
		resp, body := ask(t, http.MethodPost, r.URL+"/a2a/", c.body, "Content-Type", "application/json", "A2A-Version", "1.0")
		var a struct {
			JSONRPC string
			ID      json.RawMessage
			Error   struct {
				Code    int
				Message string
				Data    []map[string]any
			}
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil {
			t.Errorf("%s: %s", name, body)
			continue
		}
		if a.JSONRPC != "2.0" || a.Error.Code != c.code || string(a.ID) != c.id || a.Error.Message == "" || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		detailed(t, name, a.Error.Data)
	}
	if resp, _ := ask(t, http.MethodGet, r.URL+"/a2a", ""); resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %s", resp.Status)
	}
	if resp, body := ask(t, http.MethodPost, r.URL+"/a2a", "hi", "Content-Type", "text/plain", "A2A-Version", "1.0"); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "-32005") {
		t.Errorf("text/plain: %s %s", resp.Status, body)
	}
	if resp, body := ask(t, http.MethodPost, r.URL+"/a2a", strings.Repeat(" ", 5<<20), "Content-Type", "application/json", "A2A-Version", "1.0"); resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(body, "REQUEST_TOO_LARGE") {
		t.Errorf("5 MiB: %s %s", resp.Status, body)
	}
}

func TestRESTPaths(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	base := r.URL + "/a2a/v1"
	v := []string{"A2A-Version", "1.0", "Content-Type", "application/a2a+json"}
	task := &pb.SendMessageResponse{}
	_, body := ask(t, http.MethodPost, base+"/acme/message:send", strings.Replace(hello, `"m"`, `"ask-1"`, 1), v...)
	mustParse(t, []byte(body), task)
	id := task.GetTask().GetId()
	for name, c := range map[string]struct {
		method, path string
		status       int
		says         string
	}{
		"its tenant":            {"GET", "/acme/tasks/" + id, 200, id},
		"no tenant":             {"GET", "/tasks/" + id, 404, "TASK_NOT_FOUND"},
		"another tenant":        {"GET", "/other/tasks/" + id, 404, "TASK_NOT_FOUND"},
		"the tenant's list":     {"GET", "/acme/tasks", 200, id},
		"another list":          {"GET", "/other/tasks", 200, `"tasks":[]`},
		"a proto's name":        {"GET", "/acme/tasks/" + id + "?history_length=0", 200, id},
		"a wrong number":        {"GET", "/acme/tasks/" + id + "?historyLength=x", 400, "INVALID_PARAMS"},
		"a wrong state":         {"GET", "/acme/tasks?status=running", 400, "INVALID_PARAMS"},
		"a wrong time":          {"GET", "/acme/tasks?statusTimestampAfter=yesterday", 400, "INVALID_PARAMS"},
		"a wrong flag":          {"GET", "/acme/tasks?includeArtifacts=maybe", 400, "INVALID_PARAMS"},
		"a time":                {"GET", "/acme/tasks?statusTimestampAfter=2999-01-01T00:00:00Z", 200, `"tasks":[]`},
		"subscribe by GET":      {"GET", "/tasks/nobodys:subscribe", 404, "TASK_NOT_FOUND"},
		"subscribe by POST":     {"POST", "/tasks/nobodys:subscribe", 404, "TASK_NOT_FOUND"},
		"cancel by GET":         {"GET", "/tasks/nobodys:cancel", 405, "METHOD_NOT_ALLOWED"},
		"send by GET":           {"GET", "/message:send", 405, "METHOD_NOT_ALLOWED"},
		"nothing":               {"GET", "/nothing", 404, "METHOD_NOT_FOUND"},
		"too deep":              {"GET", "/a/b/tasks", 404, "METHOD_NOT_FOUND"},
		"an escaped id":         {"GET", "/tasks/a%2Fb", 404, "TASK_NOT_FOUND"},
		"the card":              {"GET", "/extendedAgentCard", 400, "UNSUPPORTED_OPERATION"},
		"the tenant's card":     {"GET", "/acme/extendedAgentCard", 400, "UNSUPPORTED_OPERATION"},
		"a tenant called tasks": {"GET", "/tasks/tasks/nobodys", 404, ""},
		"configs":               {"GET", "/acme/tasks/" + id + "/pushNotificationConfigs", 200, `"configs":[]`},
		"cancel":                {"POST", "/acme/tasks/" + id + ":cancel", 200, "TASK_STATE_CANCELED"},
	} {
		if name == "cancel" {
			continue
		}
		resp, body := ask(t, c.method, base+c.path, "", v...)
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
	if resp, body := ask(t, http.MethodPost, base+"/acme/tasks/"+id+":cancel", "", v...); resp.StatusCode != http.StatusOK || !strings.Contains(body, "TASK_STATE_CANCELED") {
		t.Errorf("cancel: %s", body)
	}
	if resp, body := ask(t, http.MethodPost, base+"/message:send", hello, "A2A-Version", "1.0", "Content-Type", "text/plain"); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "CONTENT_TYPE_NOT_SUPPORTED") {
		t.Errorf("text/plain: %d %s", resp.StatusCode, body)
	}
	if resp, body := ask(t, http.MethodPost, base+"/message:send", "{", v...); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "PARSE_ERROR") {
		t.Errorf("no JSON: %d %s", resp.StatusCode, body)
	}
	if resp, body := ask(t, http.MethodPost, base+"/message:send", strings.NewReplacer("messageId", "message_id").Replace(hello), v...); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"contextId"`) {
		t.Errorf("a proto's names: %d %s", resp.StatusCode, body)
	}
}

// The JSON has what the protocol requires even where it is at its default, and times with milliseconds.
func TestJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	v := []string{"A2A-Version", "1.0", "Content-Type", "application/json"}
	_, empty := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks", "", v...)
	if empty != `{"nextPageToken":"","pageSize":50,"tasks":[],"totalSize":0}` {
		t.Errorf("an empty list is %s", empty)
	}
	ask(t, http.MethodPost, r.URL+"/a2a/v1/message:send", hello, v...)
	_, one := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks?historyLength=0", "", v...)
	if strings.Contains(one, "artifacts") || strings.Contains(one, "history") || !regexp.MustCompile(`"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"`).MatchString(one) {
		t.Errorf("a list is %s", one)
	}
}

func TestRequiredExtensions(t *testing.T) {
	t.Parallel()
	const uri = "https://example.com/ext/v1"
	r := newRig(t, func(_ *run.Runtime, cfg *a2adoor.Config) {
		cfg.Extensions = []a2adoor.Extension{{URI: uri, Required: true}}
	})
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		failsWith(t, c.call(t, "SendMessage", say("x"), &pb.SendMessageResponse{}), "EXTENSION_SUPPORT_REQUIRED")
	})
	resp, body := ask(t, http.MethodPost, r.URL+"/a2a/v1/message:send", hello, "A2A-Version", "1.0", "A2A-Extensions", "https://example.com/other, "+uri)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("A2A-Extensions") != uri {
		t.Errorf("with the extension: %s %s", resp.Header, body)
	}
}

// Whatever B asks about A's task is answered as if it were nobody's.
func TestCallersAreApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("a", "b") })
	mine := r.bindings(t, "key-of-a")
	for name, theirs := range r.bindings(t, "key-of-b") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			task := sent(t, mine[name], say("ask-1", func(r *pb.SendMessageRequest) { r.Message.ContextId = "shared-" + name }))
			config := &pb.TaskPushNotificationConfig{TaskId: task.GetId(), Id: "p", Url: "https://example.com/hook"}
			if f := mine[name].call(t, "CreateTaskPushNotificationConfig", config, &pb.TaskPushNotificationConfig{}); f != nil {
				t.Fatal(f)
			}
			requests := func(id string) map[string]proto.Message {
				return map[string]proto.Message{
					"GetTask": &pb.GetTaskRequest{Id: id}, "CancelTask": &pb.CancelTaskRequest{Id: id},
					"SendMessage":                      say("m", at(id)),
					"SendMessage in its context":       say("m", at(id), func(r *pb.SendMessageRequest) { r.Message.ContextId = "shared-" + name }),
					"CreateTaskPushNotificationConfig": &pb.TaskPushNotificationConfig{TaskId: id, Url: "http://127.0.0.1"},
					"GetTaskPushNotificationConfig":    &pb.GetTaskPushNotificationConfigRequest{TaskId: id, Id: "p"},
					"ListTaskPushNotificationConfigs":  &pb.ListTaskPushNotificationConfigsRequest{TaskId: id},
					"DeleteTaskPushNotificationConfig": &pb.DeleteTaskPushNotificationConfigRequest{TaskId: id, Id: "p"},
				}
			}
			none := requests("no-such-task-0123456789")
			for op, req := range requests(task.GetId()) {
				name, _, _ := strings.Cut(op, " ")
				got, want := theirs.call(t, name, req, &pb.ListTasksResponse{}), theirs.call(t, name, none[op], &pb.ListTasksResponse{})
				if diff := cmp.Diff(want, got); diff != "" || got == nil || got.Reason != "TASK_NOT_FOUND" {
					t.Errorf("%s: %s %+v", op, diff, got)
				}
			}
			for _, id := range []string{task.GetId(), "no-such-task"} {
				failsWith(t, theirs.stream(t.Context(), t, "SubscribeToTask", &pb.SubscribeToTaskRequest{Id: id}, func(*pb.StreamResponse) bool { return false }), "TASK_NOT_FOUND")
			}
			list := &pb.ListTasksResponse{}
			if f := theirs.call(t, "ListTasks", &pb.ListTasksRequest{ContextId: "shared-" + name}, list); f != nil || list.GetTotalSize() != 0 {
				t.Errorf("B lists %v (%v)", list, f)
			}
			if got := state(t, mine[name], task.GetId()); got != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
				t.Errorf("A's task is %v", got)
			}
		})
	}
}

// Bytes: what HTTP bindings answer about another's task is the same but for the ID.
func TestAnswersAboutOthersTasksAreByteEqual(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("a", "b") })
	task := sent(t, r.bindings(t, "key-of-a")["JSONRPC"], say("ask-1"))
	answers := map[string][]string{}
	for _, id := range []string{task.GetId(), "00000000-0000-4000-8000-000000000000"} {
		for _, p := range []string{"GET /tasks/ID", "POST /tasks/ID:cancel", "GET /tasks/ID:subscribe", "GET /tasks/ID/pushNotificationConfigs", "GET /tasks/ID/pushNotificationConfigs/x", "DELETE /tasks/ID/pushNotificationConfigs/x"} {
			method, path, _ := strings.Cut(p, " ")
			resp, body := ask(t, method, r.URL+"/a2a/v1"+strings.Replace(path, "ID", id, 1), "", "A2A-Version", "1.0", "Authorization", "Bearer key-of-b")
			header := resp.Header.Clone()
			header.Del("Date")
			keys := slices.Sorted(maps.Keys(header))
			answers[p] = append(answers[p], fmt.Sprint(resp.StatusCode, keys, strings.ReplaceAll(body, id, "ID")))
		}
	}
	for p, a := range answers {
		if a[0] != a[1] {
			t.Errorf("%s: %s\nand %s", p, a[0], a[1])
		}
	}
}

func TestWithoutAKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("a") })
	for name, key := range map[string]string{"none": "", "a wrong one": "nope"} {
		for binding, c := range r.bindings(t, key) {
			if binding == "GRPC" {
				g, ok := c.(grpcClient)
				if !ok {
					t.Fatal("no gRPC client")
				}
				_, err := g.svc.GetTask(g.outgoing(t.Context()), &pb.GetTaskRequest{Id: "x"})
				if err == nil || !strings.Contains(err.Error(), "Unauthenticated") {
					t.Errorf("%s: gRPC: %v", name, err)
				}
				continue
			}
			failsWith(t, c.call(t, "GetTask", &pb.GetTaskRequest{Id: "x"}, &pb.Task{}), "UNAUTHENTICATED")
		}
	}
	resp, _ := ask(t, http.MethodPost, r.URL+"/a2a", "{}")
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
}
