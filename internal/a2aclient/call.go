package a2aclient

import (
	"context"
	"errors"
	"iter"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/agentry/agentry/internal/a2a"
)

// message is a message of the protocol.
type message = proto.Message

// events are those of one stream.
type events = iter.Seq2[*pb.StreamResponse, error]

// operation is one of the protocol's, by its name.
type operation string

// The operations.
const (
	opSend         operation = "SendMessage"
	opStream       operation = "SendStreamingMessage"
	opGet          operation = "GetTask"
	opList         operation = "ListTasks"
	opCancel       operation = "CancelTask"
	opSubscribe    operation = "SubscribeToTask"
	opCreatePush   operation = "CreateTaskPushNotificationConfig"
	opGetPush      operation = "GetTaskPushNotificationConfig"
	opListPushes   operation = "ListTaskPushNotificationConfigs"
	opDeletePush   operation = "DeleteTaskPushNotificationConfig"
	opExtendedCard operation = "GetExtendedAgentCard"
)

// again reports whether performing it twice does no harm.
func (o operation) again() bool { return o != opSend && o != opStream && o != opCreatePush }

// Send sends a message once and gives the task or the message that answers. Without ReturnImmediately it lasts until the task ends or asks for something;
// ctx bounds it. Errors of every operation: what the agent answered wraps an *a2a.Error; the way to the agent is of kind Unavailable, Timeout or Denied.
// A message that may have arrived is an *UncertainError, and is sent by no other interface.
func (a *Agent) Send(ctx context.Context, req *pb.SendMessageRequest) (*pb.SendMessageResponse, error) {
	out := &pb.SendMessageResponse{}
	if err := a.call(ctx, opSend, req, out); err != nil {
		return nil, uncertain(req, err)
	}
	if out.GetTask() == nil && out.GetMessage() == nil {
		return nil, invalid("the answer is neither a task nor a message")
	}
	return out, nil
}

// uncertain tells an error of the way after a message was sent.
func uncertain(req *pb.SendMessageRequest, err error) error {
	var l *linkError
	if errors.As(err, &l) && l.sent {
		return &UncertainError{TaskID: req.GetMessage().GetTaskId(), Err: err}
	}
	return err
}

// Stream sends a message once and gives the events of its one stream, which may be cut; Follow stays with the task.
func (a *Agent) Stream(ctx context.Context, req *pb.SendMessageRequest) iter.Seq2[*pb.StreamResponse, error] {
	return a.stream(ctx, opStream, req)
}

// Subscribe gives the events of a task from now on, the task as it is first.
func (a *Agent) Subscribe(ctx context.Context, taskID string) iter.Seq2[*pb.StreamResponse, error] {
	return a.stream(ctx, opSubscribe, &pb.SubscribeToTaskRequest{Id: taskID})
}

// Get reads a task.
func (a *Agent) Get(ctx context.Context, req *pb.GetTaskRequest) (*pb.Task, error) {
	return result(&pb.Task{}, a, ctx, opGet, req)
}

// List reads a page of the caller's tasks.
func (a *Agent) List(ctx context.Context, req *pb.ListTasksRequest) (*pb.ListTasksResponse, error) {
	return result(&pb.ListTasksResponse{}, a, ctx, opList, req)
}

// Cancel ends a task and gives it as it is then.
func (a *Agent) Cancel(ctx context.Context, taskID string) (*pb.Task, error) {
	return result(&pb.Task{}, a, ctx, opCancel, &pb.CancelTaskRequest{Id: taskID})
}

// ExtendedCard reads the card that callers with a credential get. Its signature, if any, is not judged: it comes over the agent's own interface.
func (a *Agent) ExtendedCard(ctx context.Context) (*pb.AgentCard, error) {
	return result(&pb.AgentCard{}, a, ctx, opExtendedCard, &pb.GetExtendedAgentCardRequest{})
}

// CreatePush makes a push notification config of a task.
func (a *Agent) CreatePush(ctx context.Context, req *pb.TaskPushNotificationConfig) (*pb.TaskPushNotificationConfig, error) {
	return result(&pb.TaskPushNotificationConfig{}, a, ctx, opCreatePush, req)
}

// Push reads a push notification config of a task.
func (a *Agent) Push(ctx context.Context, taskID, id string) (*pb.TaskPushNotificationConfig, error) {
	return result(&pb.TaskPushNotificationConfig{}, a, ctx, opGetPush, &pb.GetTaskPushNotificationConfigRequest{TaskId: taskID, Id: id})
}

