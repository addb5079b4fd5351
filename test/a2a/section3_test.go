package a2a

import (
	"testing"

	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
)

func section3Messages() []requirement {
	return []requirement{
		{
			id: "SEND-1", section: "3.1.1", level: must, what: "a message is answered by a task or a message",
			test: func(t *testing.T, c caller) {
				if c.completed(t).GetId() == "" {
					t.Error("the task has no id")
				}
			},
		},
	}
}

func section3Tasks() []requirement { return nil }

func section3Streams() []requirement {
	return []requirement{
		{
			id: "STREAM-1", section: "3.1.2", level: must, what: "a task's stream begins with the task",
			test: func(t *testing.T, c caller) {
				events := c.stream(t, streamMessage, message(t, "tck-complete-task")).all(t)
				if len(events) < 2 || events[0].GetTask() == nil || events[len(events)-1].GetStatusUpdate().GetStatus().GetState() != pb.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("events %v", events)
				}
				c.refused(t, subscribeTask, text(t, object{"id": events[0].GetTask().GetId()}), "UNSUPPORTED_OPERATION")
			},
		},
	}
}

func section3Service() []requirement { return nil }

func section3Turns() []requirement { return nil }
