package a2adoor_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestLegacyPush: who gave a config by 0.3 is told the task, in the words of 0.3; others of the same task are told as ever.
func TestLegacyPush(t *testing.T) {
	t.Parallel()
	type note struct {
		path, media, version string
		body                 map[string]any
	}
	told := make(chan note, 100)
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		n := note{path: q.URL.Path, media: q.Header.Get("Content-Type"), version: q.Header.Get("A2A-Version")}
		_ = json.NewDecoder(q.Body).Decode(&n.body)
		told <- n
	}))
	t.Cleanup(hook.Close)
	r := newRig03(t)
	asked, _ := rpc03(t, r, "message/send", strings.Replace(helloOld, `"m"`, `"ask"`, 1))
	id, _ := asked["id"].(string)
	if got, code := rpc03(t, r, "tasks/pushNotificationConfig/set", `{"taskId":"`+id+`","pushNotificationConfig":{"url":"`+hook.URL+`/old"}}`); code != 0 || at03(got, "pushNotificationConfig", "id") != id {
		t.Fatalf("%v, %d", got, code)
	}
	if _, b := ask(t, http.MethodPost, r.URL+"/a2a/v1/tasks/"+id+"/pushNotificationConfigs", `{"url":"`+hook.URL+`/new"}`, "Content-Type", "application/json", "A2A-Version", "1.0"); !strings.Contains(b, "/new") {
		t.Fatal(b)
	}
	if got, code := rpc03(t, r, "message/send", strings.Replace(helloOld, `"m"`, `"x","taskId":"`+id+`"`, 1)); code != 0 {
		t.Fatalf("%v, %d", got, code)
	}
	deadline := time.After(10 * time.Second)
	for ended := map[string]bool{}; len(ended) < 2; {
		select {
		case n := <-told:
			switch n.path {
			case "/old":
				if n.media != "application/json" || n.version != "" || n.body["kind"] != "task" || n.body["id"] != id {
					t.Fatalf("0.3 is told %+v", n)
				}
				if at03(n.body, "status", "state") == "completed" {
					ended[n.path] = at03(n.body, "artifacts", 0, "parts", 0, "kind") == "text"
				}
			case "/new":
				if n.media != "application/a2a+json" || n.version != "1.0" {
					t.Fatalf("1.0 is told %+v", n)
				}
				if at03(n.body, "statusUpdate", "status", "state") == "TASK_STATE_COMPLETED" {
					ended[n.path] = true
				}
			}
		case <-deadline:
			t.Fatalf("told of the end: %v", ended)
		}
	}
}
