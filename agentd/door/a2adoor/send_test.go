package a2adoor_test

import (
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

func TestSendCompletes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		task := sent(t, c, say("hello-1"))
		switch {
		case task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED:
			t.Errorf("state is %v", task.GetStatus())
		case task.GetId() == "" || task.GetContextId() == "":
			t.Error("no id")
		case len(task.GetArtifacts()) != 1 || task.GetArtifacts()[0].GetParts()[0].GetText() != "Hello hi":
			t.Errorf("artifacts are %v", task.GetArtifacts())
		case len(task.GetHistory()) != 1 || task.GetHistory()[0].GetMessageId() != "hello-1" || task.GetHistory()[0].GetTaskId() != task.GetId():
			t.Errorf("history is %v", task.GetHistory())
		case task.GetStatus().GetTimestamp().AsTime().Nanosecond()%1e6 != 0 || time.Since(task.GetStatus().GetTimestamp().AsTime()) > time.Minute:
			t.Errorf("timestamp is %v", task.GetStatus().GetTimestamp())
		}
		again := sent(t, c, say("hello-1"))
		if again.GetId() == task.GetId() || again.GetContextId() == task.GetContextId() {
			t.Error("the same ids twice")
		}
		kept := sent(t, c, say("hello-2", func(r *pb.SendMessageRequest) { r.Message.ContextId = "mine" }))
		if kept.GetContextId() != "mine" {
			t.Errorf("contextId is %q", kept.GetContextId())
		}
	})
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		for id, want := range map[string]struct {
			state pb.TaskState
			says  string
		}{
			"reject-1": {pb.TaskState_TASK_STATE_REJECTED, "not mine"},
			"fail-1":   {pb.TaskState_TASK_STATE_FAILED, "broken"},
			"ask-1":    {pb.TaskState_TASK_STATE_INPUT_REQUIRED, "Which day?"},
			"auth-1":   {pb.TaskState_TASK_STATE_AUTH_REQUIRED, "Log in at example.com."},
		} {
			task := sent(t, c, say(id))
			m := task.GetStatus().GetMessage()
			if task.GetStatus().GetState() != want.state || m.GetParts()[0].GetText() != want.says || m.GetRole() != pb.Role_ROLE_AGENT || m.GetMessageId() == "" {
				t.Errorf("%s: status is %v", id, task.GetStatus())
			}
			if got := state(t, c, task.GetId()); got != want.state {
				t.Errorf("%s: GetTask says %v", id, got)
			}
		}
		if task := sent(t, c, say("broken-1")); task.GetStatus().GetState() != pb.TaskState_TASK_STATE_FAILED {
			t.Errorf("a model that fails: %v", task.GetStatus())
		}
	})
}

func TestAttachments(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		task := sent(t, c, say("attach-1"))
		a := task.GetArtifacts()
		if len(a) != 1 || a[0].GetName() != "report" || a[0].GetParts()[0].GetData().GetStructValue().GetFields()["count"].GetNumberValue() != 42 {
			t.Errorf("artifacts are %v", a)
		}
		if task.GetStatus().GetMessage() == nil {
			t.Error("the closing words are lost")
		}
		pieces := sent(t, c, say("pieces-1")).GetArtifacts()
		if len(pieces) != 1 || len(pieces[0].GetParts()) != 2 || pieces[0].GetParts()[1].GetText() != "two" {
			t.Errorf("pieces are %v", pieces)
		}
	})
}

func TestLoneMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		for _, config := range []*pb.SendMessageConfiguration{nil, {ReturnImmediately: true}} {
			out := &pb.SendMessageResponse{}
			if f := c.call(t, "SendMessage", say("reply-1", configured(config)), out); f != nil {
				t.Fatal(f)
			}
			m := out.GetMessage()
			if m.GetParts()[0].GetText() != "just a message" || m.GetContextId() == "" || m.GetTaskId() != "" || m.GetRole() != pb.Role_ROLE_AGENT {
				t.Errorf("answer is %v", out)
			}
		}
		var got []*pb.StreamResponse
		if f := c.stream(t.Context(), t, "SendStreamingMessage", say("reply-2"), func(s *pb.StreamResponse) bool { got = append(got, s); return true }); f != nil {
			t.Fatal(f)
		}
		if len(got) != 1 || got[0].GetMessage().GetParts()[0].GetText() != "just a message" {
			t.Errorf("stream is %v", got)
		}
		list := &pb.ListTasksResponse{}
		if f := c.call(t, "ListTasks", &pb.ListTasksRequest{}, list); f != nil || list.GetTotalSize() != 0 {
			t.Errorf("there are tasks: %v %v", list, f)
		}
	})
}

