package a2adoor

import (
	"encoding/json"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/a2a"
)

// wireState gives a state as the protocol calls it.
func wireState(s task.State) pb.TaskState {
	switch s {
	case task.Submitted:
		return pb.TaskState_TASK_STATE_SUBMITTED
	case task.Working:
		return pb.TaskState_TASK_STATE_WORKING
	case task.InputRequired:
		return pb.TaskState_TASK_STATE_INPUT_REQUIRED
	case task.AuthRequired:
		return pb.TaskState_TASK_STATE_AUTH_REQUIRED
	case task.Completed:
		return pb.TaskState_TASK_STATE_COMPLETED
	case task.Failed:
		return pb.TaskState_TASK_STATE_FAILED
	case task.Canceled:
		return pb.TaskState_TASK_STATE_CANCELED
	case task.Rejected:
		return pb.TaskState_TASK_STATE_REJECTED
	default:
		return pb.TaskState_TASK_STATE_UNSPECIFIED
	}
}

// states are all of them, for going the other way.
func states() []task.State {
	return []task.State{task.Submitted, task.Working, task.InputRequired, task.AuthRequired, task.Completed, task.Failed, task.Canceled, task.Rejected}
}

func plainState(s pb.TaskState) (task.State, bool) {
	for _, t := range states() {
		if wireState(t) == s {
			return t, true
		}
	}
	return "", false
}

func wirePart(p task.Part) *pb.Part {
	out := &pb.Part{MediaType: p.MediaType, Filename: p.Filename, Metadata: wireStruct(p.Metadata)}
	switch p.Kind {
	case task.Raw:
		out.Content = &pb.Part_Raw{Raw: p.Raw}
	case task.URL:
		out.Content = &pb.Part_Url{Url: p.URL}
	case task.Data:
		v := &structpb.Value{}
		if err := protojson.Unmarshal(p.Data, v); err != nil {
			v = structpb.NewStringValue(string(p.Data))
		}
		out.Content = &pb.Part_Data{Data: v}
	case task.Text:
		out.Content = &pb.Part_Text{Text: p.Text}
	default:
		out.Content = &pb.Part_Text{Text: p.Text}
	}
	return out
}

func wireParts(parts []task.Part) []*pb.Part {
	out := make([]*pb.Part, len(parts))
	for i, p := range parts {
		out[i] = wirePart(p)
	}
	return out
}

// plainPart gives a part; ok is false where it has no content.
func plainPart(p *pb.Part) (task.Part, bool) {
	out := task.Part{MediaType: p.GetMediaType(), Filename: p.GetFilename(), Metadata: plainStruct(p.GetMetadata())}
	switch c := p.GetContent().(type) {
	case *pb.Part_Text:
		out.Kind, out.Text = task.Text, c.Text
	case *pb.Part_Raw:
		out.Kind, out.Raw = task.Raw, c.Raw
	case *pb.Part_Url:
		out.Kind, out.URL = task.URL, c.Url
	case *pb.Part_Data:
		out.Kind, out.Data = task.Data, plainValue(c.Data)
	default:
		return task.Part{}, false
	}
	return out, true
}

func plainValue(v *structpb.Value) json.RawMessage {
	b, err := a2a.Marshal(v)
	if err != nil {
		return json.RawMessage("null")
	}
	return b
}

func plainStruct(s *structpb.Struct) json.RawMessage {
	if s == nil {
		return nil
	}
	b, err := a2a.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func wireStruct(b json.RawMessage) *structpb.Struct {
	if len(b) == 0 {
		return nil
	}
	s := &structpb.Struct{}
	if protojson.Unmarshal(b, s) != nil {
		return nil
	}
	return s
}

func wireRole(r task.Role) pb.Role {
	if r == task.Agent {
		return pb.Role_ROLE_AGENT
	}
	return pb.Role_ROLE_USER
}

func wireMessage(m task.Message, taskID, contextID string) *pb.Message {
	return &pb.Message{
		MessageId: m.ID, TaskId: taskID, ContextId: contextID, Role: wireRole(m.Role), Parts: wireParts(m.Parts), Metadata: wireStruct(m.Metadata),
		Extensions: m.Extensions, ReferenceTaskIds: m.ReferenceTaskIDs,
	}
}

func wireStatus(s task.Status, taskID, contextID string) *pb.TaskStatus {
	out := &pb.TaskStatus{State: wireState(s.State), Timestamp: timestamppb.New(s.At)}
	if s.Message != nil {
		out.Message = wireMessage(*s.Message, taskID, contextID)
	}
	return out
}

func wireArtifact(a task.Artifact) *pb.Artifact {
	return &pb.Artifact{ArtifactId: a.ID, Name: a.Name, Description: a.Description, Parts: wireParts(a.Parts), Metadata: wireStruct(a.Metadata)}
}

// view says how much of a task is shown.
type view struct {
	history   *int32 // nil: all of it
	artifacts bool
}

// whole shows everything.
func whole() view { return view{artifacts: true} }

func wireTask(t task.Task, v view) *pb.Task {
	out := &pb.Task{Id: t.ID, ContextId: t.ContextID, Status: wireStatus(t.Status, t.ID, t.ContextID), Metadata: wireStruct(t.Metadata)}
	if v.artifacts {
		for _, a := range t.Artifacts {
			out.Artifacts = append(out.Artifacts, wireArtifact(a))
		}
	}
	n := -1
	if v.history != nil {
		n = int(*v.history)
	}
	for _, m := range task.Latest(t.History, n) {
		out.History = append(out.History, wireMessage(m, t.ID, t.ContextID))
	}
	return out
}

// wireEvent gives an event of a stream, or nil for one that streams don't show.
func wireEvent(e task.Event, taskID, contextID string) *pb.StreamResponse {
	switch {
	case e.Status != nil:
		return &pb.StreamResponse{Payload: &pb.StreamResponse_StatusUpdate{StatusUpdate: &pb.TaskStatusUpdateEvent{
			TaskId: taskID, ContextId: contextID, Status: wireStatus(*e.Status, taskID, contextID),
		}}}
	case e.Chunk != nil:
		return &pb.StreamResponse{Payload: &pb.StreamResponse_ArtifactUpdate{ArtifactUpdate: &pb.TaskArtifactUpdateEvent{
			TaskId: taskID, ContextId: contextID, Artifact: wireArtifact(e.Chunk.Artifact), Append: e.Chunk.Append, LastChunk: e.Chunk.Last,
		}}}
	default:
		return nil
	}
}

func wirePush(p task.Push, taskID, tenant string) *pb.TaskPushNotificationConfig {
	out := &pb.TaskPushNotificationConfig{Tenant: tenant, TaskId: taskID, Id: p.ID, Url: p.URL, Token: p.Token}
	if p.Scheme != "" {
		out.Authentication = &pb.AuthenticationInfo{Scheme: p.Scheme, Credentials: p.Credentials}
	}
	return out
}
