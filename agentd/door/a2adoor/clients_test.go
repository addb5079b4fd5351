package a2adoor_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// fault is an error as a binding told it.
type fault struct {
	Reason string
	Code   string // the binding's own
	Fields []string
}

// client calls operations by one binding. Requests and answers are the JSON of the protocol's messages.
type client interface {
	// call performs an operation that is no stream.
	call(t *testing.T, op string, req, out proto.Message) *fault
	// stream gives the events of an operation one by one; the fault is that of a stream that never began, or of its end.
	stream(ctx context.Context, t *testing.T, op string, req proto.Message, each func(*pb.StreamResponse) bool) *fault
}

// bindings are the three clients of a rig, with the key of a caller, if any.
func (r *rig) bindings(t *testing.T, key string) map[string]client {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(r.URL, "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return map[string]client{
		"JSONRPC":   jsonrpcClient{url: r.URL + "/a2a", key: key},
		"HTTP+JSON": restClient{url: r.URL + "/a2a/v1", key: key},
		"GRPC":      grpcClient{svc: pb.NewA2AServiceClient(conn), key: key},
	}
}

func each(t *testing.T, r *rig, f func(t *testing.T, c client)) {
	t.Helper()
	for name, c := range r.bindings(t, "") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, c)
		})
	}
}

func post(ctx context.Context, t *testing.T, method, address, key string, body []byte) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("A2A-Version", "1.0")
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func mustJSON(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t *testing.T, b []byte, m proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal(b, m); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
}

// detailed reads the details of an error; every one has an ErrorInfo of the protocol's domain.
func detailed(t *testing.T, code string, details []map[string]any) *fault {
	t.Helper()
	f := &fault{Code: code}
	for _, d := range details {
		switch d["@type"] {
		case "type.googleapis.com/google.rpc.ErrorInfo":
			f.Reason, _ = d["reason"].(string)
			if d["domain"] != "a2a-protocol.org" {
				t.Errorf("domain is %v", d["domain"])
			}
		case "type.googleapis.com/google.rpc.BadRequest":
			violations, _ := d["fieldViolations"].([]any)
			for _, v := range violations {
				m, _ := v.(map[string]any)
				f.Fields = append(f.Fields, fmt.Sprint(m["field"]))
			}
		default:
			t.Errorf("a detail of type %v", d["@type"])
		}
	}
	if f.Reason == "" {
		t.Errorf("error %s without an ErrorInfo: %v", code, details)
	}
	return f
}

type jsonrpcClient struct{ url, key string }

func (c jsonrpcClient) post(ctx context.Context, t *testing.T, op string, req proto.Message) *http.Response {
	t.Helper()
	return post(ctx, t, http.MethodPost, c.url, c.key, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":"x1","method":%q,"params":%s}`, op, mustJSON(t, req)))
}

type rpcAnswer struct {
	JSONRPC string
	ID      any
	Result  json.RawMessage
	Error   *struct {
		Code    int
		Message string
		Data    []map[string]any
	}
}

func (a rpcAnswer) read(t *testing.T, out proto.Message) *fault {
	t.Helper()
	if a.JSONRPC != "2.0" || (a.Result == nil) == (a.Error == nil) {
		t.Fatalf("no JSON-RPC answer: %+v", a)
	}
	if a.Error != nil {
		if a.Error.Message == "" {
			t.Error("an error without a message")
		}
		return detailed(t, fmt.Sprint(a.Error.Code), a.Error.Data)
	}
	if a.ID != "x1" {
		t.Errorf("id is %v", a.ID)
	}
	mustParse(t, a.Result, out)
	return nil
}

func (c jsonrpcClient) call(t *testing.T, op string, req, out proto.Message) *fault {
	t.Helper()
	resp := c.post(t.Context(), t, op, req)
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type is %q", ct)
	}
	var a rpcAnswer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a.read(t, out)
}

