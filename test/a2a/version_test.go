package a2a

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// about gives a request of each operation about a task.
func about(t *testing.T, task string) map[string]string {
	t.Helper()
	one := text(t, object{"id": task})
	out := pushOperations(t, task)
	out[sendMessage] = message(t, "tck-complete-task", "message.taskId", task)
	out[streamMessage] = out[sendMessage]
	out[getTask], out[cancelTask], out[subscribeTask] = one, one, one
	out[listTasks], out[extendedCard] = `{}`, `{}`
	return out
}

// versions is section 3.6.
func versions() []requirement {
	return []requirement{
		{
			id: "VERS-1", section: "3.6", level: must, what: "a version's patch number doesn't count",
			test: func(t *testing.T, c caller) {
				c.with("A2A-Version", "1.0.7").completed(t)
			},
		},
		{
			id: "VERS-2", section: "3.6", level: should, what: "the card's versions have no patch number",
			once: func(t *testing.T, w *world) {
				for _, i := range w.main.card.GetSupportedInterfaces() {
					if strings.Count(i.GetProtocolVersion(), ".") != 1 {
						t.Errorf("%v", i)
					}
				}
			},
		},
		onClients("VERS-3", "3.6.1", must, "a client names its version with each request"),
		{
			id: "VERS-4", section: "3.6.1", level: may, what: "the version may be a query parameter",
			on: []binding{jsonrpc, rest}, without: "gRPC has no query parameters",
			test: func(t *testing.T, c caller) {
				c = c.with("A2A-Version", "")
				if c.binding == rest {
					if a := c.fetch(t.Context(), t, http.MethodGet, c.address[rest]+"/tasks?A2A-Version=1.0", ""); a.fault != nil {
						t.Errorf("%+v", a.fault)
					}
					return
				}
				if a := c.postTo(t, c.address[jsonrpc]+"?A2A-Version=1.0", rpcRequest(listTasks, `{}`)); a.fault != nil {
					t.Errorf("%+v", a.fault)
				}
			},
		},
		{
			id: "VERS-5", section: "3.6.2", level: must, what: "a request is answered by the semantics of the version that it names",
			test: func(t *testing.T, c caller) {
				task := c.with("A2A-Version", "1.0").completed(t)
				if task.GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED { // which 0.3 wrote "completed"
					t.Errorf("it is %v", task)
				}
			},
		},
		{
			id: "VERS-6", section: "3.6.2", level: must, what: "every operation refuses a version that isn't served by VersionNotSupported",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				for op, request := range about(t, task) {
					for _, version := range []string{"0.2", "1.1", "2.0", "99.0"} {
						c.with("A2A-Version", version).refused(t, op, request, "VERSION_NOT_SUPPORTED")
					}
				}
				if s := c.get(t, task).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_INPUT_REQUIRED {
					t.Errorf("the refused requests left the task %s", s)
				}
			},
		},
		{
			id: "VERS-7", section: "3.6.2", level: must, what: "a request without a version is one of 0.3, which is refused where it isn't switched on",
			test: func(t *testing.T, c caller) {
				for op, request := range about(t, uuid()) {
					f := c.with("A2A-Version", "").refused(t, op, request, "VERSION_NOT_SUPPORTED")
					if !strings.Contains(f.message, "0.3") {
						t.Errorf("%s: %s", op, f.message)
					}
				}
			},
		},
		{
			id: "VERS-8", section: "3.6.2", level: may, what: "an agent may have interfaces of several versions: 1.0, and 0.3 by expose.a2a.v03",
			elsewhere: "agentd/door/a2adoor: TestVersionsWithLegacy",
		},
		{
			id: "VERS-9", section: "3.6.2", level: should, what: "a refusal says which versions are served",
			test: func(t *testing.T, c caller) {
				f := c.with("A2A-Version", "9.9").refused(t, getTask, text(t, object{"id": uuid()}), "VERSION_NOT_SUPPORTED")
				meta, _ := f.detail("ErrorInfo")["metadata"].(map[string]any)
				if served, _ := meta["supportedVersions"].(string); !strings.Contains(served, "1.0") {
					t.Errorf("it says %v", f)
				}
			},
		},
		{
			id: "VERS-10", section: "14.2.1", level: must, what: "a version is major, a point, and minor: anything else is VersionNotSupported",
			test: func(t *testing.T, c caller) {
				for _, version := range []string{"1", "v1.0", "1.0.x", "one", "1.0, 2.0", "-1.0"} {
					c.with("A2A-Version", version).refused(t, listTasks, `{}`, "VERSION_NOT_SUPPORTED")
				}
			},
		},
		{
			id: "VERS-11", section: "3.6.3", level: must, what: "the library negotiates transport and version",
			without: "on clients",
		},
	}
}

// extensions is section 4.6.
func extensions() []requirement {
	const unknown = "https://example.com/extensions/unknown/v9"
	required := func(id, what string) requirement {
		return requirement{id: id, section: "4.6.3", level: must, what: what, elsewhere: "agentd/door/a2adoor: TestRequiredExtensions"}
	}
	return []requirement{
		{
			id: "EXTN-1", section: "4.6.1", level: must, what: "the card names the extensions that are served, and no other",
			once: func(t *testing.T, w *world) {
				if x := w.main.card.GetCapabilities().GetExtensions(); len(x) != 0 {
					t.Errorf("the card has %v", x)
				}
			},
		},
		{
			id: "EXTN-2", section: "4.6.3", level: should, what: "an extension that isn't served is ignored, and not named in the answer",
			test: func(t *testing.T, c caller) {
				for _, value := range []string{unknown, unknown + ", https://example.com/extensions/other/v1", ","} {
					a := c.with("A2A-Extensions", value).must(t, sendMessage, message(t, "tck-complete-task"), &pb.SendMessageResponse{})
					if on := a.header.Get("A2A-Extensions"); on != "" {
						t.Errorf("%s: the answer names %s", value, on)
					}
				}
			},
		},
		required("EXTN-3", "a request without an extension that the card requires is refused by ExtensionSupportRequired"),
		required("EXTN-4", "another version of a required extension doesn't do: there is no fallback"),
		{
			id: "EXTN-5", section: "4.6.2", level: may, what: "a message may have extensions and their metadata, which are kept",
			test: func(t *testing.T, c caller) {
				meta := object{unknown: object{"latitude": 37.7749, "tags": []any{"a", "b"}}}
				task := c.completed(t, "message.extensions", []any{unknown}, "message.metadata", meta)
				first := c.get(t, task.GetId()).GetHistory()[0]
				if !slices.Equal(first.GetExtensions(), []string{unknown}) || text(t, first.GetMetadata().AsMap()) != text(t, meta) {
					t.Errorf("the message is %v", first)
				}
			},
		},
		{
			id: "EXTN-6", section: "4.6.2", level: may, what: "artifacts may have data of extensions",
			without: "not done: agentd has no extension that adds any",
		},
		{
			id: "EXTN-7", section: "4.6.3", level: should, what: "an extension's URI has its version",
			without: "on who defines extensions: agentd defines none",
		},
		{
			id: "EXTN-8", section: "4.6.3", level: must, what: "an extension that breaks what was gets a new URI",
			without: "on who defines extensions: agentd defines none",
		},
	}
}
