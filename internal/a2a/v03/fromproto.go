package v03

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/agentry/agentry/internal/a2a"
)

// FromSend gives today's request. The proto can't leave out whether its caller waits: one with a configuration that doesn't say so does not.
func FromSend(m *old.SendMessageRequest) (*pb.SendMessageRequest, error) {
	out := &pb.SendMessageRequest{Metadata: m.GetMetadata()}
	var err error
	if out.Message, err = fromMessage("message", m.GetRequest()); err != nil {
		return nil, err
	}
	if c := m.GetConfiguration(); c != nil {
		out.Configuration = &pb.SendMessageConfiguration{
			AcceptedOutputModes: c.GetAcceptedOutputModes(), HistoryLength: length(c.GetHistoryLength()), ReturnImmediately: !c.GetBlocking(),
			TaskPushNotificationConfig: fromPush(c.GetPushNotification()),
		}
	}
	return out, nil
}

// FromGet gives today's request.
func FromGet(m *old.GetTaskRequest) (*pb.GetTaskRequest, error) {
	id, err := taskOf("name", m.GetName())
	return &pb.GetTaskRequest{Id: id, HistoryLength: length(m.GetHistoryLength())}, err
}

// FromList gives today's request.
func FromList(m *old.ListTasksRequest) (*pb.ListTasksRequest, error) {
	out := &pb.ListTasksRequest{
		ContextId: m.GetContextId(), Status: fromState(m.GetStatus()), PageToken: m.GetPageToken(), HistoryLength: length(m.GetHistoryLength()),
		StatusTimestampAfter: m.GetLastUpdatedTime(), IncludeArtifacts: new(m.GetIncludeArtifacts()), PageSize: length(m.GetPageSize()),
	}
	return out, nil
}

// FromCancel gives today's request.
func FromCancel(m *old.CancelTaskRequest) (*pb.CancelTaskRequest, error) {
	id, err := taskOf("name", m.GetName())
	return &pb.CancelTaskRequest{Id: id}, err
}

// FromSubscribe gives today's request.
func FromSubscribe(m *old.TaskSubscriptionRequest) (*pb.SubscribeToTaskRequest, error) {
	id, err := taskOf("name", m.GetName())
	return &pb.SubscribeToTaskRequest{Id: id}, err
}

// FromCreatePush gives today's request. A config without a name has that of its task: a second one replaces it.
func FromCreatePush(m *old.CreateTaskPushNotificationConfigRequest) (*pb.TaskPushNotificationConfig, error) {
	id, err := taskOf("parent", m.GetParent())
	if err != nil {
		return nil, err
	}
	if m.GetConfig().GetPushNotificationConfig() == nil {
		return nil, a2a.Bad("config.pushNotificationConfig", "is required")
	}
	out := fromPush(m.GetConfig().GetPushNotificationConfig())
	out.TaskId = id
	for _, name := range []string{m.GetConfigId(), id} {
		if out.GetId() == "" {
			out.Id = name
		}
	}
	return out, nil
}

// FromGetPush gives today's request.
func FromGetPush(m *old.GetTaskPushNotificationConfigRequest) (*pb.GetTaskPushNotificationConfigRequest, error) {
	id, config, err := configOf(m.GetName())
	return &pb.GetTaskPushNotificationConfigRequest{TaskId: id, Id: config}, err
}

// FromListPush gives today's request.
func FromListPush(m *old.ListTaskPushNotificationConfigRequest) (*pb.ListTaskPushNotificationConfigsRequest, error) {
	id, err := taskOf("parent", m.GetParent())
	return &pb.ListTaskPushNotificationConfigsRequest{TaskId: id}, err
}

// FromDeletePush gives today's request.
func FromDeletePush(m *old.DeleteTaskPushNotificationConfigRequest) (*pb.DeleteTaskPushNotificationConfigRequest, error) {
	id, config, err := configOf(m.GetName())
	return &pb.DeleteTaskPushNotificationConfigRequest{TaskId: id, Id: config}, err
}

