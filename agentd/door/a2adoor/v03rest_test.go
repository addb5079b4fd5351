package a2adoor_test

import (
	"encoding/json"
	"net/http"
	"testing"
)

// TestLegacyHTTP: paths, bodies and errors of the HTTP+JSON binding.
func TestLegacyHTTP(t *testing.T) {
	t.Parallel()
	r := newRig03(t)
	do := func(method, path, body string) (int, map[string]any) {
		t.Helper()
		resp, b := ask(t, method, r.URL+"/a2a/v1/"+path, body, "Content-Type", "application/json")
		var m map[string]any
		if b != "" {
			if err := json.Unmarshal([]byte(b), &m); err != nil || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%s %s: %v %s", method, path, resp.Header, b)
			}
		}
		return resp.StatusCode, m
	}
	status, sent := do(http.MethodPost, "message:send", `{"request":{"messageId":"ask","role":"ROLE_USER","parts":[{"text":"hi"}]},"configuration":{"blocking":true}}`) // by the names of the proto
	id, _ := at03(sent, "task", "id").(string)
	if status != http.StatusOK || at03(sent, "task", "status", "state") != "TASK_STATE_INPUT_REQUIRED" || at03(sent, "task", "history", 0, "content", 0, "text") != "hi" ||
		at03(sent, "task", "status", "message", "content", 0, "text") != "Which day?" || at03(sent, "task", "history", 0, "parts") != nil {
		t.Fatalf("%d %v", status, sent)
	}
	if status, got := do(http.MethodPost, "message:send", `{"message":{"messageId":"slow","role":"ROLE_USER","content":[{"text":"hi"}]},"configuration":{}}`); status != http.StatusOK || at03(got, "task", "artifacts") != nil {
		t.Errorf("who doesn't block: %d %v", status, got)
	} else if slow, _ := at03(got, "task", "id").(string); slow != "" {
		if status, got := do(http.MethodPost, "tasks/"+slow+":cancel", ""); status != http.StatusOK || at03(got, "status", "state") != "TASK_STATE_CANCELLED" {
			t.Errorf("cancel: %d %v", status, got)
		}
		if status, got := do(http.MethodGet, "tasks?status=TASK_STATE_CANCELLED&includeArtifacts=true", ""); status != http.StatusOK || at03(got, "tasks", 0, "id") != slow || at03(got, "totalSize") != 1.0 {
			t.Errorf("list: %d %v", status, got)
		}
	}
	if status, got := do(http.MethodGet, "tasks/"+id+"?historyLength=1", ""); status != http.StatusOK || at03(got, "id") != id {
		t.Errorf("get: %d %v", status, got)
	}
	// The config alone, as one client sends it, and in its request, as another does.
	for _, body := range []string{`{"pushNotificationConfig":{"url":"https://example.com/"}}`, `{"parent":"tasks/` + id + `","configId":"b","config":{"pushNotificationConfig":{"url":"https://example.com/","authentication":{"schemes":["Bearer"],"credentials":"c"}}}}`} {
		if status, got := do(http.MethodPost, "tasks/"+id+"/pushNotificationConfigs", body); status != http.StatusOK || at03(got, "pushNotificationConfig", "url") != "https://example.com/" {
			t.Errorf("%s: %d %v", body, status, got)
		}
	}
	if status, got := do(http.MethodGet, "tasks/"+id+"/pushNotificationConfigs/b", ""); status != http.StatusOK || at03(got, "name") != "tasks/"+id+"/pushNotificationConfigs/b" {
		t.Errorf("get push: %d %v", status, got)
	}
	if status, got := do(http.MethodGet, "tasks/"+id+"/pushNotificationConfigs", ""); status != http.StatusOK || at03(got, "configs", 1) == nil || at03(got, "configs", 2) != nil {
		t.Errorf("list pushes: %d %v", status, got)
	}
	if status, got := do(http.MethodDelete, "tasks/"+id+"/pushNotificationConfigs/b", ""); status != http.StatusNoContent || got != nil {
		t.Errorf("delete push: %d %v", status, got)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               float64
	}{
		"no such task":      {http.MethodGet, "tasks/nobodys", "", 404, -32001},
		"no such place":     {http.MethodGet, "paint", "", 404, -32601},
		"a tenant":          {http.MethodGet, "shop/tasks", "", 404, -32601},
		"a path of 1.0":     {http.MethodGet, "extendedAgentCard", "", 404, -32601},
		"another method":    {http.MethodGet, "message:send", "", 405, -32600},
		"no JSON":           {http.MethodPost, "message:send", "{", 400, -32700},
		"not an object":     {http.MethodPost, "message:send", "[]", 400, -32602},
		"no message":        {http.MethodPost, "message:send", "{}", 400, -32602},
		"an odd number":     {http.MethodGet, "tasks/" + id + "?historyLength=x", "", 400, -32602},
		"an odd time":       {http.MethodGet, "tasks?lastUpdatedTime=noon", "", 400, -32602},
		"no extended card":  {http.MethodGet, "card", "", 400, -32007},
		"a stream of none":  {http.MethodPost, "message:stream", "{}", 400, -32602},
		"a reader of none":  {http.MethodGet, "tasks/nobodys:subscribe", "", 404, -32001},
		"a config of whom":  {http.MethodPost, "tasks/nobodys/pushNotificationConfigs", `{"pushNotificationConfig":{"url":"https://example.com/"}}`, 404, -32001},
		"a config of what":  {http.MethodPost, "tasks/" + id + "/pushNotificationConfigs", `{}`, 400, -32602},
		"an internal place": {http.MethodPost, "tasks/" + id + "/pushNotificationConfigs", `{"pushNotificationConfig":{"url":"http://10.0.0.1/"}}`, 400, -32602},
	} {
		if status, got := do(c.method, c.path, c.body); status != c.status || got["code"] != c.code || got["message"] == "" {
			t.Errorf("%s: %d %v", name, status, got)
		}
	}
}
