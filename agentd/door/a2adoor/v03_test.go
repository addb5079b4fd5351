package a2adoor_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	old "github.com/a2aproject/a2a-go/a2apb"
	"google.golang.org/grpc/metadata"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
)

const (
	helloOld     = `{"message":{"kind":"message","messageId":"m","role":"user","parts":[{"kind":"text","text":"hi"}]}}`
	helloOldHTTP = `{"message":{"messageId":"m","role":"ROLE_USER","content":[{"text":"hi"}]},"configuration":{"blocking":true}}`
)

func newRig03(t *testing.T, change ...func(*run.Runtime, *a2adoor.Config)) *rig {
	t.Helper()
	return newRig(t, append([]func(*run.Runtime, *a2adoor.Config){func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.V03 = true }}, change...)...)
}

func rpc03(t *testing.T, r *rig, method, params string, header ...string) (result map[string]any, code int) {
	t.Helper()
	_, body := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":"x","method":"`+method+`","params":`+params+`}`, append([]string{"Content-Type", "application/json"}, header...)...)
	var out struct {
		ID     string
		Result json.RawMessage
		Error  *struct{ Code int }
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.ID != "x" {
		t.Fatalf("%s: %s (%v)", method, body, err)
	}
	if out.Error != nil {
		return nil, out.Error.Code
	}
	if err := json.Unmarshal(out.Result, &result); err != nil {
		result = map[string]any{"": string(out.Result)}
	}
	return result, 0
}

// at03 walks into an answer.
func at03(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestVersionsWithLegacy(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		r := newRig(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.A2A.V03 = on })
		c := client03(t, r)
		for version, legacy := range map[string]bool{"": true, "0.3": true, "0.3.0": true, "0.3.x": false, "0.2": false, "1.0": false, "1.1": false} {
			want := on && legacy
			_, rpc := ask(t, http.MethodPost, r.URL+"/a2a/", `{"jsonrpc":"2.0","id":1,"method":"message/send","params":`+helloOld+`}`, "Content-Type", "application/json", "A2A-Version", version)
			resp, rest := ask(t, http.MethodPost, r.URL+"/a2a/v1/message:send", helloOldHTTP, "Content-Type", "application/json", "A2A-Version", version)
			ctx := metadata.AppendToOutgoingContext(t.Context(), "a2a-version", version)
			_, err := c.SendMessage(ctx, &old.SendMessageRequest{Request: &old.Message{MessageId: "m", Role: old.Role_ROLE_USER, Parts: []*old.Part{{Part: &old.Part_Text{Text: "hi"}}}}})
			if got := strings.Contains(rpc, `"kind":"task"`); got != want {
				t.Errorf("0.3 %v, version %q: JSON-RPC answers %s", on, version, rpc)
			}
			if got := resp.StatusCode == http.StatusOK && strings.Contains(rest, "TASK_STATE_COMPLETED"); got != want {
				t.Errorf("0.3 %v, version %q: HTTP answers %s", on, version, rest)
			}
			if got := err == nil; got != want {
				t.Errorf("0.3 %v, version %q: gRPC answers %v", on, version, err)
			}
			if !want && version != "1.0" && !strings.Contains(rpc, "VERSION_NOT_SUPPORTED") {
				t.Errorf("0.3 %v, version %q: %s", on, version, rpc)
			}
		}
		_, today := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":`+hello+`}`, "Content-Type", "application/json", "A2A-Version", "1.0")
		if !strings.Contains(today, `"TASK_STATE_COMPLETED"`) {
			t.Errorf("0.3 %v: 1.0 is answered %s", on, today)
		}
		// A request without a version is one of 0.3, also where its method is one of 1.0.
		want := map[bool]string{false: "VERSION_NOT_SUPPORTED", true: "METHOD_NOT_FOUND"}[on]
		if _, b := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":1,"method":"SendMessage","params":`+hello+`}`, "Content-Type", "application/json"); !strings.Contains(b, want) {
			t.Errorf("0.3 %v: %s", on, b)
		}
	}
}

