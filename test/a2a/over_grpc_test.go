package a2a

import (
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// overGRPC is section 10.
func overGRPC() []requirement {
	rows := slices.Concat(grpcProtocol(), grpcErrors())
	for i := range rows {
		if rows[i].on, rows[i].without = []binding{gRPC}, orText(rows[i].without, "of gRPC"); rows[i].test == nil {
			rows[i].on = nil
		}
	}
	return rows
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func grpcProtocol() []requirement {
	return []requirement{
		{
			id: "GRPC-1", section: "10.1", level: must, what: "the service is lf.a2a.v1.A2AService of the protocol's proto, over HTTP/2",
			test: func(t *testing.T, c caller) {
				c.completed(t)
				err := c.conn.Invoke(c.outgoing(t.Context()), "/lf.a2a.v1.A2AService/Nothing", &emptypb.Empty{}, &emptypb.Empty{})
				if status.Code(err) != codes.Unimplemented {
					t.Errorf("a method that there is none of: %v", err)
				}
			},
		},
		{id: "GRPC-2", section: "10.1", level: must, what: "connections are encrypted by TLS", without: deployed},
		{
			id: "GRPC-3", section: "10.2", level: must, what: "service parameters are metadata, whose keys have no case",
			test: func(t *testing.T, c caller) { c.with("A2A-Version", "").with("a2a-version", "1.0").completed(t) },
		},
		{
			id: "GRPC-4", section: "10.2", level: should, what: "several values of a parameter stand in one entry, with commas",
			test: func(t *testing.T, c caller) {
				c.with("a2a-extensions", "https://example.com/a/v1,https://example.com/b/v1").completed(t)
			},
		},
		{
			id: "GRPC-5", section: "10.2", level: must, what: "service parameters are read from metadata",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Version", "7.0").refused(t, listTasks, `{}`, "VERSION_NOT_SUPPORTED")
			},
		},
		{
			id: "GRPC-6", section: "10.2", level: should, what: "parameters that are required are looked at: the version",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Version", "").refused(t, getTask, text(t, object{"id": "x"}), "VERSION_NOT_SUPPORTED")
			},
		},
		{
			id: "GRPC-7", section: "10.4", level: must, what: "each method takes and gives the messages of the proto",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				c.watch(t, task, "c", "https://example.com/hook")
				for op, request := range about(t, task) {
					if a := c.try(t, op, request); a.fault != nil && a.fault.reason() != "TASK_NOT_CANCELABLE" && a.fault.reason() != "UNSUPPORTED_OPERATION" && a.fault.reason() != "TASK_NOT_FOUND" {
						t.Errorf("%s: %+v", op, a.fault)
					}
				}
			},
		},
		{
			id: "GRPC-8", section: "10.4.6", level: must, what: "SubscribeToTask of a task that is over is UnsupportedOperation",
			test: func(t *testing.T, c caller) {
				c.refused(t, subscribeTask, text(t, object{"id": c.completed(t).GetId()}), "UNSUPPORTED_OPERATION")
			},
		},
		{
			id: "GRPC-9", section: "10.4.10", level: must, what: "deleting a config gives google.protobuf.Empty",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				in, out := &pb.DeleteTaskPushNotificationConfigRequest{TaskId: task, Id: "c"}, &emptypb.Empty{}
				if err := c.conn.Invoke(c.outgoing(t.Context()), service+deletePush, in, out); err != nil || len(out.ProtoReflect().GetUnknown()) != 0 {
					t.Errorf("%v, %v", out, err)
				}
			},
		},
		{
			id: "GRPC-10", section: "10.7", level: must, what: "streams are server streams of StreamResponse, closed with status OK",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "tck-stream")).all(t) // reads them as that
				if len(events) < 2 || events[0].GetTask() == nil {
					t.Errorf("they are %v", events)
				}
			},
		},
	}
}

func grpcErrors() []requirement {
	return []requirement{
		{
			id: "GRPC-11", section: "10.6", level: must, what: "an error is a google.rpc.Status with code, message and details",
			test: func(t *testing.T, c caller) {
				f := c.refused(t, getTask, text(t, object{"id": "nothing"}), "TASK_NOT_FOUND")
				if f.grpc != codes.NotFound || len(f.details) == 0 {
					t.Errorf("%+v", f)
				}
			},
		},
		{
			id: "GRPC-12", section: "10.6", level: must, what: "details have an ErrorInfo: reason in capitals without Error, domain a2a-protocol.org",
			test: func(t *testing.T, c caller) {
				for _, f := range []*fault{
					c.refused(t, getTask, text(t, object{"id": "nothing"}), "TASK_NOT_FOUND"), // and the domain
					c.refused(t, cancelTask, text(t, object{"id": c.completed(t).GetId()}), "TASK_NOT_CANCELABLE"),
					c.refused(t, sendMessage, message(t, "x", "message.parts", []any{}), "INVALID_PARAMS"),
				} {
					if r := f.reason(); r != strings.ToUpper(r) || strings.HasSuffix(r, "_ERROR") {
						t.Errorf("%+v", f)
					}
				}
			},
		},
		{
			id: "GRPC-13", section: "10.6", level: may, what: "an ErrorInfo has metadata: which task it was",
			test: func(t *testing.T, c caller) {
				meta, _ := c.refused(t, getTask, text(t, object{"id": "nothing"}), "TASK_NOT_FOUND").detail("ErrorInfo")["metadata"].(map[string]any)
				if meta["taskId"] != "nothing" {
					t.Errorf("it is %v", meta)
				}
			},
		},
		{
			id: "GRPC-14", section: "10.6", level: should, what: "where a field is wrong a BadRequest says which",
			test: func(t *testing.T, c caller) {
				f := c.refused(t, sendMessage, message(t, "x", "message.parts", []any{}), "INVALID_PARAMS")
				if f.grpc != codes.InvalidArgument || !strings.Contains(text(t, f.detail("BadRequest")), `"message.parts"`) {
					t.Errorf("%+v", f)
				}
			},
		},
	}
}
