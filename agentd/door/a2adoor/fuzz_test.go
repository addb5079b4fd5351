package a2adoor_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

// fuzzed is a rig that speaks 0.3, too. Its door is asked without a server: that would recover from a panic.
func fuzzed(f *testing.F) *rig {
	f.Helper()
	return newRig(f, func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.V03 = true })
}

func version(legacy bool) string {
	if legacy {
		return "0.3"
	}
	return "1.0"
}

// hello03 is a message of 0.3.
const hello03 = `{"message":{"kind":"message","messageId":"m","role":"user","parts":[{"kind":"text","text":"hi"},{"kind":"data","data":{"a":1}},{"kind":"file","file":{"bytes":"aGk="}}]}}`

// answered asks the door directly and holds its answer against what every answer is.
func answered(t *testing.T, r *rig, req *http.Request) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w := httptest.NewRecorder()
	r.door.ServeHTTP(w, req.WithContext(ctx))
	if w.Code == http.StatusInternalServerError {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		return
	}
	if w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) || w.Body.Len() == 0 && w.Code != http.StatusNoContent {
		t.Errorf("no JSON: %d %s", w.Code, w.Body)
	}
}

func FuzzJSONRPC(f *testing.F) {
	r := fuzzed(f)
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":` + hello + `}`, `{"jsonrpc":"2.0","id":"a","method":"SendStreamingMessage","params":` + hello + `}`,
		`{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":3,"status":"TASK_STATE_WORKING","statusTimestampAfter":"2025-01-01T00:00:00Z"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"CreateTaskPushNotificationConfig","params":{"taskId":"x","url":"http://127.0.0.1"}}`, `[]`, `{"id":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"SubscribeToTask","params":{"id":"x"}}`, `{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"history_length":-1,"id":"x"}}`,
	} {
		f.Add(false, s)
	}
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"message/send","params":` + hello03 + `}`, `{"jsonrpc":"2.0","id":"a","method":"message/stream","params":` + hello03 + `}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"id":"x","historyLength":-1}}`, `{"jsonrpc":"2.0","id":1,"method":"tasks/resubscribe","params":{"id":"x"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tasks/pushNotificationConfig/set","params":{"taskId":"x","pushNotificationConfig":{"url":"x"}}}`,
	} {
		f.Add(true, s)
	}
	f.Fuzz(func(t *testing.T, legacy bool, body string) {
		req := httptest.NewRequest(http.MethodPost, "/a2a", strings.NewReader(body))
		req.Header.Set("A2A-Version", version(legacy))
		answered(t, r, req)
	})
}

func FuzzREST(f *testing.F) {
	r := fuzzed(f)
	for _, s := range [][3]string{
		{"POST", "message:send", hello},
		{"POST", "t/message:stream", hello},
		{"GET", "tasks?pageSize=3&pageToken=AAAA", ""},
		{"GET", "tasks/x?historyLength=2", ""},
		{"POST", "tasks/x:cancel", "{}"},
		{"GET", "tasks/x:subscribe", ""},
		{"POST", "tasks/x/pushNotificationConfigs", `{"url":"x"}`},
		{"DELETE", "a/tasks/x/pushNotificationConfigs/y", ""},
		{"GET", "extendedAgentCard", ""},
		{"GET", "%2F/%zz", ""},
	} {
		f.Add(false, s[0], s[1], s[2])
	}
	for _, s := range [][3]string{
		{"POST", "message:send", `{"message":{"messageId":"m","role":"ROLE_USER","content":[{"text":"hi"}]}}`},
		{"POST", "message:stream", `{"message":{"messageId":"m","role":"ROLE_USER","content":[{"data":{"data":{"a":1}}}]}}`},
		{"GET", "card", ""},
		{"POST", "tasks/x/pushNotificationConfigs", `{"config":{"pushNotificationConfig":{"url":"x"}}}`},
		{"DELETE", "tasks/x/pushNotificationConfigs/y", ""},
	} {
		f.Add(true, s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, legacy bool, method, path, body string) {
		u, err := url.Parse("/a2a/v1/" + path)
		if err != nil || u.Host != "" || u.Scheme != "" {
			return
		}
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		req.Method, req.URL = method, u
		req.Header.Set("A2A-Version", version(legacy))
		answered(t, r, req)
	})
}

// frame puts a message behind its length, as gRPC does.
func frame(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...), nil // #nosec G115 -- a seed
}

// FuzzGRPC puts what comes in a request's body to the door as it is: the frames, their flags and lengths too.
func FuzzGRPC(f *testing.F) {
	r := fuzzed(f)
	for method, m := range map[string]proto.Message{
		"SendMessage": say("hello"), "SendStreamingMessage": say("m", at("x")), "ListTasks": &pb.ListTasksRequest{PageToken: "AAAA"},
		"SubscribeToTask": &pb.SubscribeToTaskRequest{Id: "x"}, "CreateTaskPushNotificationConfig": &pb.TaskPushNotificationConfig{TaskId: "x", Url: "http://127.0.0.1"},
	} {
		b, err := frame(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(false, method, b)
		f.Add(false, method, b[:len(b)-1])
		f.Add(false, method, append([]byte{1}, b[1:]...)) // it says that it is compressed
	}
	for method, m := range map[string]proto.Message{
		"SendMessage": &old.SendMessageRequest{Request: &old.Message{MessageId: "m", Role: old.Role_ROLE_USER, Parts: []*old.Part{{Part: &old.Part_Text{Text: "hi"}}}}},
		"GetTask":     &old.GetTaskRequest{Name: "tasks/x"}, "TaskSubscription": &old.TaskSubscriptionRequest{Name: "tasks/x"},
	} {
		b, err := frame(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(true, method, b)
	}
	f.Add(false, "GetTask", []byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, legacy bool, method string, body []byte) {
		service := pb.A2AService_ServiceDesc.ServiceName
		if legacy {
			service = old.A2AService_ServiceDesc.ServiceName
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req := &http.Request{
			Method: http.MethodPost, URL: &url.URL{Path: "/" + service + "/" + method}, Host: "localhost", Proto: "HTTP/2.0", ProtoMajor: 2,
			Header: http.Header{"Content-Type": {"application/grpc"}, "A2a-Version": {version(legacy)}, "Te": {"trailers"}}, Body: io.NopCloser(bytes.NewReader(body)),
		}
		w := httptest.NewRecorder()
		r.door.ServeHTTP(w, req.WithContext(ctx))
		told := w.Result()
		_ = told.Body.Close()
		code, message := told.Trailer.Get("Grpc-Status"), told.Trailer.Get("Grpc-Message")
		if code == "" {
			code, message = told.Header.Get("Grpc-Status"), told.Header.Get("Grpc-Message")
		}
		if code == "" || strings.Contains(message, "failed internally") {
			t.Errorf("%d, status %q %s", told.StatusCode, code, message)
		}
	})
}
