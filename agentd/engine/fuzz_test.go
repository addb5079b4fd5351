package engine_test

import (
	"encoding/json"
	"testing"

	"github.com/agentry/agentry/agentd/engine"
)

// FuzzResume: a state comes from a store, which may hold anything. Whatever it is, the loop goes on or ends, and does not panic.
func FuzzResume(f *testing.F) {
	f.Add([]byte(`{"kind":"approval","calls":[{"id":"a","name":"t","arguments":"{}","needs":true},{"id":"a","name":"u","arguments":""}],"iterations":1}`), "a", true, "{}")
	f.Add([]byte(`{"kind":"input","question":"q","calls":[{"id":"a"},{"id":"b"}],"results":[{"CallID":"b","Text":"x"},{"CallID":"c"}],"text":"t"}`), "", false, "")
	f.Add([]byte(`{"kind":"auth","messages":[{"role":"tool"}],"iterations":-5,"same":{"x":9},"steps":[{}]}`), "a", false, "[")
	f.Fuzz(func(t *testing.T, raw []byte, id string, approved bool, arguments string) {
		var s engine.State
		if json.Unmarshal(raw, &s) != nil {
			return // no state at all
		}
		l := engine.New(engine.Config{System: "p", MaxIterations: 3, SameCall: 2, ToolPayload: 10, Approve: func(engine.Call) (string, bool) { return "", true }})
		queue := l.Step(engine.Resume{State: s, Answer: "x", Decisions: []engine.Decision{{CallID: id, Approved: approved, Arguments: arguments}}})
		ended := false
		for n := 0; len(queue) > 0 && n < 100; n++ {
			effect := queue[0]
			queue = queue[1:]
			switch effect := effect.(type) {
			case engine.CallTools:
				for _, c := range effect.Calls {
					queue = append(queue, l.Step(engine.ToolResult{CallID: c.ID, Text: "r"})...)
				}
			case engine.CallModel:
				queue = append(queue, l.Step(engine.Answered{})...)
			case engine.Finish:
				ended = true
			}
		}
		if !ended {
			t.Fatal("nothing is left to do and there is no end")
		}
	})
}
