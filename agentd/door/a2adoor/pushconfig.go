package a2adoor

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// The bounds of push notification configs.
const (
	maxPushes = 8 // of one task
	maxURL    = 2048
	maxSecret = 4096
)

func errNoPush() error {
	return a2a.Fail(a2a.PushNotificationNotSupported, "this agent sends no push notifications (capabilities.pushNotifications)")
}

// readPush looks at a config. The address is judged again, after its name was looked up, at each delivery.
func (d *Door) readPush(path string, p *pb.TaskPushNotificationConfig) (task.Push, error) {
	out := task.Push{ID: p.GetId(), URL: p.GetUrl(), Token: p.GetToken(), Scheme: p.GetAuthentication().GetScheme(), Credentials: p.GetAuthentication().GetCredentials()}
	if out.ID == "" {
		out.ID = newID()
	} else if err := checkID(path+".id", out.ID); err != nil {
		return task.Push{}, err
	}
	switch {
	case out.URL == "":
		return task.Push{}, a2a.Bad(path+".url", "is required")
	case len(out.URL) > maxURL:
		return task.Push{}, a2a.Bad(path+".url", fmt.Sprintf("at most %d bytes", maxURL))
	case secretive(out.URL):
		return task.Push{}, a2a.Bad(path+".url", "it must not hold a user or a password: give those as authentication")
	case p.GetAuthentication() != nil && !token(out.Scheme):
		return task.Push{}, a2a.Bad(path+".authentication.scheme", "want the name of an HTTP authentication scheme, such as Bearer")
	case !fieldValue(out.Credentials):
		return task.Push{}, a2a.Bad(path+".authentication.credentials", "they don't fit into a header")
	case !fieldValue(out.Token):
		return task.Push{}, a2a.Bad(path+".token", "it doesn't fit into a header")
	}
	if err := d.push.check(out.URL); err != nil {
		return task.Push{}, a2a.Bad(path+".url", err.Error())
	}
	return out, nil
}

// secretive reports whether an address has a user or a password in it, which nobody would treat as a secret.
func secretive(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.User != nil
}

// token reports whether s is a token of RFC 9110.
func token(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

// fieldValue reports whether s can stand in a header.
func fieldValue(s string) bool {
	return len(s) <= maxSecret && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// put adds a config, or replaces the one of its ID.
func put(have []task.Push, p task.Push) ([]task.Push, error) {
	if i := slices.IndexFunc(have, func(q task.Push) bool { return q.ID == p.ID }); i >= 0 {
		have[i] = p
		return have, nil
	}
	if len(have) >= maxPushes {
		return nil, a2a.Fail(a2a.InvalidParams, fmt.Sprintf("the task has %d push notification configs, which is the most", maxPushes))
	}
	return append(have, p), nil
}

// createPush is CreateTaskPushNotificationConfig.
func (d *Door) createPush(ctx context.Context, c call, req *pb.TaskPushNotificationConfig) (*pb.TaskPushNotificationConfig, error) {
	if !c.face.A2A.Push {
		return nil, errNoPush()
	}
	if err := checkID("taskId", req.GetTaskId()); err != nil {
		return nil, err
	}
	ref := task.Ref{Owner: c.owner, ID: req.GetTaskId()}
	if _, _, err := d.find(ctx, c, ref.ID); err != nil { // before anything is said of the rest
		return nil, err
	}
	p, err := d.readPush("config", req)
	if err != nil {
		return nil, err
	}
	p.Legacy = c.legacy
	_, err = d.change(ctx, c, ref.ID, func(r *task.Record) ([]task.Event, error) {
		var err error
		r.Push, err = put(r.Push, p)
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return wirePush(p, ref.ID, c.owner.Tenant), nil
}

// pushes gives a task's configs.
func (d *Door) pushes(ctx context.Context, c call, taskID string) ([]task.Push, error) {
	if !c.face.A2A.Push {
		return nil, errNoPush()
	}
	if err := checkID("taskId", taskID); err != nil {
		return nil, err
	}
	_, rec, err := d.find(ctx, c, taskID)
	return rec.Push, err
}

// getPush is GetTaskPushNotificationConfig.
func (d *Door) getPush(ctx context.Context, c call, req *pb.GetTaskPushNotificationConfigRequest) (*pb.TaskPushNotificationConfig, error) {
	have, err := d.pushes(ctx, c, req.GetTaskId())
	if err != nil {
		return nil, err
	}
	for _, p := range have {
		if p.ID == req.GetId() {
			return wirePush(p, req.GetTaskId(), c.owner.Tenant), nil
		}
	}
	return nil, a2a.Fail(a2a.TaskNotFound, "the task has no such push notification config", "taskId", req.GetTaskId(), "id", req.GetId())
}

// listPush is ListTaskPushNotificationConfigs. A task has few: they are one page.
func (d *Door) listPush(ctx context.Context, c call, req *pb.ListTaskPushNotificationConfigsRequest) (*pb.ListTaskPushNotificationConfigsResponse, error) {
	have, err := d.pushes(ctx, c, req.GetTaskId())
	if err != nil {
		return nil, err
	}
	out := &pb.ListTaskPushNotificationConfigsResponse{}
	for _, p := range have {
		out.Configs = append(out.Configs, wirePush(p, req.GetTaskId(), c.owner.Tenant))
	}
	return out, nil
}

// deletePush is DeleteTaskPushNotificationConfig; what isn't there is deleted.
func (d *Door) deletePush(ctx context.Context, c call, req *pb.DeleteTaskPushNotificationConfigRequest) (*emptypb.Empty, error) {
	if _, err := d.pushes(ctx, c, req.GetTaskId()); err != nil {
		return nil, err
	}
	ref := task.Ref{Owner: c.owner, ID: req.GetTaskId()}
	_, err := d.change(ctx, c, ref.ID, func(r *task.Record) ([]task.Event, error) {
		r.Push = slices.DeleteFunc(r.Push, func(p task.Push) bool { return p.ID == req.GetId() })
		return nil, nil
	})
	if err != nil {
		return nil, err
	}
	d.push.drop(ref, req.GetId())
	return &emptypb.Empty{}, nil
}
