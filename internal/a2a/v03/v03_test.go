package v03_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/internal/a2a"
	"github.com/agentry/agentry/internal/a2a/v03"
)

func TestSpeaks(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"": true, " ": true, "0.3": true, "0.3.0": true, " 0.3.12 ": true, "0.3.": false, "0.3.x": false, "0.30": false, "0.2": false, "1.0": false, "1.0.3": false} {
		if got := v03.Speaks(version); got != want {
			t.Errorf("%q: %v", version, got)
		}
	}
}

// whole is a task that has one of everything.
func whole() *pb.Task {
	at := timestamppb.New(time.Date(2026, 11, 23, 0, 30, 1, 250e6, time.UTC))
	meta := &structpb.Struct{Fields: map[string]*structpb.Value{"parts": structpb.NewStringValue("mine"), "n": structpb.NewNumberValue(1)}}
	return &pb.Task{
		Id: "t", ContextId: "c", Metadata: meta,
		Status: &pb.TaskStatus{
			State: pb.TaskState_TASK_STATE_INPUT_REQUIRED, Timestamp: at,
			Message: &pb.Message{MessageId: "q", TaskId: "t", ContextId: "c", Role: pb.Role_ROLE_AGENT, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: "Which?"}}}},
		},
		Artifacts: []*pb.Artifact{{ArtifactId: "a", Name: "n", Description: "d", Extensions: []string{"x"}, Parts: []*pb.Part{
			{Content: &pb.Part_Raw{Raw: []byte("hi")}, MediaType: "text/csv", Filename: "f.csv"},
			{Content: &pb.Part_Url{Url: "https://example.com/f"}, MediaType: "text/plain"},
			{Content: &pb.Part_Data{Data: structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewBoolValue(true)}})}},
			{Content: &pb.Part_Data{Data: structpb.NewNumberValue(7)}, Metadata: meta},
		}}},
		History: []*pb.Message{{MessageId: "m", Role: pb.Role_ROLE_USER, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: ""}}}, ReferenceTaskIds: []string{"r"}}},
	}
}