// Names of resources: tasks/T and tasks/T/pushNotificationConfigs/C.
const (
	tasksPrefix = "tasks/"
	configsPart = "/pushNotificationConfigs/"
)

func taskOf(path, name string) (string, error) {
	id, ok := strings.CutPrefix(name, tasksPrefix)
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", a2a.Bad(path, "want tasks/ and the task's ID")
	}
	return id, nil
}

func configOf(name string) (task, config string, err error) {
	rest, ok := strings.CutPrefix(name, tasksPrefix)
	task, config, found := strings.Cut(rest, configsPart)
	if !ok || !found || task == "" || config == "" || strings.Contains(task, "/") {
		return "", "", a2a.Bad("name", "want tasks/ID/pushNotificationConfigs/ID")
	}
	return task, config, nil
}

// length is a number that the proto can't leave out: none is nought.
func length(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

func fromPush(p *old.PushNotificationConfig) *pb.TaskPushNotificationConfig {
	if p == nil {
		return nil
	}
	out := &pb.TaskPushNotificationConfig{Id: p.GetId(), Url: p.GetUrl(), Token: p.GetToken()}
	if a := p.GetAuthentication(); a != nil {
		out.Authentication = authentication(a.GetSchemes(), a.GetCredentials())
	}
	return out
}

func fromMessage(path string, m *old.Message) (*pb.Message, error) {
	if m == nil {
		return nil, a2a.Bad(path, "is required")
	}
	out := &pb.Message{
		MessageId: m.GetMessageId(), TaskId: m.GetTaskId(), ContextId: m.GetContextId(), Metadata: m.GetMetadata(),
		Extensions: m.GetExtensions(), ReferenceTaskIds: m.GetReferenceTaskIds(),
	}
	switch m.GetRole() {
	case old.Role_ROLE_USER:
		out.Role = pb.Role_ROLE_USER
	case old.Role_ROLE_AGENT:
		out.Role = pb.Role_ROLE_AGENT
	case old.Role_ROLE_UNSPECIFIED:
	}
	for i, p := range m.GetParts() {
		part, err := fromPart(path+".content["+strconv.Itoa(i)+"]", p)
		if err != nil {
			return nil, err
		}
		out.Parts = append(out.Parts, part)
	}
	return out, nil
}

func fromPart(path string, p *old.Part) (*pb.Part, error) {
	out := &pb.Part{Metadata: p.GetMetadata()}
	switch c := p.GetPart().(type) {
	case *old.Part_Text:
		out.Content = &pb.Part_Text{Text: c.Text}
	case *old.Part_Data:
		data := c.Data.GetData()
		if data == nil {
			data = &structpb.Struct{}
		}
		out.Content = &pb.Part_Data{Data: structpb.NewStructValue(data)}
	case *old.Part_File:
		out.MediaType, out.Filename = c.File.GetMimeType(), c.File.GetName()
		switch f := c.File.GetFile().(type) {
		case *old.FilePart_FileWithBytes:
			out.Content = &pb.Part_Raw{Raw: unwrapped(f.FileWithBytes, out.GetMediaType())}
		case *old.FilePart_FileWithUri:
			out.Content = &pb.Part_Url{Url: f.FileWithUri}
		default:
			return nil, a2a.Bad(path+".file", "want fileWithBytes or fileWithUri")
		}
	default:
		return nil, a2a.Bad(path, "want text, file or data")
	}
	return out, nil
}

// unwrapped gives a file's bytes. Some clients put the base64 of a file where its bytes belong: an image that is none, but whose decoding is, was such a one.
func unwrapped(b []byte, media string) []byte {
	if !strings.HasPrefix(media, "image/") || strings.HasPrefix(http.DetectContentType(b), "image/") {
		return b
	}
	raw, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || !strings.HasPrefix(http.DetectContentType(raw), "image/") {
		return b
	}
	return raw
}

func fromState(s old.TaskState) pb.TaskState {
	for n := range pb.TaskState_name {
		if today := pb.TaskState(n); toState(today) == s {
			return today
		}
	}
	return pb.TaskState_TASK_STATE_UNSPECIFIED
}
