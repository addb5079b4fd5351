package a2a

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

// notifications are sections 4.3 and 13.2.
func notifications() []requirement {
	return slices.Concat(payloads(), retries(), webhookSafety(), webhookClients())
}

func payloads() []requirement {
	return []requirement{
		{
			id: "HOOK-1", section: "4.3.3", level: must, what: "a notification is a POST of one StreamResponse with exactly one of its kinds, as application/a2a+json",
			test: func(t *testing.T, c caller) {
				h := newHook(t, nil)
				task := c.completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL})
				for _, n := range h.completed(t) { // the hook reads them strictly
					if n.method != http.MethodPost || n.header.Get("Content-Type") != "application/a2a+json" || len(plainJSON(t, n.body)) != 1 {
						t.Errorf("%s %v %s", n.method, n.header, n.body)
					}
					if s, a := n.event.GetStatusUpdate(), n.event.GetArtifactUpdate(); s.GetTaskId()+a.GetTaskId() != task.GetId() || s.GetContextId()+a.GetContextId() != task.GetContextId() {
						t.Errorf("it is of another task: %s", n.body)
					}
				}
			},
		},
		{
			id: "HOOK-2", section: "4.3.3", level: must, what: "a notification has the credentials of its config: scheme and credentials in Authorization",
			test: func(t *testing.T, c caller) {
				for scheme, credentials := range map[string]string{"Bearer": "tok-123", "Basic": "dXNlcjpwYXNz"} {
					h := newHook(t, nil)
					c.completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL, "authentication": object{"scheme": scheme, "credentials": credentials}})
					for _, n := range h.completed(t) {
						if n.header.Get("Authorization") != scheme+" "+credentials {
							t.Errorf("%s: %v", scheme, n.header)
						}
					}
				}
			},
		},
		{
			id: "HOOK-3", section: "4.3.1", level: must, what: "a notification has its config's token, in X-A2A-Notification-Token",
			test: func(t *testing.T, c caller) {
				h := newHook(t, nil)
				c.completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL, "token": "tok-456"})
				for _, n := range h.completed(t) {
					if n.header.Get("X-A2A-Notification-Token") != "tok-456" || n.header.Get("Authorization") != "" {
						t.Errorf("%v", n.header)
					}
				}
			},
		},
		{
			id: "HOOK-4", section: "4.3.3", level: must, what: "each webhook of a task is told of each of its states, at least once and in order",
			test: func(t *testing.T, c caller) {
				hooks, task := []*hook{newHook(t, nil), newHook(t, nil)}, c.waiting(t)
				for i, h := range hooks {
					c.watch(t, task.GetId(), string(rune('a'+i)), h.URL)
				}
				c.answerTo(t, task)
				for _, h := range hooks {
					h.completed(t)
					if have := slices.Compact(h.states()); !slices.Equal(have, []pb.TaskState{pb.TaskState_TASK_STATE_WORKING, pb.TaskState_TASK_STATE_COMPLETED}) {
						t.Errorf("it was told %v", have)
					}
				}
			},
		},
		{
			id: "HOOK-5", section: "4.3.3", level: must, what: "a webhook is told of the task's artifacts, too",
			test: func(t *testing.T, c caller) {
				h := newHook(t, nil)
				c.completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL})
				var parts []*pb.Part
				for _, n := range h.completed(t) {
					parts = append(parts, n.event.GetArtifactUpdate().GetArtifact().GetParts()...)
				}
				if said := textOf(parts); said != "Hello from TCK" {
					t.Errorf("it was told %q", said)
				}
			},
		},
	}
}

