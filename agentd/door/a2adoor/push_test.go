package a2adoor_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/egress"
)

// hook is an address that is told of changes.
type hook struct {
	*httptest.Server

	mu      sync.Mutex
	fails   int // how many posts are answered by 503 first
	headers []http.Header
	got     []*pb.StreamResponse
}

func newHook(t *testing.T, fails int) *hook {
	t.Helper()
	h := &hook{fails: fails}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err != nil || h.fails > 0 {
			h.fails--
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		m := &pb.StreamResponse{}
		mustParse(t, b, m)
		h.got, h.headers = append(h.got, m), append(h.headers, r.Header)
	}))
	t.Cleanup(h.Close)
	return h
}

// until waits for so many notifications.
func (h *hook) until(t *testing.T, n int) []*pb.StreamResponse {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		h.mu.Lock()
		got := h.got
		h.mu.Unlock()
		if len(got) >= n {
			return got
		}
		if time.Now().After(end) {
			t.Fatalf("%d notifications: %v", len(got), kinds(got))
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("the test ended")
		}
	}
}

func TestPushNotifications(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		h := newHook(t, 1)
		config := &pb.TaskPushNotificationConfig{Id: "p1", Url: h.URL + "/x", Token: "tok", Authentication: &pb.AuthenticationInfo{Scheme: "Bearer", Credentials: "cred"}}
		task := sent(t, c, say("ask-1", configured(&pb.SendMessageConfiguration{TaskPushNotificationConfig: config})))
		sent(t, c, say("complete-1", at(task.GetId())))
		got := h.until(t, 5)
		if diff := cmp.Diff([]string{"WORKING", "INPUT_REQUIRED", "WORKING", "artifact", "COMPLETED"}, kinds(got)); diff != "" {
			t.Error(diff)
		}
		if u := got[3].GetArtifactUpdate(); u.GetAppend() || !u.GetLastChunk() || u.GetTaskId() != task.GetId() {
			t.Errorf("the artifact is %v", u)
		}
		for _, header := range h.headers {
			if header.Get("Authorization") != "Bearer cred" || header.Get("X-A2A-Notification-Token") != "tok" || header.Get("Content-Type") != "application/a2a+json" {
				t.Errorf("headers are %v", header)
			}
		}
	})
}

func TestPushConfigs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		h := newHook(t, 0)
		task := sent(t, c, say("ask-1"))
		id := task.GetId()
		out := &pb.TaskPushNotificationConfig{}
		if f := c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: id, Url: h.URL}, out); f != nil {
			t.Fatal(f)
		}
		if out.GetId() == "" || out.GetTaskId() != id || out.GetUrl() != h.URL {
			t.Errorf("created %v", out)
		}
		named := &pb.TaskPushNotificationConfig{TaskId: id, Id: "n", Url: h.URL + "/2", Authentication: &pb.AuthenticationInfo{Scheme: "Basic", Credentials: "YTpi"}}
		if f := c.call(t, "CreateTaskPushNotificationConfig", named, &pb.TaskPushNotificationConfig{}); f != nil {
			t.Fatal(f)
		}
		got := &pb.TaskPushNotificationConfig{}
		if f := c.call(t, "GetTaskPushNotificationConfig", &pb.GetTaskPushNotificationConfigRequest{TaskId: id, Id: "n"}, got); f != nil || got.GetAuthentication().GetScheme() != "Basic" || got.GetUrl() != named.GetUrl() {
			t.Errorf("got %v (%v)", got, f)
		}
		list := &pb.ListTaskPushNotificationConfigsResponse{}
		if f := c.call(t, "ListTaskPushNotificationConfigs", &pb.ListTaskPushNotificationConfigsRequest{TaskId: id}, list); f != nil || len(list.GetConfigs()) != 2 {
			t.Errorf("list is %v (%v)", list, f)
		}
		for range 2 {
			if f := c.call(t, "DeleteTaskPushNotificationConfig", &pb.DeleteTaskPushNotificationConfigRequest{TaskId: id, Id: "n"}, &emptypb.Empty{}); f != nil {
				t.Errorf("delete: %+v", f)
			}
		}
		failsWith(t, c.call(t, "GetTaskPushNotificationConfig", &pb.GetTaskPushNotificationConfigRequest{TaskId: id, Id: "n"}, got), "TASK_NOT_FOUND")
		for _, f := range []*fault{
			c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: "nobodys", Url: h.URL}, got),
			c.call(t, "GetTaskPushNotificationConfig", &pb.GetTaskPushNotificationConfigRequest{TaskId: "nobodys", Id: "n"}, got),
			c.call(t, "ListTaskPushNotificationConfigs", &pb.ListTaskPushNotificationConfigsRequest{TaskId: "nobodys"}, list),
			c.call(t, "DeleteTaskPushNotificationConfig", &pb.DeleteTaskPushNotificationConfigRequest{TaskId: "nobodys", Id: "n"}, &emptypb.Empty{}),
		} {
			failsWith(t, f, "TASK_NOT_FOUND")
		}
		for range 10 {
			_ = c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: id, Url: h.URL}, got)
		}
		failsWith(t, c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: id, Url: h.URL}, got), "INVALID_PARAMS")
		// configs of a task that has ended may be read
		done := sent(t, c, say("hello"))
		if f := c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: done.GetId(), Id: "d", Url: h.URL}, got); f != nil {
			t.Errorf("of a terminal task: %+v", f)
		}
		if f := c.call(t, "GetTaskPushNotificationConfig", &pb.GetTaskPushNotificationConfigRequest{TaskId: done.GetId(), Id: "d"}, got); f != nil {
			t.Errorf("of a terminal task: %+v", f)
		}
	})
}