// Pushes reads the push notification configs of a task.
func (a *Agent) Pushes(ctx context.Context, req *pb.ListTaskPushNotificationConfigsRequest) (*pb.ListTaskPushNotificationConfigsResponse, error) {
	return result(&pb.ListTaskPushNotificationConfigsResponse{}, a, ctx, opListPushes, req)
}

// DeletePush takes a push notification config of a task away.
func (a *Agent) DeletePush(ctx context.Context, taskID, id string) error {
	return a.call(ctx, opDeletePush, &pb.DeleteTaskPushNotificationConfigRequest{TaskId: taskID, Id: id}, nil)
}

func result[M message](out M, a *Agent, ctx context.Context, op operation, req message) (M, error) { //nolint:revive // context-as-argument: the answer's type leads
	if err := a.call(ctx, op, req, out); err != nil {
		var none M
		return none, err
	}
	return out, nil
}

// call performs an operation at the interface that answered last, and at the next ones where that one can't be reached.
func (a *Agent) call(ctx context.Context, op operation, req, out message) error {
	var faults []error
	for _, e := range a.order() {
		t, err := a.transport(e)
		if err == nil {
			err = e.hinted(t.call(ctx, op, a.tenanted(req, e), out))
		}
		if err == nil {
			a.stick(e)
			return nil
		}
		faults = append(faults, err)
		if ctx.Err() != nil || !passes(err, op.again()) {
			if !passes(err, true) { // it did answer
				a.stick(e)
				return err
			}
			break
		}
		if out != nil {
			proto.Reset(out)
		}
	}
	return joined(faults)
}

// stream is call for streams: the next interface is tried as long as no event came.
func (a *Agent) stream(ctx context.Context, op operation, req message) events {
	return func(yield func(*pb.StreamResponse, error) bool) {
		var faults []error
		for _, e := range a.order() {
			began, err := a.streamAt(ctx, e, op, req, yield)
			if err == nil {
				return
			}
			faults = append(faults, err)
			if began || ctx.Err() != nil || !passes(err, op.again()) {
				break
			}
		}
		yield(nil, joined(faults))
	}
}

// streamAt reads a stream of one interface. No error: it ended, or its reader left.
func (a *Agent) streamAt(ctx context.Context, e *endpoint, op operation, req message, yield func(*pb.StreamResponse, error) bool) (began bool, err error) {
	t, err := a.transport(e)
	if err != nil {
		return false, err
	}
	for ev, err := range t.stream(ctx, op, a.tenanted(req, e)) {
		if err != nil {
			return began, e.hinted(err)
		}
		if !began {
			began = true
			a.stick(e)
		}
		if !yield(ev, nil) {
			return began, nil
		}
	}
	return began, nil
}

// joined gives several faults as one; where any of them may have been performed, the whole may.
func joined(faults []error) error {
	if len(faults) == 1 {
		return faults[0]
	}
	last := faults[len(faults)-1]
	var l *linkError
	if errors.As(last, &l) {
		return &linkError{err: errors.Join(faults...), sent: l.sent}
	}
	return last
}

// tenanted gives the request with the tenant that it goes to.
func (a *Agent) tenanted(req message, e *endpoint) message {
	tenant := a.cfg.Tenant
	if tenant == "" {
		tenant = e.face.GetTenant()
	}
	m := req.ProtoReflect()
	f := m.Descriptor().Fields().ByName("tenant")
	if tenant == "" || f == nil || m.Get(f).String() != "" {
		return req
	}
	out := proto.Clone(req)
	out.ProtoReflect().Set(f, protoreflect.ValueOfString(tenant))
	return out
}

// CancelNow cancels a task although ctx may have ended, as when a person stopped waiting. It takes no longer than the wait for a connection may.
func (a *Agent) CancelNow(ctx context.Context, taskID string) (*pb.Task, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.CardTimeout)
	defer cancel()
	return a.Cancel(ctx, taskID)
}

// unsupported reports whether an agent doesn't stream, or not this task.
func unsupported(err error) bool {
	return isReason(err, a2a.UnsupportedOperation, a2a.MethodNotFound, a2a.ContentTypeNotSupported, a2a.NotAllowed)
}
