package v03

import (
	"encoding/base64"
	"encoding/json"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/agentry/agentry/internal/a2a"
)

// WriteSent writes the result of message/send: a task or a message.
func WriteSent(m *pb.SendMessageResponse) (json.RawMessage, error) {
	if lone := m.GetMessage(); lone != nil {
		return json.Marshal(oldMessage(lone))
	}
	return WriteTask(m.GetTask())
}

// WriteTask writes a task.
func WriteTask(t *pb.Task) (json.RawMessage, error) { return json.Marshal(oldTask(t)) }

// WriteEvent writes one event of a stream.
func WriteEvent(m *pb.StreamResponse) (json.RawMessage, error) {
	switch p := m.GetPayload().(type) {
	case *pb.StreamResponse_Message:
		return json.Marshal(oldMessage(p.Message))
	case *pb.StreamResponse_StatusUpdate:
		u := p.StatusUpdate
		return json.Marshal(wireStatusUpdate{
			Kind: kindStatusUpdate, TaskID: u.GetTaskId(), ContextID: u.GetContextId(), Status: oldStatus(u.GetStatus()), Final: Final(m), Metadata: plainObject(u.GetMetadata()),
		})
	case *pb.StreamResponse_ArtifactUpdate:
		u := p.ArtifactUpdate
		return json.Marshal(wireArtifactUpdate{
			Kind: kindArtifactUpdate, TaskID: u.GetTaskId(), ContextID: u.GetContextId(), Artifact: oldArtifact(u.GetArtifact()),
			Append: u.GetAppend(), LastChunk: u.GetLastChunk(), Metadata: plainObject(u.GetMetadata()),
		})
	default:
		return WriteTask(m.GetTask())
	}
}

// WritePush writes a task's push notification config.
func WritePush(p *pb.TaskPushNotificationConfig) (json.RawMessage, error) {
	return json.Marshal(oldPush(p))
}

// WritePushes writes several.
func WritePushes(m *pb.ListTaskPushNotificationConfigsResponse) (json.RawMessage, error) {
	out := make([]wireTaskPush, 0, len(m.GetConfigs()))
	for _, p := range m.GetConfigs() {
		out = append(out, oldPush(p))
	}
	return json.Marshal(out)
}

func oldPush(p *pb.TaskPushNotificationConfig) wireTaskPush {
	out := wireTaskPush{TaskID: p.GetTaskId(), Config: &wirePush{ID: p.GetId(), URL: p.GetUrl(), Token: p.GetToken()}}
	if a := p.GetAuthentication(); a != nil {
		out.Config.Authentication = &wirePushAuth{Schemes: []string{a.GetScheme()}, Credentials: a.GetCredentials()}
	}
	return out
}

func oldTask(t *pb.Task) wireTask {
	out := wireTask{Kind: kindTask, ID: t.GetId(), ContextID: t.GetContextId(), Status: oldStatus(t.GetStatus()), Metadata: plainObject(t.GetMetadata())}
	for _, a := range t.GetArtifacts() {
		out.Artifacts = append(out.Artifacts, oldArtifact(a))
	}
	for _, m := range t.GetHistory() {
		out.History = append(out.History, oldMessage(m))
	}
	return out
}

func oldStatus(s *pb.TaskStatus) wireStatus {
	out := wireStatus{State: stateName(s.GetState())}
	if at := s.GetTimestamp(); at != nil {
		out.Timestamp = at.AsTime().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	if m := s.GetMessage(); m != nil {
		old := oldMessage(m)
		out.Message = &old
	}
	return out
}

func stateName(s pb.TaskState) string {
	switch s {
	case pb.TaskState_TASK_STATE_SUBMITTED:
		return "submitted"
	case pb.TaskState_TASK_STATE_WORKING:
		return "working"
	case pb.TaskState_TASK_STATE_INPUT_REQUIRED:
		return "input-required"
	case pb.TaskState_TASK_STATE_AUTH_REQUIRED:
		return "auth-required"
	case pb.TaskState_TASK_STATE_COMPLETED:
		return "completed"
	case pb.TaskState_TASK_STATE_FAILED:
		return "failed"
	case pb.TaskState_TASK_STATE_CANCELED:
		return "canceled"
	case pb.TaskState_TASK_STATE_REJECTED:
		return "rejected"
	default:
		return "unknown"
	}
}

func oldMessage(m *pb.Message) wireMessage {
	out := wireMessage{
		Kind: kindMessage, MessageID: m.GetMessageId(), TaskID: m.GetTaskId(), ContextID: m.GetContextId(), Role: "user", Parts: oldParts(m.GetParts()),
		Metadata: plainObject(m.GetMetadata()), Extensions: m.GetExtensions(), ReferenceTaskIDs: m.GetReferenceTaskIds(),
	}
	if m.GetRole() == pb.Role_ROLE_AGENT {
		out.Role = "agent"
	}
	return out
}

func oldArtifact(a *pb.Artifact) wireArtifact {
	return wireArtifact{
		ArtifactID: a.GetArtifactId(), Name: a.GetName(), Description: a.GetDescription(), Parts: oldParts(a.GetParts()), Metadata: plainObject(a.GetMetadata()), Extensions: a.GetExtensions(),
	}
}

func oldParts(parts []*pb.Part) []wirePart {
	out := make([]wirePart, 0, len(parts))
	for _, p := range parts {
		old := wirePart{Metadata: plainObject(p.GetMetadata())}
		switch c := p.GetContent().(type) {
		case *pb.Part_Raw:
			old.Kind = kindFile
			old.File = &wireFile{Bytes: new(base64.StdEncoding.EncodeToString(c.Raw)), MIMEType: p.GetMediaType(), Name: p.GetFilename()}
		case *pb.Part_Url:
			old.Kind = kindFile
			old.File = &wireFile{URI: new(c.Url), MIMEType: p.GetMediaType(), Name: p.GetFilename()}
		case *pb.Part_Data:
			old.Kind, old.Data = kindData, plainObject(dataOf(c.Data))
		default:
			old.Kind, old.Text = kindText, new(p.GetText())
		}
		out = append(out, old)
	}
	return out
}

// dataOf gives data as the object that 0.3 wants.
func dataOf(v *structpb.Value) *structpb.Struct {
	if s, ok := v.GetKind().(*structpb.Value_StructValue); ok {
		return s.StructValue
	}
	return &structpb.Struct{Fields: map[string]*structpb.Value{"value": v}}
}

func plainObject(s *structpb.Struct) json.RawMessage {
	if s == nil {
		return nil
	}
	b, err := a2a.Marshal(s)
	if err != nil { // a NaN, which no JSON makes
		return json.RawMessage("{}")
	}
	return b
}
