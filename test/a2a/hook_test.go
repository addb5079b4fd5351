package a2a

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// hook is a webhook that keeps what it is told.
type hook struct {
	*httptest.Server

	mu   sync.Mutex // guards what follows
	told []notice
}

// notice is one notification.
type notice struct {
	method string
	header http.Header
	body   []byte
	event  *pb.StreamResponse
}

// newHook starts a webhook. answer gives the status of the nth notification, counted from 0; nil: 200 for all.
func newHook(t *testing.T, answer func(int) int) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		event := &pb.StreamResponse{}
		strictly(t, body, event)
		h.mu.Lock()
		n := len(h.told)
		h.told = append(h.told, notice{method: r.Method, header: r.Header, body: body, event: event})
		h.mu.Unlock()
		if answer != nil {
			w.WriteHeader(answer(n))
		}
	}))
	t.Cleanup(h.Close)
	return h
}

// all gives what was told until now.
func (h *hook) all() []notice {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]notice(nil), h.told...)
}

// states gives the states that were told, in order.
func (h *hook) states() []pb.TaskState {
	var out []pb.TaskState
	for _, n := range h.all() {
		if s := n.event.GetStatusUpdate(); s != nil {
			out = append(out, s.GetStatus().GetState())
		}
	}
	return out
}

// completed waits until the task's end was told.
func (h *hook) completed(t *testing.T) []notice {
	t.Helper()
	eventually(t, func(context.Context) error {
		if !slices.Contains(h.states(), pb.TaskState_TASK_STATE_COMPLETED) {
			return errors.New("the task's end was not told")
		}
		return nil
	})
	return h.all()
}

// config gives the JSON of a push notification config.
func config(t *testing.T, task, id, url string, more ...any) string {
	t.Helper()
	return text(t, edit(t, object{"taskId": task, "id": id, "url": url}, more...))
}

// watch registers a webhook.
func (c caller) watch(t *testing.T, task, id, url string, more ...any) *pb.TaskPushNotificationConfig {
	t.Helper()
	out := &pb.TaskPushNotificationConfig{}
	c.must(t, createPush, config(t, task, id, url, more...), out)
	return out
}

// configsOf gives the configs of a task.
func (c caller) configsOf(t *testing.T, task string) []*pb.TaskPushNotificationConfig {
	t.Helper()
	out := &pb.ListTaskPushNotificationConfigsResponse{}
	c.must(t, listPush, text(t, object{"taskId": task}), out)
	return out.GetConfigs()
}

// pushOperations are the four of push notification configs, with a request about a task.
func pushOperations(t *testing.T, task string) map[string]string {
	t.Helper()
	one := text(t, object{"taskId": task, "id": "c"})
	return map[string]string{
		createPush: config(t, task, "c", "https://example.com/hook"), getPush: one, listPush: text(t, object{"taskId": task}), deletePush: one,
	}
}

// answerTo gives a waiting task the message that ends it.
func (c caller) answerTo(t *testing.T, task *pb.Task) *pb.Task {
	t.Helper()
	return c.send(t, message(t, "tck-complete-task", "message.taskId", task.GetId()))
}

// hookPatience bounds how long a webhook may be kept waiting, as section 4.3.3 recommends.
const hookPatience = 30 * time.Second