func TestReturnImmediately(t *testing.T) {
	t.Parallel()
	for name, builtins := range map[string][]string{"with reply": nil, "without": {"ask_user"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) {
				if builtins != nil {
					rt.Builtins = builtins
				}
			})
			each(t, r, func(t *testing.T, c client) {
				t.Helper()
				id := "slow-1"
				task := sent(t, c, say(id, configured(&pb.SendMessageConfiguration{ReturnImmediately: true})))
				if s := task.GetStatus().GetState(); s != pb.TaskState_TASK_STATE_SUBMITTED && s != pb.TaskState_TASK_STATE_WORKING {
					t.Errorf("state is %v", s)
				}
				until(t, c, task.GetId(), pb.TaskState_TASK_STATE_WORKING)
				blocking := sent(t, c, say("delayed-1"))
				if blocking.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED || len(blocking.GetArtifacts()) != 1 {
					t.Errorf("blocking gave %v", blocking)
				}
			})
		})
	}
}

func TestInputRequired(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		for _, kind := range []string{"ask-1", "auth-1"} {
			task := sent(t, c, say(kind))
			next := sent(t, c, say("complete-1", at(task.GetId()), func(r *pb.SendMessageRequest) { r.Message.Parts[0].Content = &pb.Part_Text{Text: "Monday"} }))
			if next.GetId() != task.GetId() || next.GetContextId() != task.GetContextId() || next.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
				t.Fatalf("went on as %v", next)
			}
			if got := next.GetArtifacts()[0].GetParts()[0].GetText(); got != "Hello Monday" {
				t.Errorf("the answer to the question became %q", got)
			}
			var roles []pb.Role
			for _, m := range next.GetHistory() {
				roles = append(roles, m.GetRole())
			}
			if len(roles) != 3 || roles[0] != pb.Role_ROLE_USER || roles[1] != pb.Role_ROLE_AGENT || roles[2] != pb.Role_ROLE_USER {
				t.Errorf("history is %v", next.GetHistory())
			}
			failsWith(t, c.call(t, "SendMessage", say("more", at(task.GetId())), &pb.SendMessageResponse{}), "UNSUPPORTED_OPERATION")
		}
		// the same messageId is a new turn, and the same question may come again
		task := sent(t, c, say("ask-2"))
		for range 3 {
			if task = sent(t, c, say("ask-2", at(task.GetId()))); task.GetStatus().GetState() == pb.TaskState_TASK_STATE_COMPLETED {
				return
			}
		}
		t.Errorf("never completed: %v", task)
	})
}

func TestHistoryLength(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		for n, want := range map[int32]int{-1: 3, 0: 0, 1: 1, 2: 2, 10: 3} {
			task := sent(t, c, say("ask-1"))
			config := &pb.SendMessageConfiguration{}
			get, list := &pb.GetTaskRequest{Id: task.GetId()}, &pb.ListTasksRequest{ContextId: task.GetContextId()}
			if n >= 0 {
				config.HistoryLength, get.HistoryLength, list.HistoryLength = new(n), new(n), new(n)
			}
			task = sent(t, c, say("complete-1", at(task.GetId()), configured(config)))
			if got := len(task.GetHistory()); got != want {
				t.Errorf("SendMessage with %d gives %d", n, got)
			}
			out, all := &pb.Task{}, &pb.ListTasksResponse{}
			if f := c.call(t, "GetTask", get, out); f != nil || len(out.GetHistory()) != want {
				t.Errorf("GetTask with %d gives %d (%v)", n, len(out.GetHistory()), f)
			}
			if f := c.call(t, "ListTasks", list, all); f != nil || len(all.GetTasks()[0].GetHistory()) != want {
				t.Errorf("ListTasks with %d gives %d (%v)", n, len(all.GetTasks()[0].GetHistory()), f)
			}
			if n == 1 && out.GetHistory()[0].GetMessageId() != "complete-1" {
				t.Error("the newest message isn't the one that is shown")
			}
		}
		bad := new(int32(-5))
		failsWith(t, c.call(t, "GetTask", &pb.GetTaskRequest{Id: "x", HistoryLength: bad}, &pb.Task{}), "INVALID_PARAMS")
		failsWith(t, c.call(t, "ListTasks", &pb.ListTasksRequest{HistoryLength: bad}, &pb.ListTasksResponse{}), "INVALID_PARAMS")
		failsWith(t, c.call(t, "SendMessage", say("x", configured(&pb.SendMessageConfiguration{HistoryLength: bad})), &pb.SendMessageResponse{}), "INVALID_PARAMS")
	})
}

func TestInvalidMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		done := sent(t, c, say("hello"))
		waiting := sent(t, c, say("ask-1"))
		part := func(p *pb.Part) func(*pb.SendMessageRequest) {
			return func(r *pb.SendMessageRequest) { r.Message.Parts = []*pb.Part{p} }
		}
		for name, x := range map[string]struct {
			req    *pb.SendMessageRequest
			reason string
			field  string
		}{
			"no message":        {&pb.SendMessageRequest{}, "INVALID_PARAMS", "message"},
			"no messageId":      {say(""), "INVALID_PARAMS", "message.messageId"},
			"no role":           {say("m", func(r *pb.SendMessageRequest) { r.Message.Role = 0 }), "INVALID_PARAMS", "message.role"},
			"the agent's role":  {say("m", func(r *pb.SendMessageRequest) { r.Message.Role = pb.Role_ROLE_AGENT }), "INVALID_PARAMS", "message.role"},
			"no parts":          {say("m", func(r *pb.SendMessageRequest) { r.Message.Parts = nil }), "INVALID_PARAMS", "message.parts"},
			"an empty part":     {say("m", part(&pb.Part{MediaType: "text/plain"})), "INVALID_PARAMS", "message.parts[0]"},
			"a file URL":        {say("m", part(&pb.Part{Content: &pb.Part_Url{Url: "file:///etc/passwd"}})), "INVALID_PARAMS", "message.parts[0].url"},
			"a foreign type":    {say("m", part(&pb.Part{Content: &pb.Part_Raw{Raw: []byte("tck")}, MediaType: "application/x-unsupported-tck-type"})), "CONTENT_TYPE_NOT_SUPPORTED", ""},
			"a foreign text":    {say("m", part(&pb.Part{Content: &pb.Part_Text{Text: "x"}, MediaType: "application/pdf"})), "CONTENT_TYPE_NOT_SUPPORTED", ""},
			"bytes of a kind":   {say("m", part(&pb.Part{Content: &pb.Part_Raw{Raw: []byte("%PDF-1.7 ...")}})), "CONTENT_TYPE_NOT_SUPPORTED", ""},
			"unknown task":      {say("m", at("nobodys")), "TASK_NOT_FOUND", ""},
			"terminal task":     {say("m", at(done.GetId())), "UNSUPPORTED_OPERATION", ""},
			"another's context": {say("m", at(waiting.GetId()), func(r *pb.SendMessageRequest) { r.Message.ContextId = "wrong" }), "INVALID_PARAMS", "message.contextId"},
			"a control char":    {say("m\x01"), "INVALID_PARAMS", "message.messageId"},
		} {
			f := c.call(t, "SendMessage", x.req, &pb.SendMessageResponse{})
			failsWith(t, f, x.reason)
			if x.field != "" && (len(f.Fields) != 1 || f.Fields[0] != x.field) {
				t.Errorf("%s: fields are %v", name, f.Fields)
			}
			failsWith(t, c.stream(t.Context(), t, "SendStreamingMessage", x.req, func(*pb.StreamResponse) bool { return true }), x.reason)
		}
		if got := state(t, c, waiting.GetId()); got != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
			t.Errorf("the task that waits is %v", got)
		}
	})
}

func TestInputOfEveryKind(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		req := say("hello", func(r *pb.SendMessageRequest) {
			r.Message.Parts = append(r.Message.Parts,
				&pb.Part{Content: &pb.Part_Raw{Raw: []byte("a,b")}, MediaType: "text/csv; charset=utf-8", Filename: "t.csv"},
				&pb.Part{Content: &pb.Part_Raw{Raw: []byte("\x89PNG\r\n\x1a\n")}},
				&pb.Part{Content: &pb.Part_Url{Url: "https://example.com/f.txt"}, MediaType: "text/plain", Filename: "f.txt"})
		})
		task := sent(t, c, req)
		if got := task.GetArtifacts()[0].GetParts()[0].GetText(); got != "Hello hi\nfile t.csv:\na,b\nfile f.txt: https://example.com/f.txt" {
			t.Errorf("the model got %q", got)
		}
		if len(task.GetHistory()[0].GetParts()) != 4 {
			t.Errorf("history is %v", task.GetHistory())
		}
	})
}