func TestWriteTask(t *testing.T) {
	t.Parallel()
	got, err := v03.WriteTask(whole())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"kind":"task","id":"t","contextId":"c",` +
		`"status":{"state":"input-required","message":{"kind":"message","messageId":"q","taskId":"t","contextId":"c","role":"agent","parts":[{"kind":"text","text":"Which?"}]},"timestamp":"2026-11-23T00:30:01.250Z"},` +
		`"artifacts":[{"artifactId":"a","name":"n","description":"d","parts":[{"kind":"file","file":{"bytes":"aGk=","mimeType":"text/csv","name":"f.csv"}},` +
		`{"kind":"file","file":{"uri":"https://example.com/f","mimeType":"text/plain"}},{"kind":"data","data":{"k":true}},{"kind":"data","data":{"value":7},"metadata":{"n":1,"parts":"mine"}}],"extensions":["x"]}],` +
		`"history":[{"kind":"message","messageId":"m","role":"user","parts":[{"kind":"text","text":""}],"referenceTaskIds":["r"]}],"metadata":{"n":1,"parts":"mine"}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// TestProtoNames: the parts of messages have their old name, and nothing else is renamed.
func TestProtoNames(t *testing.T) {
	t.Parallel()
	was := v03.ToSent(&pb.SendMessageResponse{Payload: &pb.SendMessageResponse_Task{Task: whole()}})
	b, err := v03.MarshalProto(was)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	task, _ := got["task"].(map[string]any)
	status, _ := task["status"].(map[string]any)
	message, _ := status["message"].(map[string]any)
	history, _ := task["history"].([]any)
	first, _ := history[0].(map[string]any)
	artifact, _ := task["artifacts"].([]any)[0].(map[string]any)
	meta, _ := task["metadata"].(map[string]any)
	if message["content"] == nil || message["parts"] != nil || first["content"] == nil || artifact["parts"] == nil || meta["parts"] != "mine" || status["state"] != "TASK_STATE_INPUT_REQUIRED" {
		t.Errorf("%s", b)
	}
	back := &old.SendMessageResponse{}
	if err := v03.UnmarshalProto(b, back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(was, back, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

func TestReadSend(t *testing.T) {
	t.Parallel()
	no, three := false, int32(3)
	for name, c := range map[string]struct {
		params string
		want   *pb.SendMessageRequest
		fault  string // the path of what is wrong
	}{
		"least": {
			params: `{"message":{"messageId":"m","role":"user","parts":[{"text":"hi"}]}}`,
			want:   &pb.SendMessageRequest{Message: &pb.Message{MessageId: "m", Role: pb.Role_ROLE_USER, Parts: []*pb.Part{{Content: &pb.Part_Text{Text: "hi"}}}}},
		},
		"all": {
			params: `{"message":{"kind":"message","messageId":"m","taskId":"t","contextId":"c","role":"user","parts":[{"kind":"file","file":{"uri":"https://x/","name":"n","mimeType":"a/b"},"metadata":{"p":1}}],` +
				`"metadata":{"k":"v"},"extensions":["e"],"referenceTaskIds":["r"]},"metadata":{"private":true},` +
				`"configuration":{"blocking":false,"historyLength":3,"acceptedOutputModes":["text/plain"],"pushNotificationConfig":{"id":"i","url":"https://p/","token":"k","authentication":{"schemes":["Bearer","Basic"],"credentials":"s"}}}}`,
			want: &pb.SendMessageRequest{
				Message: &pb.Message{
					MessageId: "m", TaskId: "t", ContextId: "c", Role: pb.Role_ROLE_USER, Extensions: []string{"e"}, ReferenceTaskIds: []string{"r"},
					Metadata: object("k", structpb.NewStringValue("v")),
					Parts:    []*pb.Part{{Content: &pb.Part_Url{Url: "https://x/"}, Filename: "n", MediaType: "a/b", Metadata: object("p", structpb.NewNumberValue(1))}},
				},
				Metadata: object("private", structpb.NewBoolValue(true)),
				Configuration: &pb.SendMessageConfiguration{
					AcceptedOutputModes: []string{"text/plain"}, HistoryLength: &three, ReturnImmediately: true,
					TaskPushNotificationConfig: &pb.TaskPushNotificationConfig{Id: "i", Url: "https://p/", Token: "k", Authentication: &pb.AuthenticationInfo{Scheme: "Bearer", Credentials: "s"}},
				},
			},
		},
		"who doesn't say waits": {
			params: `{"message":{"messageId":"m","role":"agent","parts":[]},"configuration":{}}`,
			want:   &pb.SendMessageRequest{Message: &pb.Message{MessageId: "m", Role: pb.Role_ROLE_AGENT}, Configuration: &pb.SendMessageConfiguration{ReturnImmediately: no}},
		},
		"nothing":          {params: ``, fault: "message"},
		"null":             {params: `null`, fault: "message"},
		"a list":           {params: `[]`, fault: "params"},
		"role of 1.0":      {params: `{"message":{"role":"ROLE_USER"}}`, fault: "message.role"},
		"a kind":           {params: `{"message":{"kind":"task"}}`, fault: "message.kind"},
		"metadata":         {params: `{"message":{"role":"user","metadata":7}}`, fault: "message.metadata"},
		"its own metadata": {params: `{"message":{"role":"user"},"metadata":[]}`, fault: "metadata"},
		"a number":         {params: `{"message":{"role":"user","messageId":7}}`, fault: "message.messageId"},
		"part":             {params: `{"message":{"role":"user","parts":[{"kind":"text"}]}}`, fault: "message.parts[0].text"},
		"file":             {params: `{"message":{"role":"user","parts":[{"text":"x"},{"kind":"file"}]}}`, fault: "message.parts[1].file"},
		"file both ways":   {params: `{"message":{"role":"user","parts":[{"file":{"bytes":"","uri":"u"}}]}}`, fault: "message.parts[0].file"},
		"file no way":      {params: `{"message":{"role":"user","parts":[{"file":{"name":"n"}}]}}`, fault: "message.parts[0].file"},
		"base64":           {params: `{"message":{"role":"user","parts":[{"file":{"bytes":"a"}}]}}`, fault: "message.parts[0].file.bytes"},
		"data":             {params: `{"message":{"role":"user","parts":[{"kind":"data"}]}}`, fault: "message.parts[0].data"},
		"no kind":          {params: `{"message":{"role":"user","parts":[{}]}}`, fault: "message.parts[0].kind"},
	} {
		got, err := v03.ReadSend(json.RawMessage(c.params))
		if c.fault != "" {
			var e *a2a.Error
			if !errors.As(err, &e) || e.Reason != a2a.InvalidParams || len(e.Fields) != 1 || e.Fields[0].Path != c.fault {
				t.Errorf("%s: %v, want a fault of %s", name, err, c.fault)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got, protocmp.Transform()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func object(k string, v *structpb.Value) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{k: v}}
}

// TestFiles: bytes are bytes, and an image that came as its base64 is one nevertheless.
func TestFiles(t *testing.T) {
	t.Parallel()
	const png = "\x89PNG\r\n\x1a\n"
	for name, c := range map[string]struct{ media, bytes, want string }{
		"bytes":              {"image/png", png, png},
		"base64":             {"image/png", "iVBORw0KGgo=", png},
		"no image at all":    {"image/png", "aGVsbG8=", "aGVsbG8="},
		"a text stays":       {"text/plain", "iVBORw0KGgo=", "iVBORw0KGgo="},
		"nothing says image": {"", "iVBORw0KGgo=", "iVBORw0KGgo="},
	} {
		got, err := v03.FromSend(&old.SendMessageRequest{Request: &old.Message{Parts: []*old.Part{{Part: &old.Part_File{File: &old.FilePart{
			MimeType: c.media, File: &old.FilePart_FileWithBytes{FileWithBytes: []byte(c.bytes)},
		}}}}}})
		if err != nil || string(got.GetMessage().GetParts()[0].GetRaw()) != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestStates: every state of today has a name in each form, and comes back as itself.
func TestStates(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range pb.TaskState_name {
		s := pb.TaskState(n)
		b, err := v03.WriteTask(&pb.Task{Status: &pb.TaskStatus{State: s}})
		if err != nil {
			t.Fatal(err)
		}
		var out struct{ Status struct{ State string } }
		if err := json.Unmarshal(b, &out); err != nil || seen[out.Status.State] || (out.Status.State == "unknown") != (s == 0) {
			t.Errorf("%v: %s", s, b)
		}
		seen[out.Status.State] = true
		back, err := v03.FromList(&old.ListTasksRequest{Status: v03.ToTask(&pb.Task{Status: &pb.TaskStatus{State: s}}).GetStatus().GetState()})
		if err != nil || back.GetStatus() != s {
			t.Errorf("%v comes back as %v, %v", s, back, err)
		}
	}
}

// FuzzRead: whatever comes, nothing panics, and what is read can be written.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"message":{"kind":"message","messageId":"m","role":"user","parts":[{"kind":"text","text":"hi"},{"kind":"file","file":{"bytes":"aGk="}},{"kind":"data","data":{"a":1}}]}}`))
	f.Add([]byte(`{"taskId":"t","pushNotificationConfig":{"url":"u","authentication":{"schemes":["Bearer"]}}}`))
	f.Add([]byte(`{"message":{"messageId":"m","role":"ROLE_USER","content":[{"text":"hi"}],"parts":[]},"history":[{"content":[]}],"task":{"status":{"message":{"content":[1]}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := v03.ReadSend(b); err == nil {
			if _, err := v03.WriteTask(&pb.Task{History: []*pb.Message{m.GetMessage()}}); err != nil {
				t.Error(err)
			}
		}
		_, _ = v03.ReadSetPush(b)
		_, _ = v03.ReadGetPush(b)
		in := &old.SendMessageRequest{}
		if v03.UnmarshalProto(b, in) != nil {
			return
		}
		out, err := v03.MarshalProto(in)
		if err != nil {
			t.Fatal(err)
		}
		back := &old.SendMessageRequest{}
		if err := v03.UnmarshalProto(out, back); err != nil || !proto.Equal(in, back) {
			t.Errorf("%v comes back as %v (%v)", in, back, err)
		}
		_, _ = v03.FromSend(in)
	})
}
