package a2adoor

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/internal/a2a"
)

// grpcDoor is the gRPC binding. Its calls come through the door's own HTTP server, and so from behind the front.
type grpcDoor struct {
	pb.UnimplementedA2AServiceServer

	door *Door
}

// enter reads the call's metadata.
func (g *grpcDoor) enter(ctx context.Context, tenant string) (call, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	p := params{extensions: a2a.Extensions(md.Get(a2a.HeaderExtensions)), tenant: tenant, base: g.door.cfg.Base()}
	if v := md.Get(a2a.HeaderVersion); len(v) > 0 {
		p.version, p.versions = v[0], len(v)
	}
	if p.base == "" {
		p.base = reached(ctx, md)
	}
	return g.door.enter(ctx, p)
}

// reached gives the address at which a call reached the door.
func reached(ctx context.Context, md metadata.MD) string {
	authority := md.Get(":authority")
	if len(authority) == 0 {
		return ""
	}
	if p, ok := peer.FromContext(ctx); ok && p.AuthInfo != nil && p.AuthInfo.AuthType() == "tls" {
		return "https://" + authority[0]
	}
	return "http://" + authority[0]
}

func answer[M interface{ GetTenant() string }, R any](ctx context.Context, g *grpcDoor, m M, op func(context.Context, call, M) (R, error)) (R, error) {
	var none R
	c, err := g.enter(ctx, m.GetTenant())
	if err != nil {
		return none, g.door.fault(err).GRPC().Err()
	}
	out, err := op(ctx, c, m)
	if err != nil {
		return none, g.door.fault(err).GRPC().Err()
	}
	return out, nil
}

func tellAll[M interface{ GetTenant() string }](g *grpcDoor, m M, stream grpc.ServerStreamingServer[pb.StreamResponse], op func(context.Context, call, M, sink) error) error {
	c, err := g.enter(stream.Context(), m.GetTenant())
	if err == nil {
		err = op(stream.Context(), c, m, func(r *pb.StreamResponse) error {
			if r == nil { // HTTP/2 shows by itself that it lives
				return nil
			}
			return stream.Send(r)
		})
	}
	if err != nil {
		return g.door.fault(err).GRPC().Err()
	}
	return nil
}

// SendMessage implements the service, and so do the others.
func (g *grpcDoor) SendMessage(ctx context.Context, r *pb.SendMessageRequest) (*pb.SendMessageResponse, error) {
	return answer(ctx, g, r, g.door.send)
}

// SendStreamingMessage implements the service.
func (g *grpcDoor) SendStreamingMessage(r *pb.SendMessageRequest, s grpc.ServerStreamingServer[pb.StreamResponse]) error {
	return tellAll(g, r, s, g.door.sendStream)
}

// GetTask implements the service.
func (g *grpcDoor) GetTask(ctx context.Context, r *pb.GetTaskRequest) (*pb.Task, error) {
	return answer(ctx, g, r, g.door.getTask)
}

// ListTasks implements the service.
func (g *grpcDoor) ListTasks(ctx context.Context, r *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	return answer(ctx, g, r, g.door.listTasks)
}

// CancelTask implements the service.
func (g *grpcDoor) CancelTask(ctx context.Context, r *pb.CancelTaskRequest) (*pb.Task, error) {
	return answer(ctx, g, r, g.door.cancelTask)
}

// SubscribeToTask implements the service.
func (g *grpcDoor) SubscribeToTask(r *pb.SubscribeToTaskRequest, s grpc.ServerStreamingServer[pb.StreamResponse]) error {
	return tellAll(g, r, s, g.door.subscribe)
}

// CreateTaskPushNotificationConfig implements the service.
func (g *grpcDoor) CreateTaskPushNotificationConfig(ctx context.Context, r *pb.TaskPushNotificationConfig) (*pb.TaskPushNotificationConfig, error) {
	return answer(ctx, g, r, g.door.createPush)
}

// GetTaskPushNotificationConfig implements the service.
func (g *grpcDoor) GetTaskPushNotificationConfig(ctx context.Context, r *pb.GetTaskPushNotificationConfigRequest) (*pb.TaskPushNotificationConfig, error) {
	return answer(ctx, g, r, g.door.getPush)
}

// ListTaskPushNotificationConfigs implements the service.
func (g *grpcDoor) ListTaskPushNotificationConfigs(ctx context.Context, r *pb.ListTaskPushNotificationConfigsRequest) (*pb.ListTaskPushNotificationConfigsResponse, error) {
	return answer(ctx, g, r, g.door.listPush)
}

// DeleteTaskPushNotificationConfig implements the service.
func (g *grpcDoor) DeleteTaskPushNotificationConfig(ctx context.Context, r *pb.DeleteTaskPushNotificationConfigRequest) (*emptypb.Empty, error) {
	return answer(ctx, g, r, g.door.deletePush)
}

// GetExtendedAgentCard implements the service.
func (g *grpcDoor) GetExtendedAgentCard(ctx context.Context, r *pb.GetExtendedAgentCardRequest) (*pb.AgentCard, error) {
	return answer(ctx, g, r, g.door.extended)
}

// refuseGRPC answers a request that doesn't reach the service.
func refuseGRPC(w http.ResponseWriter, fault *a2a.Error) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", strconv.Itoa(int(fault.Reason.Codes().GRPC)))
	h.Set("Grpc-Message", url.PathEscape(fault.Message))
	if details, err := proto.Marshal(fault.GRPC().Proto()); err == nil {
		h.Set("Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString(details))
	}
	w.WriteHeader(http.StatusOK)
}
