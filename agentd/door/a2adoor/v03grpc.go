package a2adoor

import (
	"context"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
)

// grpcV03 is the gRPC binding of 0.3, a service of its own.
type grpcV03 struct {
	old.UnimplementedA2AServiceServer

	door *Door
}

// enter reads the call's metadata.
func (g *grpcV03) enter(ctx context.Context) (call, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	p := params{legacy: true, base: g.door.cfg.Base(), extensions: a2a.Extensions(append(md.Get(a2a.HeaderExtensions), md.Get(v03.HeaderExtensions)...))}
	if v := md.Get(a2a.HeaderVersion); len(v) > 0 {
		p.version, p.versions = v[0], len(v)
	}
	if p.base == "" {
		p.base = reached(ctx, md)
	}
	return g.door.enter(ctx, p)
}

// refusal gives an error as clients of 0.3 know it: what the agent doesn't do was Unimplemented.
func (g *grpcV03) refusal(err error) error {
	fault := g.door.fault(err)
	st := fault.GRPC()
	if fault.Reason == a2a.PushNotificationNotSupported || fault.Reason == a2a.UnsupportedOperation {
		p := st.Proto()
		p.Code = int32(codes.Unimplemented)
		st = status.FromProto(p)
	}
	return st.Err()
}

// answerV03 performs one operation between a request and an answer of 0.3.
func answerV03[In, M, R, Out any](ctx context.Context, g *grpcV03, in In, from func(In) (M, error), op func(context.Context, call, M) (R, error), to func(R) Out) (Out, error) {
	var none Out
	c, err := g.enter(ctx)
	if err != nil {
		return none, g.refusal(err)
	}
	m, err := from(in)
	if err != nil {
		return none, g.refusal(err)
	}
	out, err := op(ctx, c, m)
	if err != nil {
		return none, g.refusal(err)
	}
	return to(out), nil
}

func tellV03[In, M any](g *grpcV03, in In, stream grpc.ServerStreamingServer[old.StreamResponse], from func(In) (M, error), op func(context.Context, call, M, sink) error) error {
	c, err := g.enter(stream.Context())
	if err != nil {
		return g.refusal(err)
	}
	m, err := from(in)
	if err != nil {
		return g.refusal(err)
	}
	err = op(stream.Context(), c, m, func(r *pb.StreamResponse) error {
		if r == nil { // HTTP/2 shows by itself that it lives
			return nil
		}
		return stream.Send(v03.ToEvent(r))
	})
	if err != nil {
		return g.refusal(err)
	}
	return nil
}

// SendMessage implements the service, and so do the others.
func (g *grpcV03) SendMessage(ctx context.Context, r *old.SendMessageRequest) (*old.SendMessageResponse, error) {
	return answerV03(ctx, g, r, v03.FromSend, g.door.send, v03.ToSent)
}

// SendStreamingMessage implements the service.
func (g *grpcV03) SendStreamingMessage(r *old.SendMessageRequest, s grpc.ServerStreamingServer[old.StreamResponse]) error {
	return tellV03(g, r, s, v03.FromSend, g.door.sendStream)
}

// GetTask implements the service.
func (g *grpcV03) GetTask(ctx context.Context, r *old.GetTaskRequest) (*old.Task, error) {
	return answerV03(ctx, g, r, v03.FromGet, g.door.getTask, v03.ToTask)
}

// ListTasks implements the service.
func (g *grpcV03) ListTasks(ctx context.Context, r *old.ListTasksRequest) (*old.ListTasksResponse, error) {
	return answerV03(ctx, g, r, v03.FromList, g.door.listTasks, v03.ToList)
}

// CancelTask implements the service.
func (g *grpcV03) CancelTask(ctx context.Context, r *old.CancelTaskRequest) (*old.Task, error) {
	return answerV03(ctx, g, r, v03.FromCancel, g.door.cancelTask, v03.ToTask)
}

// TaskSubscription implements the service.
func (g *grpcV03) TaskSubscription(r *old.TaskSubscriptionRequest, s grpc.ServerStreamingServer[old.StreamResponse]) error {
	return tellV03(g, r, s, v03.FromSubscribe, g.door.subscribeV03)
}

// CreateTaskPushNotificationConfig implements the service.
func (g *grpcV03) CreateTaskPushNotificationConfig(ctx context.Context, r *old.CreateTaskPushNotificationConfigRequest) (*old.TaskPushNotificationConfig, error) {
	return answerV03(ctx, g, r, v03.FromCreatePush, g.door.createPush, v03.ToPush)
}

// GetTaskPushNotificationConfig implements the service.
func (g *grpcV03) GetTaskPushNotificationConfig(ctx context.Context, r *old.GetTaskPushNotificationConfigRequest) (*old.TaskPushNotificationConfig, error) {
	return answerV03(ctx, g, r, v03.FromGetPush, g.door.getPush, v03.ToPush)
}

// ListTaskPushNotificationConfig implements the service.
func (g *grpcV03) ListTaskPushNotificationConfig(ctx context.Context, r *old.ListTaskPushNotificationConfigRequest) (*old.ListTaskPushNotificationConfigResponse, error) {
	return answerV03(ctx, g, r, v03.FromListPush, g.door.listPush, v03.ToPushes)
}

// DeleteTaskPushNotificationConfig implements the service.
func (g *grpcV03) DeleteTaskPushNotificationConfig(ctx context.Context, r *old.DeleteTaskPushNotificationConfigRequest) (*emptypb.Empty, error) {
	return answerV03(ctx, g, r, v03.FromDeletePush, g.door.deletePush, func(e *emptypb.Empty) *emptypb.Empty { return e })
}

// GetAgentCard implements the service: it is the extended card, where there is one.
func (g *grpcV03) GetAgentCard(ctx context.Context, _ *old.GetAgentCardRequest) (*old.AgentCard, error) {
	c, err := g.enter(ctx)
	if err != nil {
		return nil, g.refusal(err)
	}
	card, err := g.door.extendedV03(ctx, c)
	if err != nil {
		return nil, g.refusal(err)
	}
	return v03.ToCard(card, places(c.base)), nil
}
