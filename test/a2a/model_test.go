package a2a

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// tasks is sections 4 to 4.1.3.
func tasks() []requirement {
	out := []requirement{
		{
			id: "DM-1", section: "4", level: must, what: "every binding gives the same task",
			once: func(t *testing.T, w *world) {
				task := w.main.by(jsonrpc, w.alice).reached(t, "two-artifacts", pb.TaskState_TASK_STATE_COMPLETED)
				for _, b := range bindings() {
					if have := w.main.by(b, w.alice).get(t, task.GetId()); !proto.Equal(have, task) {
						t.Errorf("%s gives %v\nwant %v", b, have, task)
					}
				}
			},
		},
		{
			id: "DM-TASK-1", section: "4.1.1", level: must, what: "a task has its id and its status wherever it is shown",
			test: func(t *testing.T, c caller) {
				c = c.in(uuid())
				sent := c.waiting(t)
				shown := append(c.list(t).GetTasks(), sent, c.get(t, sent.GetId()), c.stream(t, subscribeTask, text(t, object{"id": sent.GetId()})).next(t).GetTask())
				for _, task := range shown {
					if task.GetId() != sent.GetId() || task.GetContextId() != sent.GetContextId() || task.GetStatus().GetState() != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
						t.Errorf("the task is %v", task)
					}
				}
				if len(shown) != 4 {
					t.Errorf("shown %d times", len(shown))
				}
			},
		},
		{
			id: "DM-STATUS-1", section: "4.1.2", level: must, what: "a status has a state, and never UNSPECIFIED",
			test: func(t *testing.T, c caller) {
				for _, e := range c.stream(t, streamMessage, message(t, "two-artifacts")).all(t) {
					for _, s := range []*pb.TaskStatus{e.GetTask().GetStatus(), e.GetStatusUpdate().GetStatus()} {
						if s != nil && s.GetState() == pb.TaskState_TASK_STATE_UNSPECIFIED {
							t.Errorf("event %v", e)
						}
					}
				}
			},
		},
		{
			id: "DM-STATUS-2", section: "4.1.2", level: must, what: "a status's time is ISO 8601",
			test: func(t *testing.T, c caller) {
				a := c.ask(t, getTask, text(t, object{"id": c.completed(t).GetId()}))
				status, ok := plainJSON(t, a.result)["status"].(map[string]any)
				if at, _ := status["timestamp"].(string); !ok || !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$`).MatchString(at) {
					t.Errorf("the status is %v", status)
				}
			},
		},
		{
			id: "DM-STATE-1", section: "4.1.3", level: must, what: "a task that is over stays as it is",
			test: func(t *testing.T, c caller) {
				for _, task := range c.terminal(t) {
					c.ask(t, sendMessage, message(t, "tck-complete-task", "message.taskId", task.GetId()))
					c.ask(t, cancelTask, text(t, object{"id": task.GetId()}))
					if have := c.get(t, task.GetId()); !proto.Equal(have, task) {
						t.Errorf("it was %v\nand is %v", task, have)
					}
				}
			},
		},
		{
			id: "DM-STATE-2", section: "4.1.3", level: must, what: "a task that is worked on is SUBMITTED or WORKING",
			test: func(t *testing.T, c caller) {
				c.until(t, c.working(t).GetId(), pb.TaskState_TASK_STATE_WORKING)
			},
		},
	}
	for _, s := range []struct {
		id, prefix, what string
		state            pb.TaskState
	}{
		{"DM-STATE-3", "tck-complete-task", "a task that succeeded is COMPLETED", pb.TaskState_TASK_STATE_COMPLETED},
		{"DM-STATE-4", "tck-fail", "a task that ended by an error is FAILED", pb.TaskState_TASK_STATE_FAILED},
		{"DM-STATE-5", "tck-reject", "a task that the agent won't do is REJECTED", pb.TaskState_TASK_STATE_REJECTED},
		{"DM-STATE-6", "tck-input-required", "a task that needs the user's input is INPUT_REQUIRED", pb.TaskState_TASK_STATE_INPUT_REQUIRED},
		{"DM-STATE-7", "tck-auth-required", "a task that needs credentials is AUTH_REQUIRED", pb.TaskState_TASK_STATE_AUTH_REQUIRED},
	} {
		out = append(out, requirement{
			id: s.id, section: "4.1.3", level: must, what: s.what,
			test: func(t *testing.T, c caller) { c.reached(t, s.prefix, s.state) },
		})
	}
	return append(out, requirement{
		id: "DM-STATE-8", section: "4.1.3", level: must, what: "a task that was canceled is CANCELED",
		test: func(t *testing.T, c caller) {
			have := &pb.Task{}
			c.must(t, cancelTask, text(t, object{"id": c.waiting(t).GetId()}), have)
			if s := have.GetStatus().GetState(); s != pb.TaskState_TASK_STATE_CANCELED {
				t.Errorf("it is %s", s)
			}
		},
	})
}

// messages is sections 4.1.4 and 4.1.5.
func messages() []requirement {
	return []requirement{
		{
			id: "DM-MSG-1", section: "4.1.4", level: must, what: "a message of the agent has an id, its role, its context, its parts, and its task where there is one",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				if m := task.GetStatus().GetMessage(); m.GetMessageId() == "" || m.GetRole() != pb.Role_ROLE_AGENT || m.GetContextId() != task.GetContextId() || m.GetTaskId() != task.GetId() || len(m.GetParts()) == 0 {
					t.Errorf("the question is %v", m)
				}
				out := &pb.SendMessageResponse{}
				c.at(c.world.open).must(t, sendMessage, message(t, "tck-message-response"), out)
				if m := out.GetMessage(); m.GetMessageId() == "" || m.GetRole() != pb.Role_ROLE_AGENT || m.GetContextId() == "" || m.GetTaskId() != "" || len(m.GetParts()) == 0 {
					t.Errorf("the answer is %v", m)
				}
			},
		},
		{
			id: "DM-MSG-2", section: "4.1.4", level: must, what: "a caller's message has an id",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.messageId", nil), "INVALID_PARAMS")
			},
		},
		{
			id: "DM-MSG-3", section: "4.1.4", level: must, what: "a caller's message has parts",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.parts", nil), "INVALID_PARAMS")
			},
		},
		{
			id: "DM-MSG-4", section: "4.1.5", level: must, what: "a caller's message has a role, which is ROLE_USER",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.role", nil), "INVALID_PARAMS")
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.role", "ROLE_AGENT"), "INVALID_PARAMS")
			},
		},
		{
			id: "DM-MSG-5", section: "4.1.4", level: must, what: "a message's context and task, if both are given, belong together",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t)
				c.refused(t, sendMessage, message(t, "echo", "message.taskId", task.GetId(), "message.contextId", uuid()), "INVALID_PARAMS")
				c.send(t, message(t, "echo", "message.taskId", task.GetId(), "message.contextId", task.GetContextId()))
			},
		},
		{
			id: "DM-MSG-6", section: "4.1.4", level: may, what: "a message may carry metadata, extensions and references, and keeps them",
			test: func(t *testing.T, c caller) {
				first := c.completed(t)
				task := c.completed(t, "message.metadata", anyJSON(), "message.extensions", []any{"https://example.com/x/v1"}, "message.referenceTaskIds", []any{first.GetId()})
				m := c.get(t, task.GetId()).GetHistory()[0]
				if text(t, m.GetMetadata().AsMap()) != text(t, anyJSON()) || len(m.GetExtensions()) != 1 || m.GetReferenceTaskIds()[0] != first.GetId() {
					t.Errorf("the message is %v", m)
				}
			},
		},
	}
}

// parts is section 4.1.6.
func parts() []requirement {
	return []requirement{
		{
			id: "DM-PART-1", section: "4.1.6", level: must, what: "a part with none of text, raw, url and data is refused",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.parts", []any{object{"filename": "x.txt"}}), "INVALID_PARAMS")
			},
		},
		{
			id: "DM-PART-2", section: "4.1.6", level: must, what: "a part with two of them is refused",
			test: func(t *testing.T, c caller) {
				c.refused(t, sendMessage, message(t, "tck-complete-task", "message.parts", []any{object{"text": "x", "url": "https://example.com/"}}), "INVALID_PARAMS")
			},
			on: []binding{jsonrpc, rest}, without: "protobuf can't say it",
		},
		{
			id: "DM-PART-3", section: "4.1.6", level: must, what: "parts of each kind are taken, and kept as they were",
			test: func(t *testing.T, c caller) {
				sent := []any{
					object{"text": "words", "mediaType": "text/markdown", "metadata": anyJSON()},
					object{"raw": base64.StdEncoding.EncodeToString([]byte{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'}), "mediaType": "image/png", "filename": "a.png"},
					object{"url": "https://example.com/b.csv", "mediaType": "text/csv", "filename": "b.csv"},
					object{"data": anyJSON()},
				}
				task := c.completed(t, "message.parts", sent)
				want := &pb.Message{}
				strictly(t, []byte(text(t, object{"parts": sent})), want)
				have := c.get(t, task.GetId()).GetHistory()[0]
				if !proto.Equal(&pb.Message{Parts: have.GetParts()}, want) {
					t.Errorf("have %v\nwant %v", have.GetParts(), want.GetParts())
				}
			},
		},
		{
			id: "DM-PART-4", section: "4.1.6", level: must, what: "data is any JSON: object, array, string, number, boolean or null",
			test: func(t *testing.T, c caller) {
				for _, v := range []any{anyJSON(), []any{1, "a"}, "s", 1.25, true, nil} {
					task := c.completed(t, "message.parts", []any{object{"data": v}})
					have := c.get(t, task.GetId()).GetHistory()[0].GetParts()
					b, err := protojson.Marshal(have[0].GetData())
					if err != nil || plain(t, b) != text(t, v) {
						t.Errorf("sent %s, have %s", text(t, v), b)
					}
				}
			},
		},
		{
			id: "DM-PART-5", section: "4.1.6", level: must, what: "bytes are base64 in JSON",
			test: func(t *testing.T, c caller) {
				a := c.ask(t, getTask, text(t, object{"id": c.completed(t, "message.parts", []any{object{"raw": "dGNr", "mediaType": "text/plain"}}).GetId()}))
				var in struct {
					History []struct {
						Parts []struct {
							Raw string `json:"raw"`
						} `json:"parts"`
					} `json:"history"`
				}
				if err := json.Unmarshal(a.result, &in); err != nil || in.History[0].Parts[0].Raw != "dGNr" {
					t.Errorf("the task is %s", a.body)
				}
			},
			on: []binding{jsonrpc, rest}, without: "gRPC has bytes",
		},
		{
			id: "DM-PART-6", section: "4.1.6", level: must, what: "artifacts of the agent have parts of each kind",
			test: func(t *testing.T, c caller) {
				for prefix, want := range map[string]*pb.Part{
					"tck-artifact-text":     {Content: &pb.Part_Text{Text: "Generated text content"}},
					"tck-artifact-file":     {Content: &pb.Part_Raw{Raw: []byte("tck")}, Filename: "output.txt", MediaType: "text/plain"},
					"tck-artifact-file-url": {Content: &pb.Part_Url{Url: "https://example.com/output.txt"}, Filename: "output.txt", MediaType: "text/plain"},
				} {
					task := c.reached(t, prefix, pb.TaskState_TASK_STATE_COMPLETED)
					if have := task.GetArtifacts()[0].GetParts()[0]; !proto.Equal(have, want) {
						t.Errorf("%s: %v, want %v", prefix, have, want)
					}
				}
				data := c.reached(t, "tck-artifact-data", pb.TaskState_TASK_STATE_COMPLETED).GetArtifacts()[0].GetParts()[0].GetData()
				if data.GetStructValue().GetFields()["count"].GetNumberValue() != 42 {
					t.Errorf("the data is %v", data)
				}
			},
		},
	}
}

// artifacts is section 4.1.7.
func artifacts() []requirement {
	return []requirement{
		{
			id: "DM-ART-1", section: "4.1.7", level: must, what: "an artifact has an id of its own within the task",
			test: func(t *testing.T, c caller) {
				task := c.reached(t, "two-artifacts", pb.TaskState_TASK_STATE_COMPLETED)
				have := task.GetArtifacts()
				if len(have) != 2 || have[0].GetArtifactId() == "" || have[0].GetArtifactId() == have[1].GetArtifactId() {
					t.Errorf("artifacts %v", have)
				}
			},
		},
		{
			id: "DM-ART-2", section: "4.1.7", level: must, what: "an artifact has a part at least",
			test: func(t *testing.T, c caller) {
				for _, prefix := range []string{"tck-complete-task", "two-artifacts", "tck-artifact-chunked", "tck-stream"} {
					for _, a := range c.reached(t, prefix, pb.TaskState_TASK_STATE_COMPLETED).GetArtifacts() {
						if len(a.GetParts()) == 0 {
							t.Errorf("%s: %v", prefix, a)
						}
					}
				}
			},
		},
		{
			id: "DM-ART-3", section: "4.1.7", level: may, what: "an artifact may have a name and a description",
			test: func(t *testing.T, c caller) {
				a := c.reached(t, "named", pb.TaskState_TASK_STATE_COMPLETED).GetArtifacts()[0]
				if a.GetName() != "report" || a.GetDescription() != "What was found." {
					t.Errorf("the artifact is %v", a)
				}
			},
		},
		{
			id: "DM-ART-4", section: "4.1.7", level: may, what: "an artifact may have metadata and extensions",
			without: "not done: nothing makes them; the agent declares no extensions of its own",
		},
	}
}

// events is section 4.2.
func events() []requirement {
	return []requirement{
		{
			id: "DM-EVENT-1", section: "4.2.1", level: must, what: "an update of a status names the task, its context and the status",
			test: func(t *testing.T, c caller) {
				all := c.stream(t, streamMessage, message(t, "tck-complete-task")).all(t)
				task := all[0].GetTask()
				for _, e := range all[1:] {
					if u := e.GetStatusUpdate(); u != nil && (u.GetTaskId() != task.GetId() || u.GetContextId() != task.GetContextId() || u.GetStatus() == nil) {
						t.Errorf("the update is %v", u)
					}
				}
			},
		},
		{
			id: "DM-EVENT-2", section: "4.2.2", level: must, what: "an update of an artifact names the task, its context and the artifact",
			test: func(t *testing.T, c caller) {
				all := c.stream(t, streamMessage, message(t, "two-artifacts")).all(t)
				task, n := all[0].GetTask(), 0
				for _, e := range all[1:] {
					if u := e.GetArtifactUpdate(); u != nil {
						n++
						if u.GetTaskId() != task.GetId() || u.GetContextId() != task.GetContextId() || u.GetArtifact().GetArtifactId() == "" || len(u.GetArtifact().GetParts()) == 0 {
							t.Errorf("the update is %v", u)
						}
					}
				}
				if n < 2 {
					t.Errorf("%d updates", n)
				}
			},
		},
		{
			id: "DM-EVENT-3", section: "4.2.2", level: must, what: "a piece with append follows what was sent of the artifact: together they are what GetTask gives",
			test: func(t *testing.T, c caller) {
				for _, prefix := range []string{"tck-stream", "tck-stream-artifact-chunked"} {
					all := c.stream(t, streamMessage, message(t, prefix)).all(t)
					appended := false
					for _, e := range all {
						appended = appended || e.GetArtifactUpdate().GetAppend()
					}
					if have := c.get(t, all[0].GetTask().GetId()).GetArtifacts(); !appended || !sameArtifacts(rebuilt(t, all), have) {
						t.Errorf("%s: the stream told %v\nthe task has %v", prefix, rebuilt(t, all), have)
					}
				}
			},
		},
		{
			id: "DM-EVENT-4", section: "4.2.2", level: must, what: "lastChunk is on the last piece of an artifact, and on no other",
			test: func(t *testing.T, c caller) {
				for _, prefix := range []string{"tck-stream-artifact-chunked", "two-artifacts"} {
					var last []*pb.TaskArtifactUpdateEvent
					for _, e := range c.stream(t, streamMessage, message(t, prefix)).all(t) {
						u := e.GetArtifactUpdate()
						for i, before := range last {
							if u != nil && before.GetArtifact().GetArtifactId() == u.GetArtifact().GetArtifactId() {
								if before.GetLastChunk() {
									t.Errorf("%s: a piece after the last: %v", prefix, u)
								}
								last = append(last[:i], last[i+1:]...)
								break
							}
						}
						if u != nil {
							last = append(last, u)
						}
					}
					for _, u := range last {
						if !u.GetLastChunk() {
							t.Errorf("%s: the last piece is %v", prefix, u)
						}
					}
				}
			},
		},
	}
}

// checkCard wants what a card must have.
func checkCard(t *testing.T, card *pb.AgentCard) {
	t.Helper()
	if card.GetName() == "" || card.GetDescription() == "" || card.GetVersion() == "" || card.GetCapabilities() == nil || len(card.GetDefaultInputModes()) == 0 ||
		len(card.GetDefaultOutputModes()) == 0 || len(card.GetSkills()) == 0 || len(card.GetSupportedInterfaces()) == 0 {
		t.Errorf("the card lacks something: %v", card)
	}
	for _, s := range card.GetSkills() {
		if s.GetId() == "" || s.GetName() == "" || s.GetDescription() == "" || len(s.GetTags()) == 0 {
			t.Errorf("the skill lacks something: %v", s)
		}
	}
	for _, at := range card.GetSupportedInterfaces() {
		if at.GetUrl() == "" || at.GetProtocolBinding() == "" || at.GetProtocolVersion() == "" {
			t.Errorf("the interface lacks something: %v", at)
		}
	}
}

// cards is sections 4.4 and 4.5, of what the card's own objects need; section 8 has the rest.
func cards() []requirement {
	return []requirement{
		{
			id: "DM-CARD-1", section: "4.4.1", level: must, what: "a card has name, description, version, interfaces, capabilities, input and output modes, and skills",
			once: func(t *testing.T, w *world) {
				for _, a := range []*agent{w.main, w.open, w.plain} {
					checkCard(t, a.card)
				}
			},
		},
		{
			id: "DM-CARD-2", section: "4.4.2", level: must, what: "a provider has a url and an organization",
			without: "the card names no provider",
		},
		{
			id: "DM-CARD-3", section: "4.4.5", level: must, what: "a skill has id, name, description and tags",
			once: func(t *testing.T, w *world) {
				checkCard(t, w.main.card)
				if s := w.main.card.GetSkills()[0]; s.GetId() != "conformance" || s.GetName() != "Conformance" || s.GetTags()[0] != "a2a" {
					t.Errorf("the skill is %v", s)
				}
			},
		},
		{
			id: "DM-CARD-4", section: "4.4.6", level: must, what: "an interface has an absolute url, a binding and the version 1.0",
			once: func(t *testing.T, w *world) {
				for _, at := range w.main.card.GetSupportedInterfaces() {
					u, err := url.Parse(at.GetUrl())
					if at.GetProtocolVersion() != "1.0" || at.GetProtocolBinding() != "GRPC" && (err != nil || !u.IsAbs()) {
						t.Errorf("the interface is %v", at)
					}
				}
			},
		},
		{
			id: "DM-CARD-5", section: "4.4.7", level: must, what: "a signature has protected and signature",
			once: func(t *testing.T, w *world) {
				all := w.main.card.GetSignatures()
				if len(all) == 0 {
					t.Fatal("the card is not signed")
				}
				for _, s := range all {
					header, err := base64.RawURLEncoding.DecodeString(s.GetProtected())
					if _, bad := base64.RawURLEncoding.DecodeString(s.GetSignature()); err != nil || bad != nil || s.GetSignature() == "" || plainJSON(t, header)["alg"] == nil {
						t.Errorf("the signature is %v", s)
					}
				}
			},
		},
		{
			id: "DM-SEC-1", section: "4.5.1", level: must, what: "a security scheme is exactly one of its kinds",
			once: func(t *testing.T, w *world) {
				all := w.main.card.GetSecuritySchemes()
				if len(all) == 0 {
					t.Fatal("no schemes")
				}
				for name, s := range all { // strict reading refuses two
					if s.GetScheme() == nil {
						t.Errorf("%s is none", name)
					}
				}
			},
		},
		{
			id: "DM-SEC-2", section: "4.5.2", level: must, what: "a scheme of an API key says where it goes, and under which name",
			once: func(t *testing.T, w *world) {
				key := w.main.card.GetSecuritySchemes()["apiKey"].GetApiKeySecurityScheme()
				if key.GetLocation() != "header" || key.GetName() == "" {
					t.Fatalf("the scheme is %v", key)
				}
				for _, b := range bindings() {
					w.main.by(b, "").with(key.GetName(), w.alice).completed(t)
				}
			},
		},
		{
			id: "DM-SEC-3", section: "4.5.3", level: must, what: "a scheme of HTTP authentication names it",
			once: func(t *testing.T, w *world) {
				if s := w.main.card.GetSecuritySchemes()["bearer"].GetHttpAuthSecurityScheme(); s.GetScheme() != "Bearer" {
					t.Errorf("the scheme is %v", s)
				}
			},
		},
		{
			id: "DM-SEC-4", section: "4.5.4", level: must, what: "OAuth 2.0, OpenID Connect and mutual TLS schemes have what belongs to them (4.5.4 to 4.5.10)",
			without: "the door takes keys only, and the card names no other scheme",
		},
	}
}