func TestLegacyJSONRPC(t *testing.T) {
	t.Parallel()
	r := newRig03(t)
	task, code := rpc03(t, r, "message/send", `{"message":{"kind":"message","messageId":"ask-1","role":"user","parts":[{"kind":"text","text":"hi"},{"kind":"data","data":{"n":1}}],"metadata":{"k":"v"}},"configuration":{"acceptedOutputModes":["text/plain"]}}`)
	id, _ := at03(task, "id").(string)
	if code != 0 || at03(task, "status", "state") != "input-required" || at03(task, "status", "message", "parts", 0, "text") != "Which day?" ||
		at03(task, "history", 0, "metadata", "k") != "v" || at03(task, "history", 0, "parts", 1, "data", "n") != 1.0 || at03(task, "status", "message", "taskId") != id {
		t.Fatalf("%v, %d", task, code)
	}
	got, code := rpc03(t, r, "tasks/get", `{"id":"`+id+`","historyLength":0}`)
	if code != 0 || got["id"] != id || got["history"] != nil {
		t.Fatalf("%v, %d", got, code)
	}
	if got, code = rpc03(t, r, "message/send", `{"message":{"messageId":"done","taskId":"`+id+`","role":"user","parts":[{"text":"Monday"}]}}`); code != 0 || at03(got, "status", "state") != "completed" {
		t.Fatalf("%v, %d", got, code)
	}
	for name, c := range map[string]struct {
		method, params string
		code           int
	}{
		"no such task":       {"tasks/get", `{"id":"nobodys"}`, -32001},
		"no ID":              {"tasks/get", `{}`, -32602},
		"canceled too late":  {"tasks/cancel", `{"id":"` + id + `"}`, -32002},
		"more to a task":     {"message/send", `{"message":{"messageId":"more","taskId":"` + id + `","role":"user","parts":[{"kind":"text","text":"x"}]}}`, -32004},
		"followed too late":  {"tasks/resubscribe", `{"id":"` + id + `"}`, -32004},
		"no message":         {"message/send", `{}`, -32602},
		"a message of 1.0":   {"message/send", hello, -32602},
		"no parts":           {"message/send", `{"message":{"messageId":"m","role":"user","parts":[]}}`, -32602},
		"an odd part":        {"message/send", `{"message":{"messageId":"m","role":"user","parts":[{"kind":"sound"}]}}`, -32602},
		"text that is none":  {"message/send", `{"message":{"messageId":"m","role":"user","parts":[{"kind":"text","text":7}]}}`, -32602},
		"data in a word":     {"message/send", `{"message":{"messageId":"m","role":"user","parts":[{"kind":"data","data":7}]}}`, -32602},
		"no base64":          {"message/send", `{"message":{"messageId":"m","role":"user","parts":[{"kind":"file","file":{"bytes":"%"}}]}}`, -32602},
		"another kind":       {"message/send", `{"message":{"kind":"task","messageId":"m","role":"user","parts":[{"kind":"text","text":"x"}]}}`, -32602},
		"a type not taken":   {"message/send", `{"message":{"messageId":"m","role":"user","parts":[{"kind":"file","file":{"bytes":"AAAA","mimeType":"audio/wav"}}]}}`, -32005},
		"negative history":   {"tasks/get", `{"id":"` + id + `","historyLength":-1}`, -32602},
		"no such method":     {"tasks/paint", `{}`, -32601},
		"no extended card":   {"agent/getAuthenticatedExtendedCard", `{}`, -32007},
		"push of nobody":     {"tasks/pushNotificationConfig/set", `{"taskId":"nobodys","pushNotificationConfig":{"url":"https://example.com/"}}`, -32001},
		"push without a URL": {"tasks/pushNotificationConfig/set", `{"taskId":"` + id + `","pushNotificationConfig":{}}`, -32602},
		"push without all":   {"tasks/pushNotificationConfig/set", `{"taskId":"` + id + `"}`, -32602},
		"no push there":      {"tasks/pushNotificationConfig/get", `{"id":"` + id + `"}`, -32001},
		"delete what":        {"tasks/pushNotificationConfig/delete", `{"id":"` + id + `"}`, -32602},
		"internal":           {"tasks/pushNotificationConfig/set", `{"taskId":"` + id + `","pushNotificationConfig":{"url":"http://169.254.169.254/"}}`, -32602},
		"whose credentials":  {"tasks/pushNotificationConfig/set", `{"taskId":"` + id + `","pushNotificationConfig":{"url":"https://example.com/","authentication":{"schemes":[],"credentials":"c"}}}`, -32602},
	} {
		if got, code := rpc03(t, r, c.method, c.params); code != c.code {
			t.Errorf("%s: %d %v, want %d", name, code, got, c.code)
		}
	}
	if got, code = rpc03(t, r, "tasks/pushNotificationConfig/delete", `{"id":"`+id+`","pushNotificationConfigId":"c"}`); code != 0 || len(got) != 0 {
		t.Errorf("delete gives %v, %d", got, code)
	}
}

