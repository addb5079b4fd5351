package a2adoor_test

import (
	"net/http"
	"strings"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/grpc/metadata"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

// A request that names two versions is refused, whichever they are: what passes it on may look at another one.
func TestTwoVersions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*run.Runtime, *a2adoor.Config){
		"1.0":         func(*run.Runtime, *a2adoor.Config) {},
		"1.0 and 0.3": func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.V03 = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, change)
			for _, versions := range [][2]string{{"1.0", "0.3"}, {"0.3", "1.0"}, {"1.0", "1.0"}, {"0.3", "0.3"}, {"", "1.0"}} {
				header := []string{"Content-Type", "application/json", "A2A-Version", versions[0], "A2A-Version", versions[1]}
				resp, body := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks", "", header...)
				if resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "INVALID_REQUEST") {
					t.Errorf("HTTP+JSON %q: %s %s", versions, resp.Status, body)
				}
				for _, method := range []string{"GetTask", "SubscribeToTask", "tasks/get"} {
					_, body = ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":{"id":"x"}}`, header...)
					if !strings.Contains(body, "-32600") || !strings.Contains(body, "more than one A2A-Version") {
						t.Errorf("JSON-RPC %s %q: %s", method, versions, body)
					}
				}
				ctx := metadata.AppendToOutgoingContext(t.Context(), "a2a-version", versions[0], "a2a-version", versions[1])
				c, ok := r.bindings(t, "")["GRPC"].(grpcClient)
				if !ok {
					t.Fatal("no gRPC client")
				}
				_, err := c.svc.GetTask(ctx, &pb.GetTaskRequest{Id: "x"})
				failsWith(t, grpcFault(t, err), "INVALID_REQUEST")
			}
			if resp, body := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks?A2A-Version=1.0&A2A-Version=0.3", ""); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "INVALID_REQUEST") {
				t.Errorf("by query: %s %s", resp.Status, body)
			}
			if resp, body := ask(t, http.MethodGet, r.URL+"/a2a/v1/tasks?A2A-Version=1.0", ""); resp.StatusCode != http.StatusOK {
				t.Errorf("one by query: %s %s", resp.Status, body)
			}
		})
	}
}

// A path and a body may name one tenant, not two; what a body names counts for everything that has one.
func TestTheTenantOfPathAndBody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hook := newHook(t, 0)
	tenanted := func(body string) string { return `{"tenant":"acme",` + body[1:] }
	do := func(method, path, body string) (int, string) {
		resp, answer := ask(t, method, r.URL+path, body, "Content-Type", "application/json", "A2A-Version", "1.0")
		return resp.StatusCode, answer
	}
	asks := sent(t, r.bindings(t, "")["HTTP+JSON"], say("ask-1", func(r *pb.SendMessageRequest) { r.Tenant = "acme" })).GetId()
	for path, body := range map[string]string{
		"message:send": hello, "message:stream": hello, "tasks/" + asks + ":cancel": `{"metadata":{}}`,
		"tasks/" + asks + "/pushNotificationConfigs": `{"url":"` + hook.URL + `"}`,
	} {
		if code, answer := do(http.MethodPost, "/a2a/v1/other/"+path, tenanted(body)); code != http.StatusBadRequest || !strings.Contains(answer, "INVALID_PARAMS") || !strings.Contains(answer, "tenant") {
			t.Errorf("two tenants, %s: %d %s", path, code, answer)
		}
		if code, answer := do(http.MethodPost, "/a2a/v1/"+path, strings.Replace(tenanted(body), "acme", `a\u0001`, 1)); code != http.StatusBadRequest || !strings.Contains(answer, "INVALID_PARAMS") {
			t.Errorf("a tenant with a control character, %s: %d %s", path, code, answer)
		}
	}
	for _, prefix := range []string{"/a2a/v1/", "/a2a/v1/acme/"} {
		for _, path := range []string{"message:send", "message:stream"} {
			if code, answer := do(http.MethodPost, prefix+path, tenanted(hello)); code != http.StatusOK {
				t.Errorf("%s%s: %d %s", prefix, path, code, answer)
			}
		}
	}
	if code, answer := do(http.MethodPost, "/a2a/v1/tasks/"+asks+"/pushNotificationConfigs", tenanted(`{"url":"`+hook.URL+`"}`)); code != http.StatusOK || !strings.Contains(answer, `"tenant":"acme"`) {
		t.Errorf("a config by the body's tenant: %d %s", code, answer)
	}
	if code, answer := do(http.MethodPost, "/a2a/v1/tasks/"+asks+":cancel", tenanted(`{"metadata":{}}`)); code != http.StatusOK || !strings.Contains(answer, "CANCELED") {
		t.Errorf("a cancel by the body's tenant: %d %s", code, answer)
	}
}

// An address that is told of a task keeps its secrets where they are treated as such.
func TestNoUserInAnAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		asks := sent(t, c, say("ask-1"))
		for _, address := range []string{"https://ann:secret@127.0.0.1/x", "http://ann@127.0.0.1/", "http://:secret@127.0.0.1/", "http://@127.0.0.1/"} {
			f := c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: asks.GetId(), Url: address}, &pb.TaskPushNotificationConfig{})
			if failsWith(t, f, "INVALID_PARAMS"); len(f.Fields) != 1 || !strings.HasSuffix(f.Fields[0], ".url") {
				t.Errorf("%s: %+v", address, f)
			}
		}
	})
}