func (c jsonrpcClient) stream(ctx context.Context, t *testing.T, op string, req proto.Message, each func(*pb.StreamResponse) bool) *fault {
	t.Helper()
	resp := c.post(ctx, t, op, req)
	defer func() { _ = resp.Body.Close() }()
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		var a rpcAnswer
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
			t.Fatal(err)
		}
		return a.read(t, &pb.StreamResponse{})
	}
	for data := range lines(resp.Body) {
		var a rpcAnswer
		if err := json.Unmarshal(data, &a); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		out := &pb.StreamResponse{}
		if f := a.read(t, out); f != nil {
			return f
		}
		if !each(out) {
			return nil
		}
	}
	return nil
}

// lines gives the data of server-sent events.
func lines(r io.Reader) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := bufio.NewScanner(r)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			if data, ok := bytes.CutPrefix(s.Bytes(), []byte("data: ")); ok && !yield(data) {
				return
			}
		}
	}
}

type restClient struct{ url, key string }

// path gives a request's method, path and body.
func (restClient) path(t *testing.T, op string, req proto.Message) (method, path string, body []byte) {
	t.Helper()
	q := ""
	add := func(name string, v any, set bool) {
		if set {
			sep := "&"
			if q == "" {
				sep = "?"
			}
			q += sep + name + "=" + url.QueryEscape(fmt.Sprint(v))
		}
	}
	switch r := req.(type) {
	case *pb.SendMessageRequest:
		if op == "SendStreamingMessage" {
			return http.MethodPost, "/message:stream", mustJSON(t, r)
		}
		return http.MethodPost, "/message:send", mustJSON(t, r)
	case *pb.GetTaskRequest:
		add("historyLength", r.GetHistoryLength(), r.HistoryLength != nil)
		return http.MethodGet, "/tasks/" + r.GetId() + q, nil
	case *pb.ListTasksRequest:
		add("contextId", r.GetContextId(), r.GetContextId() != "")
		add("status", r.GetStatus(), r.GetStatus() != 0)
		add("pageSize", r.GetPageSize(), r.PageSize != nil)
		add("pageToken", r.GetPageToken(), r.GetPageToken() != "")
		add("historyLength", r.GetHistoryLength(), r.HistoryLength != nil)
		add("includeArtifacts", r.GetIncludeArtifacts(), r.IncludeArtifacts != nil)
		return http.MethodGet, "/tasks" + q, nil
	case *pb.CancelTaskRequest:
		return http.MethodPost, "/tasks/" + r.GetId() + ":cancel", nil
	case *pb.SubscribeToTaskRequest:
		return http.MethodPost, "/tasks/" + r.GetId() + ":subscribe", nil
	case *pb.TaskPushNotificationConfig:
		return http.MethodPost, "/tasks/" + r.GetTaskId() + "/pushNotificationConfigs", mustJSON(t, r)
	case *pb.GetTaskPushNotificationConfigRequest:
		return http.MethodGet, "/tasks/" + r.GetTaskId() + "/pushNotificationConfigs/" + r.GetId(), nil
	case *pb.ListTaskPushNotificationConfigsRequest:
		return http.MethodGet, "/tasks/" + r.GetTaskId() + "/pushNotificationConfigs", nil
	case *pb.DeleteTaskPushNotificationConfigRequest:
		return http.MethodDelete, "/tasks/" + r.GetTaskId() + "/pushNotificationConfigs/" + r.GetId(), nil
	case *pb.GetExtendedAgentCardRequest:
		return http.MethodGet, "/extendedAgentCard", nil
	}
	t.Fatalf("no path for %T", req)
	return "", "", nil
}

