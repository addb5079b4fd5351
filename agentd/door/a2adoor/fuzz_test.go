package a2adoor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

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
	if !json.Valid(w.Body.Bytes()) {
		t.Errorf("no JSON: %d %s", w.Code, w.Body)
	}
}

func FuzzJSONRPC(f *testing.F) {
	r := newRig(f)
	for _, s := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":` + hello + `}`, `{"jsonrpc":"2.0","id":"a","method":"SendStreamingMessage","params":` + hello + `}`,
		`{"jsonrpc":"2.0","id":1,"method":"ListTasks","params":{"pageSize":3,"status":"TASK_STATE_WORKING","statusTimestampAfter":"2025-01-01T00:00:00Z"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"CreateTaskPushNotificationConfig","params":{"taskId":"x","url":"http://127.0.0.1"}}`, `[]`, `{"id":{}}`,
		`{"jsonrpc":"2.0","id":1,"method":"SubscribeToTask","params":{"id":"x"}}`, `{"jsonrpc":"2.0","id":1,"method":"GetTask","params":{"history_length":-1,"id":"x"}}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		req := httptest.NewRequest(http.MethodPost, "/a2a", strings.NewReader(body))
		req.Header.Set("A2A-Version", "1.0")
		answered(t, r, req)
	})
}

func FuzzREST(f *testing.F) {
	r := newRig(f)
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
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, method, path, body string) {
		u, err := url.Parse("/a2a/v1/" + path)
		if err != nil || u.Host != "" || u.Scheme != "" {
			return
		}
		req := &http.Request{Method: method, URL: u, Header: http.Header{"A2a-Version": {"1.0"}}, Body: http.NoBody, Host: "localhost", Proto: "HTTP/1.1"}
		if body != "" {
			req = httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			req.Method, req.URL = method, u
			req.Header.Set("A2A-Version", "1.0")
		}
		answered(t, r, req)
	})
}

func FuzzGRPC(f *testing.F) {
	r := newRig(f)
	conn, err := grpc.NewClient(strings.TrimPrefix(r.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() })
	for _, m := range []proto.Message{say("hello"), say("m", at("x")), &pb.ListTasksRequest{PageToken: "AAAA"}} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("SendMessage", b)
		f.Add("ListTasks", b)
	}
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		if strings.ContainsAny(method, "/ \x00") || len(method) > 40 {
			return
		}
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), "a2a-version", "1.0"), 10*time.Second)
		defer cancel()
		err := conn.Invoke(ctx, "/lf.a2a.v1.A2AService/"+url.PathEscape(method), &body, new([]byte), grpc.ForceCodec(raw{}))
		if st, _ := status.FromError(err); err != nil && strings.Contains(st.Message(), "failed internally") {
			t.Error(err)
		}
	})
}

// raw is a codec that sends bytes as they are.
type raw struct{}

// Marshal implements encoding.Codec.
func (raw) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return bytes.Clone(*b), nil
}

// Unmarshal implements encoding.Codec.
func (raw) Unmarshal(b []byte, v any) error {
	to, ok := v.(*[]byte)
	if !ok {
		return errors.ErrUnsupported
	}
	*to = bytes.Clone(b)
	return nil
}

// Name implements encoding.Codec.
func (raw) Name() string { return "proto" }
