package a2a

import (
	"slices"
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"google.golang.org/protobuf/proto"
)

// pushConfigs is sections 3.1.7 to 3.1.10.
func pushConfigs() []requirement {
	return slices.Concat(pushCreation(), pushReading(), pushRemoval())
}

// notPushed is a row of the same form for each of the four operations.
func notPushed(id, section, op string) requirement {
	return requirement{
		id: id, section: section, level: must, what: op + " of an agent without notifications fails by PushNotificationNotSupported",
		test: func(t *testing.T, c caller) {
			c.at(c.world.plain).refused(t, op, pushOperations(t, uuid())[op], "PUSH_NOTIFICATION_NOT_SUPPORTED")
		},
	}
}

// ofNoTask is another such row.
func ofNoTask(id, section, op string) requirement {
	return requirement{
		id: id, section: section, level: must, what: op + " about a task that is unknown, or somebody else's, fails by TaskNotFound",
		test: func(t *testing.T, c caller) {
			c.refused(t, op, pushOperations(t, uuid())[op], "TASK_NOT_FOUND")
			task := c.waiting(t)
			c.watch(t, task.GetId(), "c", "https://example.com/hook")
			c.as(c.world.bob).refused(t, op, pushOperations(t, task.GetId())[op], "TASK_NOT_FOUND")
			if have := c.configsOf(t, task.GetId()); len(have) != 1 {
				t.Errorf("the task has %v", have)
			}
		},
	}
}

func pushCreation() []requirement {
	return []requirement{
		{
			id: "PUSH-1", section: "3.1.7", level: must, what: "a config that was created has its webhook told of the task's updates",
			test: func(t *testing.T, c caller) {
				h, task := newHook(t, nil), c.waiting(t)
				if made := c.watch(t, task.GetId(), "", h.URL); made.GetId() == "" || made.GetUrl() != h.URL || made.GetTaskId() != task.GetId() {
					t.Errorf("it is %v", made)
				}
				c.answerTo(t, task)
				h.completed(t)
			},
		},
		{
			id: "PUSH-2", section: "3.1.7", level: must, what: "a config stays until its task is over, or until it is deleted",
			test: func(t *testing.T, c caller) {
				h, task := newHook(t, nil), c.waiting(t)
				c.watch(t, task.GetId(), "c", h.URL)
				for range 2 { // it asks again, and the config is still there
					c.send(t, message(t, "tck-input-required", "message.taskId", task.GetId()))
					if have := c.configsOf(t, task.GetId()); len(have) != 1 {
						t.Fatalf("the task has %v", have)
					}
				}
				c.answerTo(t, task)
				h.completed(t)
			},
		},
		ofNoTask("PUSH-3", "3.1.7", createPush),
		notPushed("PUSH-4", "3.1.7", createPush),
		{
			id: "PUSH-5", section: "3.1.7", level: must, what: "a message may bring a config for the task that it makes",
			test: func(t *testing.T, c caller) {
				h := newHook(t, nil)
				task := c.completed(t, "configuration.taskPushNotificationConfig", object{"id": "mine", "url": h.URL})
				h.completed(t)
				if have := c.configsOf(t, task.GetId()); len(have) != 1 || have[0].GetId() != "mine" {
					t.Errorf("the task has %v", have)
				}
			},
		},
		{
			id: "PUSH-6", section: "3.1.7", level: must, what: "a message that brings a config to an agent without notifications is refused by PushNotificationNotSupported",
			test: func(t *testing.T, c caller) {
				request := message(t, "tck-complete-task", "configuration.taskPushNotificationConfig", object{"url": "https://example.com/hook"})
				c.at(c.world.plain).refused(t, sendMessage, request, "PUSH_NOTIFICATION_NOT_SUPPORTED")
			},
		},
		{
			id: "PUSH-7", section: "proto", level: must, what: "a config has a URL, and what goes into headers fits there",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				for name, request := range map[string]string{
					"no URL": config(t, task, "c", ""), "no URL at all": config(t, task, "c", "/hook"), "another scheme": config(t, task, "c", "ftp://example.com/"),
					"a scheme with a space": config(t, task, "c", "https://example.com/", "authentication.scheme", "Be arer"),
					"a line in credentials": config(t, task, "c", "https://example.com/", "authentication", object{"scheme": "Bearer", "credentials": "a\r\nX: y"}),
					"a line in the token":   config(t, task, "c", "https://example.com/", "token", "a\nb"),
				} {
					if f := c.refused(t, createPush, request, "INVALID_PARAMS"); f.detail("BadRequest") == nil {
						t.Errorf("%s: nothing says which field: %+v", name, f)
					}
				}
				if have := c.configsOf(t, task); len(have) != 0 {
					t.Errorf("the task has %v", have)
				}
			},
		},
	}
}