// Addresses that say themselves that they are internal are refused at once, those that turn out to be at delivery.
func TestInternalAddressesAreNotTold(t *testing.T) {
	t.Parallel()
	h := newHook(t, 0)
	r := newRig(t, func(_ *run.Runtime, cfg *a2adoor.Config) { cfg.Guard = egress.New(egress.Config{}) })
	each(t, r, func(t *testing.T, c client) {
		t.Helper()
		task := sent(t, c, say("ask-1"))
		_, port, _ := strings.Cut(strings.TrimPrefix(h.URL, "http://"), ":")
		for _, url := range []string{
			h.URL, "http://localhost:" + port, "http://[::1]:" + port, "http://0x7f000001:" + port, "http://2130706433:" + port, "http://127.1:" + port, "http://[::ffff:127.0.0.1]:" + port,
			"http://169.254.169.254/latest/meta-data", "http://10.0.0.1", "http://192.168.1.1", "http://172.16.0.1", "http://100.64.0.1", "http://[fd00::1]", "http://[fe80::1]", "http://0.0.0.0:" + port,
			"file:///etc/passwd", "gopher://example.com", "not a url", "//example.com", "http://",
		} {
			f := c.call(t, "CreateTaskPushNotificationConfig", &pb.TaskPushNotificationConfig{TaskId: task.GetId(), Url: url}, &pb.TaskPushNotificationConfig{})
			failsWith(t, f, "INVALID_PARAMS")
			if len(f.Fields) != 1 || f.Fields[0] != "config.url" {
				t.Errorf("%s: fields are %v", url, f.Fields)
			}
		}
		for name, p := range map[string]*pb.TaskPushNotificationConfig{
			"no url":      {},
			"a bad token": {Url: "https://example.com", Token: "a\r\nX: y"},
			"bad scheme":  {Url: "https://example.com", Authentication: &pb.AuthenticationInfo{Scheme: "Bear er"}},
			"bad secret":  {Url: "https://example.com", Authentication: &pb.AuthenticationInfo{Scheme: "Bearer", Credentials: "a\nb"}},
			"no scheme":   {Url: "https://example.com", Authentication: &pb.AuthenticationInfo{}},
		} {
			p.TaskId = task.GetId()
			if f := c.call(t, "CreateTaskPushNotificationConfig", p, &pb.TaskPushNotificationConfig{}); f == nil || f.Reason != "INVALID_PARAMS" {
				t.Errorf("%s: %+v", name, f)
			}
		}
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.got) > 0 {
		t.Errorf("%d notifications reached the inside", len(h.got))
	}
}