func retries() []requirement {
	return []requirement{
		{
			id: "HOOK-6", section: "13.2", level: should, what: "a delivery that failed is tried again, with growing pauses",
			once: func(t *testing.T, w *world) {
				h := newHook(t, func(n int) int {
					if n < 2 {
						return http.StatusServiceUnavailable
					}
					return http.StatusOK
				})
				c := w.main.by(jsonrpc, w.alice)
				c.completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL})
				told := h.completed(t)
				if len(told) < 3 || string(told[0].body) != string(told[1].body) || string(told[0].body) != string(told[2].body) {
					t.Errorf("%d notifications; the first was not tried again", len(told))
				}
			},
		},
		{
			id: "HOOK-7", section: "4.3.3", level: may, what: "a delivery that fails again and again is given up, and the log says so",
			once: func(t *testing.T, w *world) {
				h := newHook(t, func(int) int { return http.StatusInternalServerError })
				task := w.main.by(rest, w.alice).completed(t, "configuration.taskPushNotificationConfig", object{"url": h.URL})
				eventually(t, func(context.Context) error {
					for line := range strings.Lines(w.main.Output()) {
						if strings.Contains(line, "was not delivered") && strings.Contains(line, task.GetId()) {
							return nil
						}
					}
					return errors.New("the log says nothing")
				})
				told := h.all()
				for _, n := range told {
					if string(n.body) != string(told[0].body) {
						t.Errorf("after it was given up came %s", n.body)
					}
				}
				if len(told) != 4 {
					t.Errorf("%d attempts", len(told))
				}
			},
		},
		{
			id: "HOOK-8", section: "4.3.3", level: should, what: "a webhook that doesn't answer is waited for 10 to 30 seconds",
			once: func(t *testing.T, w *world) {
				type wait struct{ from, to time.Time }
				waited := make(chan wait, 8)
				srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					begun := time.Now()
					_, _ = io.Copy(io.Discard, r.Body) // until it's read nobody notices who leaves
					<-r.Context().Done()
					select {
					case waited <- wait{begun, time.Now()}:
					default:
					}
				}))
				t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
				c := w.main.by(gRPC, w.alice)
				task := c.waiting(t, "configuration.taskPushNotificationConfig", object{"id": "c", "url": srv.URL})
				select {
				case one := <-waited:
					if took := one.to.Sub(one.from); took < 9*time.Second {
						t.Errorf("it was waited for %s", took)
					}
				case <-time.After(hookPatience):
					t.Error("it was waited for longer than 30 seconds")
				}
				c.ask(t, deletePush, text(t, object{"taskId": task.GetId(), "id": "c"}))
			},
		},
		{
			id: "HOOK-9", section: "4.3.3", level: must, what: "a webhook that doesn't answer delays neither the task nor another webhook",
			test: func(t *testing.T, c caller) {
				var once sync.Once
				release := make(chan struct{})
				srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					select {
					case <-release:
					case <-r.Context().Done():
					}
				}))
				t.Cleanup(func() { once.Do(func() { close(release) }); srv.Close() })
				h, task := newHook(t, nil), c.waiting(t)
				c.watch(t, task.GetId(), "stuck", srv.URL)
				c.watch(t, task.GetId(), "fine", h.URL)
				if s := c.answerTo(t, task).GetStatus().GetState(); s != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("the task is %s", s)
				}
				h.completed(t)
			},
		},
	}
}

func webhookSafety() []requirement {
	return []requirement{
		{
			id: "HOOK-10", section: "13.2", level: should, what: "webhooks at private, local and link-local addresses are refused",
			elsewhere: "agentd/door/a2adoor: TestInternalAddressesAreNotTold",
		},
		{
			id: "HOOK-11", section: "13.2", level: should, what: "an allowlist of webhook addresses may be set (agentd --egress-allow)",
			elsewhere: "internal/egress: TestPolicy, TestCheckURL",
		},
		{
			id: "HOOK-12", section: "13.2", level: should, what: "credentials of configs are kept safely: the owner alone reads them, and no log has them",
			test: func(t *testing.T, c caller) {
				secret := "secret-" + uuid()
				h := newHook(t, func(int) int { return http.StatusBadRequest })
				task := c.waiting(t, "configuration.taskPushNotificationConfig", object{"id": "c", "url": h.URL, "token": secret, "authentication": object{"scheme": "Bearer", "credentials": secret}})
				eventually(t, func(context.Context) error {
					if !strings.Contains(c.Output(), task.GetId()) {
						return errors.New("no delivery has failed")
					}
					return nil
				})
				if strings.Contains(c.Output(), secret) {
					t.Error("the log has the credentials")
				}
				c.as(c.world.bob).refused(t, getPush, text(t, object{"taskId": task.GetId(), "id": "c"}), "TASK_NOT_FOUND")
			},
		},
		{
			id: "HOOK-13", section: "13.2", level: must, what: "credentials go to the webhook alone: a redirect is not followed",
			once: func(t *testing.T, w *world) {
				elsewhere := newHook(t, nil)
				away := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
				t.Cleanup(away.Close)
				c := w.main.by(jsonrpc, w.alice)
				task := c.completed(t, "configuration.taskPushNotificationConfig", object{"url": away.URL, "authentication": object{"scheme": "Bearer", "credentials": "x"}})
				eventually(t, func(context.Context) error {
					if !strings.Contains(w.main.Output(), task.GetId()) {
						return errors.New("the delivery has not failed yet")
					}
					return nil
				})
				if told := elsewhere.all(); len(told) != 0 {
					t.Errorf("the other address was told %v %s", told[0].header, told[0].body)
				}
			},
		},
	}
}

func webhookClients() []requirement {
	return []requirement{
		onClients("HOOK-14", "4.3.3", must, "a webhook acknowledges by a 2xx status"),
		onClients("HOOK-15", "4.3.3", should, "a webhook takes the same notification twice without harm"),
		onClients("HOOK-16", "4.3.3", must, "a webhook looks whether the task is one that it expects"),
		onClients("HOOK-17", "4.3.3", should, "a webhook verifies who notifies it"),
		onClients("HOOK-18", "13.2", must, "a webhook checks the credentials of a notification"),
		onClients("HOOK-19", "13.2", should, "a webhook looks whether the task ID is of a task that it made"),
		onClients("HOOK-20", "13.2", should, "a webhook limits how often it is called"),
		onClients("HOOK-21", "13.2", should, "a webhook is reached by HTTPS"),
		onClients("HOOK-22", "13.2", should, "tokens of configs are secrets, one for each config, and changed now and then"),
	}
}
