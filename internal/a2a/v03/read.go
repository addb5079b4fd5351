package v03

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/agentry/agentry/internal/a2a"
)

// ReadSend reads the params of message/send and message/stream. Whoever doesn't say whether he waits does.
func ReadSend(params json.RawMessage) (*pb.SendMessageRequest, error) {
	var in wireSend
	if err := read(params, &in); err != nil {
		return nil, err
	}
	out := &pb.SendMessageRequest{}
	var err error
	if out.Message, err = in.Message.plain("message"); err != nil {
		return nil, err
	}
	if out.Metadata, err = object("metadata", in.Metadata); err != nil {
		return nil, err
	}
	if c := in.Configuration; c != nil {
		out.Configuration = &pb.SendMessageConfiguration{
			AcceptedOutputModes: c.AcceptedOutputModes, HistoryLength: c.HistoryLength, ReturnImmediately: c.Blocking != nil && !*c.Blocking,
			TaskPushNotificationConfig: c.Push.plain(""),
		}
	}
	return out, nil
}

// ReadGet reads the params of tasks/get.
func ReadGet(params json.RawMessage) (*pb.GetTaskRequest, error) {
	var in wireAsk
	err := read(params, &in)
	return &pb.GetTaskRequest{Id: in.ID, HistoryLength: in.HistoryLength}, err
}

// ReadCancel reads the params of tasks/cancel.
func ReadCancel(params json.RawMessage) (*pb.CancelTaskRequest, error) {
	var in wireAsk
	err := read(params, &in)
	return &pb.CancelTaskRequest{Id: in.ID}, err
}

// ReadSubscribe reads the params of tasks/resubscribe.
func ReadSubscribe(params json.RawMessage) (*pb.SubscribeToTaskRequest, error) {
	var in wireAsk
	err := read(params, &in)
	return &pb.SubscribeToTaskRequest{Id: in.ID}, err
}

// ReadSetPush reads the params of tasks/pushNotificationConfig/set. A config without a name has that of its task: a second one replaces it.
func ReadSetPush(params json.RawMessage) (*pb.TaskPushNotificationConfig, error) {
	var in wireTaskPush
	if err := read(params, &in); err != nil {
		return nil, err
	}
	if in.Config == nil {
		return nil, a2a.Bad("pushNotificationConfig", "is required")
	}
	out := in.Config.plain(in.TaskID)
	if out.GetId() == "" {
		out.Id = in.TaskID
	}
	return out, nil
}

// ReadGetPush reads the params of tasks/pushNotificationConfig/get; without a name the request means any config of the task.
func ReadGetPush(params json.RawMessage) (*pb.GetTaskPushNotificationConfigRequest, error) {
	var in wireAsk
	err := read(params, &in)
	return &pb.GetTaskPushNotificationConfigRequest{TaskId: in.ID, Id: in.ConfigID}, err
}

// ReadListPush reads the params of tasks/pushNotificationConfig/list.
func ReadListPush(params json.RawMessage) (*pb.ListTaskPushNotificationConfigsRequest, error) {
	var in wireAsk
	err := read(params, &in)
	return &pb.ListTaskPushNotificationConfigsRequest{TaskId: in.ID}, err
}

// ReadDeletePush reads the params of tasks/pushNotificationConfig/delete.
func ReadDeletePush(params json.RawMessage) (*pb.DeleteTaskPushNotificationConfigRequest, error) {
	var in wireAsk
	err := read(params, &in)
	if err == nil && in.ConfigID == "" {
		err = a2a.Bad("pushNotificationConfigId", "is required")
	}
	return &pb.DeleteTaskPushNotificationConfigRequest{TaskId: in.ID, Id: in.ConfigID}, err
}

// read reads an object; the error says which of its members is none of its kind.
func read(b json.RawMessage, into any) error {
	if len(b) == 0 || bytes.Equal(b, []byte("null")) {
		return nil
	}
	err := json.Unmarshal(b, into)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field != "":
		return a2a.Bad(kind.Field, "does not take a "+kind.Value)
	default:
		return a2a.Bad("params", "want an object")
	}
}

