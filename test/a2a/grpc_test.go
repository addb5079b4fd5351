package a2a

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails" // details are shown as JSON
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// service is the gRPC service's full name.
const service = "/lf.a2a.v1.A2AService/"

// messagesOf gives an operation's request, and its answer (of a stream each of them).
func messagesOf(t *testing.T, op string) (request, reply proto.Message) {
	t.Helper()
	switch op {
	case sendMessage:
		return &pb.SendMessageRequest{}, &pb.SendMessageResponse{}
	case streamMessage:
		return &pb.SendMessageRequest{}, &pb.StreamResponse{}
	case getTask:
		return &pb.GetTaskRequest{}, &pb.Task{}
	case listTasks:
		return &pb.ListTasksRequest{}, &pb.ListTasksResponse{}
	case cancelTask:
		return &pb.CancelTaskRequest{}, &pb.Task{}
	case subscribeTask:
		return &pb.SubscribeToTaskRequest{}, &pb.StreamResponse{}
	case createPush:
		return &pb.TaskPushNotificationConfig{}, &pb.TaskPushNotificationConfig{}
	case getPush:
		return &pb.GetTaskPushNotificationConfigRequest{}, &pb.TaskPushNotificationConfig{}
	case listPush:
		return &pb.ListTaskPushNotificationConfigsRequest{}, &pb.ListTaskPushNotificationConfigsResponse{}
	case deletePush:
		return &pb.DeleteTaskPushNotificationConfigRequest{}, &emptypb.Empty{}
	case extendedCard:
		return &pb.GetExtendedAgentCardRequest{}, &pb.AgentCard{}
	default:
		t.Fatalf("no operation %s", op)
		return nil, nil
	}
}

// outgoing puts the caller's headers into the metadata.
func (c caller) outgoing(ctx context.Context) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.New(c.header))
}

// asProto reads a request's JSON into its message.
func (c caller) asProto(t *testing.T, request string, m proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(c.withTenant(t, request)), m); err != nil {
		t.Fatalf("the test's own request: %v\n%s", err, request)
	}
}

func (c caller) askGRPC(ctx context.Context, t *testing.T, op, request string) answer {
	t.Helper()
	in, out := messagesOf(t, op)
	c.asProto(t, request, in)
	var header, trailer metadata.MD
	err := c.conn.Invoke(c.outgoing(ctx), service+op, in, out, grpc.Header(&header), grpc.Trailer(&trailer))
	a := answer{header: asHeader(metadata.Join(header, trailer))} // a refusal has but one of them
	a.readGRPC(t, out, err)
	return a
}

func asHeader(md metadata.MD) http.Header {
	out := http.Header{}
	for name, values := range md {
		for _, v := range values {
			out.Add(name, v)
		}
	}
	return out
}

// readGRPC shows a message, or a status, as the other bindings do.
func (a *answer) readGRPC(t *testing.T, out proto.Message, err error) {
	t.Helper()
	if err != nil {
		a.fault = grpcFault(t, err)
		return
	}
	b, err := protojson.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	a.body, a.result = b, b
}

func grpcFault(t *testing.T, err error) *fault {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok {
		t.Fatalf("no status: %v", err)
	}
	f := &fault{grpc: st.Code(), message: st.Message()}
	for _, d := range st.Proto().GetDetails() {
		b, err := protojson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		var plain map[string]any
		if err := json.Unmarshal(b, &plain); err != nil {
			t.Fatal(err)
		}
		f.details = append(f.details, plain)
	}
	return f
}
