package v03

import (
	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// ToSent gives the answer to SendMessage.
func ToSent(m *pb.SendMessageResponse) *old.SendMessageResponse {
	if lone := m.GetMessage(); lone != nil {
		return &old.SendMessageResponse{Payload: &old.SendMessageResponse_Msg{Msg: toMessage(lone)}}
	}
	return &old.SendMessageResponse{Payload: &old.SendMessageResponse_Task{Task: ToTask(m.GetTask())}}
}

// ToEvent gives one event of a stream.
func ToEvent(m *pb.StreamResponse) *old.StreamResponse {
	switch p := m.GetPayload().(type) {
	case *pb.StreamResponse_Message:
		return &old.StreamResponse{Payload: &old.StreamResponse_Msg{Msg: toMessage(p.Message)}}
	case *pb.StreamResponse_StatusUpdate:
		u := p.StatusUpdate
		return &old.StreamResponse{Payload: &old.StreamResponse_StatusUpdate{StatusUpdate: &old.TaskStatusUpdateEvent{
			TaskId: u.GetTaskId(), ContextId: u.GetContextId(), Status: toStatus(u.GetStatus()), Final: Final(m), Metadata: u.GetMetadata(),
		}}}
	case *pb.StreamResponse_ArtifactUpdate:
		u := p.ArtifactUpdate
		return &old.StreamResponse{Payload: &old.StreamResponse_ArtifactUpdate{ArtifactUpdate: &old.TaskArtifactUpdateEvent{
			TaskId: u.GetTaskId(), ContextId: u.GetContextId(), Artifact: toArtifact(u.GetArtifact()), Append: u.GetAppend(), LastChunk: u.GetLastChunk(), Metadata: u.GetMetadata(),
		}}}
	default:
		return &old.StreamResponse{Payload: &old.StreamResponse_Task{Task: ToTask(m.GetTask())}}
	}
}

// ToTask gives a task.
func ToTask(t *pb.Task) *old.Task {
	out := &old.Task{Id: t.GetId(), ContextId: t.GetContextId(), Status: toStatus(t.GetStatus()), Metadata: t.GetMetadata()}
	for _, a := range t.GetArtifacts() {
		out.Artifacts = append(out.Artifacts, toArtifact(a))
	}
	for _, m := range t.GetHistory() {
		out.History = append(out.History, toMessage(m))
	}
	return out
}

// ToList gives a page of tasks.
func ToList(m *pb.ListTasksResponse) *old.ListTasksResponse {
	out := &old.ListTasksResponse{NextPageToken: m.GetNextPageToken(), TotalSize: m.GetTotalSize()}
	for _, t := range m.GetTasks() {
		out.Tasks = append(out.Tasks, ToTask(t))
	}
	return out
}

// ToPush gives a task's push notification config.
func ToPush(p *pb.TaskPushNotificationConfig) *old.TaskPushNotificationConfig {
	out := &old.PushNotificationConfig{Id: p.GetId(), Url: p.GetUrl(), Token: p.GetToken()}
	if a := p.GetAuthentication(); a != nil {
		out.Authentication = &old.AuthenticationInfo{Schemes: []string{a.GetScheme()}, Credentials: a.GetCredentials()}
	}
	return &old.TaskPushNotificationConfig{Name: tasksPrefix + p.GetTaskId() + configsPart + p.GetId(), PushNotificationConfig: out}
}

// ToPushes gives several.
func ToPushes(m *pb.ListTaskPushNotificationConfigsResponse) *old.ListTaskPushNotificationConfigResponse {
	out := &old.ListTaskPushNotificationConfigResponse{NextPageToken: m.GetNextPageToken()}
	for _, p := range m.GetConfigs() {
		out.Configs = append(out.Configs, ToPush(p))
	}
	return out
}

func toStatus(s *pb.TaskStatus) *old.TaskStatus {
	out := &old.TaskStatus{State: toState(s.GetState()), Timestamp: s.GetTimestamp()}
	if m := s.GetMessage(); m != nil {
		out.Update = toMessage(m)
	}
	return out
}

func toState(s pb.TaskState) old.TaskState {
	switch s {
	case pb.TaskState_TASK_STATE_SUBMITTED:
		return old.TaskState_TASK_STATE_SUBMITTED
	case pb.TaskState_TASK_STATE_WORKING:
		return old.TaskState_TASK_STATE_WORKING
	case pb.TaskState_TASK_STATE_COMPLETED:
		return old.TaskState_TASK_STATE_COMPLETED
	case pb.TaskState_TASK_STATE_FAILED:
		return old.TaskState_TASK_STATE_FAILED
	case pb.TaskState_TASK_STATE_CANCELED:
		return old.TaskState_TASK_STATE_CANCELLED
	case pb.TaskState_TASK_STATE_INPUT_REQUIRED:
		return old.TaskState_TASK_STATE_INPUT_REQUIRED
	case pb.TaskState_TASK_STATE_REJECTED:
		return old.TaskState_TASK_STATE_REJECTED
	case pb.TaskState_TASK_STATE_AUTH_REQUIRED:
		return old.TaskState_TASK_STATE_AUTH_REQUIRED
	default:
		return old.TaskState_TASK_STATE_UNSPECIFIED
	}
}

func toMessage(m *pb.Message) *old.Message {
	out := &old.Message{
		MessageId: m.GetMessageId(), TaskId: m.GetTaskId(), ContextId: m.GetContextId(), Role: old.Role_ROLE_USER, Parts: toParts(m.GetParts()), Metadata: m.GetMetadata(),
		Extensions: m.GetExtensions(), ReferenceTaskIds: m.GetReferenceTaskIds(),
	}
	if m.GetRole() == pb.Role_ROLE_AGENT {
		out.Role = old.Role_ROLE_AGENT
	}
	return out
}

func toArtifact(a *pb.Artifact) *old.Artifact {
	return &old.Artifact{
		ArtifactId: a.GetArtifactId(), Name: a.GetName(), Description: a.GetDescription(), Parts: toParts(a.GetParts()), Metadata: a.GetMetadata(), Extensions: a.GetExtensions(),
	}
}

func toParts(parts []*pb.Part) []*old.Part {
	out := make([]*old.Part, 0, len(parts))
	for _, p := range parts {
		was := &old.Part{Metadata: p.GetMetadata()}
		switch c := p.GetContent().(type) {
		case *pb.Part_Raw:
			was.Part = &old.Part_File{File: &old.FilePart{File: &old.FilePart_FileWithBytes{FileWithBytes: c.Raw}, MimeType: p.GetMediaType(), Name: p.GetFilename()}}
		case *pb.Part_Url:
			was.Part = &old.Part_File{File: &old.FilePart{File: &old.FilePart_FileWithUri{FileWithUri: c.Url}, MimeType: p.GetMediaType(), Name: p.GetFilename()}}
		case *pb.Part_Data:
			was.Part = &old.Part_Data{Data: &old.DataPart{Data: dataOf(c.Data)}}
		default:
			was.Part = &old.Part_Text{Text: p.GetText()}
		}
		out = append(out, was)
	}
	return out
}