// TestLegacyStreams: an event is marked as the last one when the task ends or asks for something, and the stream ends with it.
func TestLegacyStreams(t *testing.T) {
	t.Parallel()
	r := newRig03(t)
	events := func(method, params string) []map[string]any {
		t.Helper()
		_, body := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":7,"method":"`+method+`","params":`+params+`}`, "Content-Type", "application/json", "Accept", "text/event-stream")
		var out []map[string]any
		for line := range strings.Lines(body) {
			data, ok := strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if !ok {
				continue
			}
			var m struct {
				ID     int
				Result map[string]any
			}
			if err := json.Unmarshal([]byte(data), &m); err != nil || m.ID != 7 || m.Result == nil {
				t.Fatalf("%s: %s", method, data)
			}
			out = append(out, m.Result)
		}
		return out
	}
	for id, want := range map[string]string{"drip": "completed", "ask": "input-required", "auth": "auth-required", "fail": "failed", "reject": "rejected"} {
		got := events("message/stream", strings.Replace(helloOld, `"m"`, `"`+id+`"`, 1))
		last := got[len(got)-1]
		if got[0]["kind"] != "task" || last["kind"] != "status-update" || last["final"] != true || at03(last, "status", "state") != want {
			t.Errorf("%s: %v", id, got)
		}
		for _, e := range got[:len(got)-1] {
			if e["final"] == true {
				t.Errorf("%s: %v is not the last", id, e)
			}
		}
	}
	if got := events("message/stream", strings.Replace(helloOld, `"m"`, `"reply"`, 1)); len(got) != 1 || got[0]["kind"] != "message" || got[0]["role"] != "agent" {
		t.Errorf("a lone message: %v", got)
	}

	asked, _ := rpc03(t, r, "message/send", strings.Replace(helloOld, `"m"`, `"ask-2"`, 1))
	id, _ := asked["id"].(string)
	followed := make(chan []map[string]any, 1)
	started := make(chan struct{})
	go func() {
		defer close(followed)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/a2a/v1/tasks/"+id+":subscribe", nil)
		if err != nil {
			return
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		defer func() { _ = resp.Body.Close() }()
		var out []map[string]any
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var m map[string]any
				_ = json.Unmarshal([]byte(data), &m)
				if out = append(out, m); len(out) == 1 {
					close(started)
				}
			}
		}
		followed <- out
	}()
	<-started
	if got, code := rpc03(t, r, "message/send", strings.Replace(helloOld, `"m"`, `"ask-3","taskId":"`+id+`"`, 1)); code != 0 {
		t.Fatalf("%v, %d", got, code)
	}
	// The scripted model answers at once after a question; a task that ends ends the stream.
	got := <-followed
	if len(got) < 2 || at03(got[0], "task", "status", "state") != "TASK_STATE_INPUT_REQUIRED" || at03(got[len(got)-1], "statusUpdate", "final") != true {
		t.Errorf("the follower saw %v", got)
	}
}

// TestLegacyCallers: a caller of 0.3 sees nobody else's tasks, and the errors don't tell them from tasks that aren't there.
func TestLegacyCallers(t *testing.T) {
	t.Parallel()
	r := newRig03(t, func(rt *run.Runtime, _ *a2adoor.Config) { rt.Inbound.Keys = keyed("one", "two") })
	mine, _ := rpc03(t, r, "message/send", strings.Replace(helloOld, `"m"`, `"ask"`, 1), "Authorization", "Bearer key-of-one")
	id, _ := mine["id"].(string)
	if id == "" {
		t.Fatal(mine)
	}
	const nobodys = "00000000-0000-4000-8000-000000000000"
	for _, c := range [][2]string{
		{"tasks/get", `{"id":"ID"}`},
		{"tasks/cancel", `{"id":"ID"}`},
		{"tasks/resubscribe", `{"id":"ID"}`},
		{"message/send", `{"message":{"messageId":"m","taskId":"ID","role":"user","parts":[{"kind":"text","text":"x"}]}}`},
		{"message/stream", `{"message":{"messageId":"m","taskId":"ID","role":"user","parts":[{"kind":"text","text":"x"}]}}`},
		{"tasks/pushNotificationConfig/set", `{"taskId":"ID","pushNotificationConfig":{"url":"https://example.com/"}}`},
		{"tasks/pushNotificationConfig/get", `{"id":"ID"}`},
		{"tasks/pushNotificationConfig/list", `{"id":"ID"}`},
		{"tasks/pushNotificationConfig/delete", `{"id":"ID","pushNotificationConfigId":"c"}`},
	} {
		var got [2]string
		for i, of := range []string{id, nobodys} {
			_, b := ask(t, http.MethodPost, r.URL+"/a2a", `{"jsonrpc":"2.0","id":1,"method":"`+c[0]+`","params":`+strings.ReplaceAll(c[1], "ID", of)+`}`,
				"Content-Type", "application/json", "Authorization", "Bearer key-of-two")
			got[i] = strings.ReplaceAll(b, of, "ID")
		}
		if got[0] != got[1] || !strings.Contains(got[0], "-32001") {
			t.Errorf("%s: %s and %s", c[0], got[0], got[1])
		}
	}
}

// TestLegacyExtensions: 0.3 names extensions in a header of its own.
func TestLegacyExtensions(t *testing.T) {
	t.Parallel()
	r := newRig03(t, func(_ *run.Runtime, cfg *a2adoor.Config) {
		cfg.Extensions = []a2adoor.Extension{{URI: "https://example.com/ext", Required: true}}
	})
	const body = `{"jsonrpc":"2.0","id":1,"method":"message/send","params":` + helloOld + `}`
	if _, b := ask(t, http.MethodPost, r.URL+"/a2a", body, "Content-Type", "application/json"); !strings.Contains(b, "EXTENSION_SUPPORT_REQUIRED") {
		t.Error(b)
	}
	resp, b := ask(t, http.MethodPost, r.URL+"/a2a", body, "Content-Type", "application/json", "X-A2A-Extensions", "https://example.com/ext")
	if !strings.Contains(b, `"kind":"task"`) || resp.Header.Get("X-A2A-Extensions") != "https://example.com/ext" || resp.Header.Get("A2A-Extensions") != "" {
		t.Errorf("%v %s", resp.Header, b)
	}
}