// plain gives today's message; path is where it stands.
func (m *wireMessage) plain(path string) (*pb.Message, error) {
	if m == nil {
		return nil, a2a.Bad(path, "is required")
	}
	if m.Kind != "" && m.Kind != kindMessage {
		return nil, a2a.Bad(path+".kind", `want "message"`)
	}
	out := &pb.Message{MessageId: m.MessageID, TaskId: m.TaskID, ContextId: m.ContextID, Extensions: m.Extensions, ReferenceTaskIds: m.ReferenceTaskIDs}
	switch m.Role {
	case "user":
		out.Role = pb.Role_ROLE_USER
	case "agent":
		out.Role = pb.Role_ROLE_AGENT
	default:
		return nil, a2a.Bad(path+".role", `want "user"`)
	}
	var err error
	if out.Metadata, err = object(path+".metadata", m.Metadata); err != nil {
		return nil, err
	}
	for i, p := range m.Parts {
		part, err := p.plain(path + ".parts[" + strconv.Itoa(i) + "]")
		if err != nil {
			return nil, err
		}
		out.Parts = append(out.Parts, part)
	}
	return out, nil
}

func (p wirePart) plain(path string) (*pb.Part, error) {
	meta, err := object(path+".metadata", p.Metadata)
	if err != nil {
		return nil, err
	}
	out := &pb.Part{Metadata: meta}
	kind := p.Kind
	if kind == "" { // the first clients left it out
		switch {
		case p.Text != nil:
			kind = kindText
		case p.File != nil:
			kind = kindFile
		case p.Data != nil:
			kind = kindData
		}
	}
	switch kind {
	case kindText:
		if p.Text == nil {
			return nil, a2a.Bad(path+".text", "is required")
		}
		out.Content = &pb.Part_Text{Text: *p.Text}
	case kindFile:
		if err := p.File.into(path+".file", out); err != nil {
			return nil, err
		}
	case kindData:
		data, err := object(path+".data", p.Data)
		switch {
		case err != nil:
			return nil, err
		case data == nil:
			return nil, a2a.Bad(path+".data", "is required")
		}
		out.Content = &pb.Part_Data{Data: structpb.NewStructValue(data)}
	default:
		return nil, a2a.Bad(path+".kind", fmt.Sprintf("want %q, %q or %q", kindText, kindFile, kindData))
	}
	return out, nil
}

func (f *wireFile) into(path string, out *pb.Part) error {
	if f == nil {
		return a2a.Bad(path, "is required")
	}
	out.MediaType, out.Filename = f.MIMEType, f.Name
	switch {
	case f.Bytes != nil && f.URI != nil:
		return a2a.Bad(path, "want bytes or uri, not both")
	case f.Bytes != nil:
		raw, err := base64.StdEncoding.DecodeString(*f.Bytes)
		if err != nil {
			return a2a.Bad(path+".bytes", "is no base64")
		}
		out.Content = &pb.Part_Raw{Raw: raw}
	case f.URI != nil:
		out.Content = &pb.Part_Url{Url: *f.URI}
	default:
		return a2a.Bad(path, "want bytes or uri")
	}
	return nil
}

// plain gives today's config of a task. Of several schemes the first is taken.
func (p *wirePush) plain(taskID string) *pb.TaskPushNotificationConfig {
	if p == nil {
		return nil
	}
	out := &pb.TaskPushNotificationConfig{TaskId: taskID, Id: p.ID, Url: p.URL, Token: p.Token}
	if a := p.Authentication; a != nil {
		out.Authentication = authentication(a.Schemes, a.Credentials)
	}
	return out
}

func authentication(schemes []string, credentials string) *pb.AuthenticationInfo {
	switch {
	case len(schemes) > 0:
		return &pb.AuthenticationInfo{Scheme: schemes[0], Credentials: credentials}
	case credentials != "":
		return &pb.AuthenticationInfo{Credentials: credentials} // which is refused: what for isn't said
	default:
		return nil
	}
}

// object reads a JSON object; nil: there is none.
func object(path string, b json.RawMessage) (*structpb.Struct, error) {
	if len(b) == 0 || bytes.Equal(b, []byte("null")) {
		return nil, nil
	}
	s := &structpb.Struct{}
	if err := a2a.Unmarshal(b, s); err != nil {
		return nil, a2a.Bad(path, "want an object")
	}
	return s, nil
}