func pushReading() []requirement {
	return []requirement{
		{
			id: "PUSH-8", section: "3.1.8", level: must, what: "a config is read back with its URL and settings",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				made := c.watch(t, task, "c", "https://example.com/hook?a=b", "token", "tok", "authentication", object{"scheme": "Bearer", "credentials": "secret"})
				read := &pb.TaskPushNotificationConfig{}
				c.must(t, getPush, text(t, object{"taskId": task, "id": "c"}), read)
				if !proto.Equal(made, read) || read.GetUrl() != "https://example.com/hook?a=b" || read.GetToken() != "tok" || read.GetAuthentication().GetScheme() != "Bearer" {
					t.Errorf("made %v, read %v", made, read)
				}
			},
		},
		{
			id: "PUSH-9", section: "3.1.8", level: must, what: "a config that there is none of is TaskNotFound",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				c.refused(t, getPush, text(t, object{"taskId": task, "id": "none"}), "TASK_NOT_FOUND")
				c.watch(t, task, "c", "https://example.com/hook")
				other := c.waiting(t).GetId()
				c.refused(t, getPush, text(t, object{"taskId": other, "id": "c"}), "TASK_NOT_FOUND")
			},
		},
		ofNoTask("PUSH-10", "3.1.8", getPush),
		notPushed("PUSH-11", "3.1.8", getPush),
		{
			id: "PUSH-12", section: "3.1.9", level: must, what: "the list has every config of the task, and none of another",
			test: func(t *testing.T, c caller) {
				task, other := c.waiting(t).GetId(), c.waiting(t).GetId()
				if have := c.configsOf(t, task); len(have) != 0 {
					t.Errorf("at first the task has %v", have)
				}
				c.watch(t, other, "x", "https://example.com/other")
				want := map[string]string{"a": "https://example.com/a", "b": "https://example.com/b", "c": "https://example.com/c"}
				for id, url := range want {
					c.watch(t, task, id, url)
				}
				have := c.configsOf(t, task)
				for _, p := range have {
					if want[p.GetId()] != p.GetUrl() || p.GetTaskId() != task {
						t.Errorf("a config is %v", p)
					}
				}
				if len(have) != len(want) {
					t.Errorf("there are %v", have)
				}
			},
		},
		ofNoTask("PUSH-13", "3.1.9", listPush),
		notPushed("PUSH-14", "3.1.9", listPush),
		{
			id: "PUSH-15", section: "3.1.9", level: may, what: "the list comes in pages",
			without: "not done: a task has eight configs at most, which are one page",
		},
	}
}

func pushRemoval() []requirement {
	return []requirement{
		{
			id: "PUSH-16", section: "3.1.10", level: must, what: "a deleted config is gone, and its webhook is told nothing more",
			test: func(t *testing.T, c caller) {
				gone, stays, task := newHook(t, nil), newHook(t, nil), c.waiting(t)
				c.watch(t, task.GetId(), "gone", gone.URL)
				c.watch(t, task.GetId(), "stays", stays.URL)
				one := text(t, object{"taskId": task.GetId(), "id": "gone"})
				if a := c.ask(t, deletePush, one); a.fault != nil {
					t.Fatalf("%+v", a.fault)
				}
				c.refused(t, getPush, one, "TASK_NOT_FOUND")
				if have := c.configsOf(t, task.GetId()); len(have) != 1 || have[0].GetId() != "stays" {
					t.Errorf("the task has %v", have)
				}
				c.answerTo(t, task)
				stays.completed(t)
				if told := gone.all(); len(told) != 0 {
					t.Errorf("it was told %s", told[0].body)
				}
			},
		},
		{
			id: "PUSH-17", section: "3.1.10", level: must, what: "deleting a config again has the same effect, and so has deleting one that never was",
			test: func(t *testing.T, c caller) {
				task := c.waiting(t).GetId()
				c.watch(t, task, "c", "https://example.com/hook")
				for _, id := range []string{"c", "c", "never"} {
					if a := c.ask(t, deletePush, text(t, object{"taskId": task, "id": id})); a.fault != nil {
						t.Errorf("%s: %+v", id, a.fault)
					}
				}
			},
		},
		ofNoTask("PUSH-18", "3.1.10", deletePush),
		notPushed("PUSH-19", "3.1.10", deletePush),
	}
}
