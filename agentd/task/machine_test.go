package task_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/errs"
)

func words(id, s string) *task.Message {
	return &task.Message{ID: id, Role: task.Agent, Parts: []task.Part{{Kind: task.Text, Text: s}}}
}

func TestWhatWasSaidGoesToTheHistory(t *testing.T) {
	t.Parallel()
	var err error
	now := task.Task{ID: "t", Status: task.Status{State: task.Submitted}, History: []task.Message{{ID: "u1", Role: task.User}}}
	for _, e := range []task.Event{
		{Status: &task.Status{State: task.Working}},
		{Status: &task.Status{State: task.InputRequired, Message: words("a1", "which?")}},
		{Message: &task.Message{ID: "u2", Role: task.User}},
		{Status: &task.Status{State: task.Working}},
		{Status: &task.Status{State: task.InputRequired, Message: words("a2", "and?")}},
		{Status: &task.Status{State: task.Working}},
		{Status: &task.Status{State: task.Completed, Message: words("a3", "done")}},
	} {
		if now, err = task.Apply(now, e, task.Bounds{}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, m := range now.History {
		got = append(got, m.ID)
	}
	if diff := cmp.Diff([]string{"u1", "a1", "u2", "a2"}, got); diff != "" {
		t.Error(diff)
	}
	if now.Status.Message.ID != "a3" {
		t.Errorf("status is %+v", now.Status)
	}
}

func TestArtifacts(t *testing.T) {
	t.Parallel()
	chunk := func(id, s string, follows, merge bool) task.Event {
		return task.Event{Chunk: &task.Chunk{Artifact: task.Artifact{ID: id, Parts: []task.Part{{Kind: task.Text, Text: s}}}, Append: follows, Merge: merge}}
	}
	now := task.Task{ID: "t", Status: task.Status{State: task.Working}}
	var err error
	for _, e := range []task.Event{chunk("a", "1", false, false), chunk("b", "x", true, false), chunk("a", "2", true, true), chunk("a", "3", true, false), chunk("b", "y", false, false)} {
		if now, err = task.Apply(now, e, task.Bounds{}); err != nil {
			t.Fatal(err)
		}
	}
	want := []task.Artifact{
		{ID: "a", Parts: []task.Part{{Kind: task.Text, Text: "12"}, {Kind: task.Text, Text: "3"}}},
		{ID: "b", Parts: []task.Part{{Kind: task.Text, Text: "y"}}},
	}
	if diff := cmp.Diff(want, now.Artifacts); diff != "" {
		t.Error(diff)
	}
	if _, err := task.Apply(now, chunk("c", strings.Repeat("x", 2000), false, false), task.Bounds{Bytes: 2000}); !errs.Is(err, errs.Exhausted) {
		t.Errorf("too large: %v", err)
	}
}

// Whatever comes: a terminal state is the last, what was shown before doesn't change, and the history is bounded.
func TestAnyEvents(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := task.Task{ID: "t", Status: task.Status{State: task.Submitted}}
		bounds := task.Bounds{Bytes: 20_000, Messages: 4}
		states := []task.State{task.Submitted, task.Working, task.InputRequired, task.AuthRequired, task.Completed, task.Failed, task.Canceled, task.Rejected, "odd"}
		type shown struct {
			task task.Task
			text string
		}
		var before []shown
		for i := range rapid.IntRange(1, 60).Draw(t, "n") {
			var e task.Event
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				e.Status = &task.Status{State: rapid.SampledFrom(states).Draw(t, "state")}
				if rapid.Bool().Draw(t, "says") {
					e.Status.Message = words(fmt.Sprint("a", i), "x")
				}
			case 1:
				e.Message = &task.Message{ID: fmt.Sprint("u", i), Role: task.User}
			case 2:
				e.Chunk = &task.Chunk{
					Artifact: task.Artifact{ID: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id"), Parts: []task.Part{{Kind: task.Text, Text: rapid.StringN(0, 50, 200).Draw(t, "text")}}},
					Append:   rapid.Bool().Draw(t, "append"), Merge: rapid.Bool().Draw(t, "merge"),
				}
			}
			before = append(before, shown{now, fmt.Sprintf("%+v", now)})
			next, err := task.Apply(now, e, bounds)
			if now.Status.State.Terminal() && !errs.Is(err, errs.Precondition) {
				t.Fatalf("%s was followed: %v", now.Status.State, err)
			}
			if err != nil {
				if fmt.Sprintf("%+v", next) != fmt.Sprintf("%+v", now) {
					t.Fatal("an error changed the task")
				}
				continue
			}
			now = next
			if len(now.History) > bounds.Messages+1 {
				t.Fatalf("%d messages", len(now.History))
			}
		}
		for _, b := range before {
			if fmt.Sprintf("%+v", b.task) != b.text {
				t.Fatal("what was shown has changed")
			}
		}
	})
}

func TestTimesHaveMilliseconds(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Unix(5, 0), time.Unix(5, 999), time.Unix(5, 123456789), time.Now()} {
		got := task.At(at)
		if got.Location() != time.UTC || got.Nanosecond() == 0 || got.Nanosecond()%1e6 != 0 || got.Sub(at).Abs() > time.Millisecond {
			t.Errorf("%v becomes %v", at, got)
		}
	}
}

func TestPushesKeepTheirCredentials(t *testing.T) {
	t.Parallel()
	p := task.Push{ID: "p", Token: "tok", Credentials: "cred"}
	if s := fmt.Sprintf("%v %+v %#v %s", p, p, p, p); strings.Contains(s, "tok") || strings.Contains(s, "cred") {
		t.Errorf("shown: %s", s)
	}
}