func restFault(t *testing.T, resp *http.Response) *fault {
	t.Helper()
	var e struct {
		Error struct {
			Code    int
			Status  string
			Message string
			Details []map[string]any
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		t.Fatal(err)
	}
	if e.Error.Code != resp.StatusCode || e.Error.Message == "" || e.Error.Status == "" {
		t.Errorf("status %d, error %+v", resp.StatusCode, e)
	}
	return detailed(t, fmt.Sprint(resp.StatusCode), e.Error.Details)
}

func (c restClient) call(t *testing.T, op string, req, out proto.Message) *fault {
	t.Helper()
	method, path, body := c.path(t, op, req)
	resp := post(t.Context(), t, method, c.url+path, c.key, body)
	defer func() { _ = resp.Body.Close() }()
	if ct := resp.Header.Get("Content-Type"); ct != "application/a2a+json" {
		t.Errorf("Content-Type is %q", ct)
	}
	if resp.StatusCode != http.StatusOK {
		return restFault(t, resp)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	mustParse(t, b, out)
	return nil
}

func (c restClient) stream(ctx context.Context, t *testing.T, op string, req proto.Message, each func(*pb.StreamResponse) bool) *fault {
	t.Helper()
	method, path, body := c.path(t, op, req)
	resp := post(ctx, t, method, c.url+path, c.key, body)
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return restFault(t, resp)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
		t.Errorf("Content-Type is %q", ct)
	}
	for data := range lines(resp.Body) {
		out := &pb.StreamResponse{}
		mustParse(t, data, out)
		if !each(out) {
			return nil
		}
	}
	return nil
}

type grpcClient struct {
	svc pb.A2AServiceClient
	key string
}

func (c grpcClient) outgoing(ctx context.Context) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, "a2a-version", "1.0")
	if c.key != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.key)
	}
	return ctx
}

func grpcFault(t *testing.T, err error) *fault {
	t.Helper()
	st, _ := status.FromError(err)
	f := &fault{Code: st.Code().String()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			f.Reason = d.GetReason()
			if d.GetDomain() != "a2a-protocol.org" {
				t.Errorf("domain is %q", d.GetDomain())
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				f.Fields = append(f.Fields, v.GetField())
			}
		}
	}
	if f.Reason == "" {
		t.Errorf("%v without an ErrorInfo", err)
	}
	return f
}

func (c grpcClient) call(t *testing.T, op string, req, out proto.Message) *fault {
	t.Helper()
	ctx := c.outgoing(t.Context())
	var got proto.Message
	var err error
	switch r := req.(type) {
	case *pb.SendMessageRequest:
		got, err = c.svc.SendMessage(ctx, r)
	case *pb.GetTaskRequest:
		got, err = c.svc.GetTask(ctx, r)
	case *pb.ListTasksRequest:
		got, err = c.svc.ListTasks(ctx, r)
	case *pb.CancelTaskRequest:
		got, err = c.svc.CancelTask(ctx, r)
	case *pb.TaskPushNotificationConfig:
		got, err = c.svc.CreateTaskPushNotificationConfig(ctx, r)
	case *pb.GetTaskPushNotificationConfigRequest:
		got, err = c.svc.GetTaskPushNotificationConfig(ctx, r)
	case *pb.ListTaskPushNotificationConfigsRequest:
		got, err = c.svc.ListTaskPushNotificationConfigs(ctx, r)
	case *pb.DeleteTaskPushNotificationConfigRequest:
		got, err = c.svc.DeleteTaskPushNotificationConfig(ctx, r)
	case *pb.GetExtendedAgentCardRequest:
		got, err = c.svc.GetExtendedAgentCard(ctx, r)
	default:
		t.Fatalf("no call for %s", op)
	}
	if err != nil {
		return grpcFault(t, err)
	}
	proto.Merge(out, got)
	return nil
}

func (c grpcClient) stream(ctx context.Context, t *testing.T, _ string, req proto.Message, each func(*pb.StreamResponse) bool) *fault {
	t.Helper()
	ctx, cancel := context.WithCancel(c.outgoing(ctx))
	defer cancel()
	var s grpc.ServerStreamingClient[pb.StreamResponse]
	var err error
	switch r := req.(type) {
	case *pb.SendMessageRequest:
		s, err = c.svc.SendStreamingMessage(ctx, r)
	case *pb.SubscribeToTaskRequest:
		s, err = c.svc.SubscribeToTask(ctx, r)
	}
	for err == nil {
		var out *pb.StreamResponse
		if out, err = s.Recv(); err == nil && !each(out) {
			return nil
		}
	}
	if err == io.EOF { //nolint:errorlint // it's never wrapped
		return nil
	}
	return grpcFault(t, err)
}
