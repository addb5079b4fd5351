package engine_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/agentry/agentry/agentd/engine"
)

// driven is a request under a random world: it holds what must be true of any of them.
type driven struct {
	t        *rapid.T
	cfg      engine.Config
	loop     *engine.Loop
	models   int // calls asked for, over all resumptions
	open     map[string]bool
	ran      int
	finishes int
	state    *engine.State
	result   engine.Result
}

func (d *driven) step(e engine.Event) {
	for i, effect := range d.loop.Step(e) {
		if d.finishes > 0 {
			d.t.Fatalf("effect %T after the end", effect)
		}
		switch effect := effect.(type) {
		case engine.CallModel:
			d.models++
			check(d.t, effect.Messages)
		case engine.CallTools:
			for _, c := range effect.Calls {
				if d.open[c.ID] {
					d.t.Fatalf("call %s asked for twice in a round", c.ID)
				}
				d.open[c.ID] = true
				d.ran++
			}
		case engine.Suspend:
			if i != 0 || len(d.open) > 0 {
				d.t.Fatalf("suspended as effect %d with %d calls open", i, len(d.open))
			}
			d.state = reread(d.t, effect.State)
		case engine.Finish:
			d.finishes++
			d.result = effect.Result
			if (effect.Result.End == engine.BySuspend) != (d.state != nil) {
				d.t.Fatalf("ended %s, state %v", effect.Result.End, d.state)
			}
		case engine.Remember, engine.Emit:
		}
	}
}

func reread(t *rapid.T, s engine.State) *engine.State {
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	out := &engine.State{}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// check holds what endpoints insist on: each call of an assistant is answered, once, right behind it.
func check(t *rapid.T, ms []engine.Message) {
	for i := 0; i < len(ms); i++ {
		for j, c := range ms[i].Calls {
			if k := i + 1 + j; k >= len(ms) || ms[k].Role != engine.Tool || ms[k].CallID != c.ID {
				t.Fatalf("call %s has no result where it belongs: %+v", c.ID, ms)
			}
		}
		i += len(ms[i].Calls)
		if i < len(ms) && ms[i].Role == engine.Tool && len(ms[i].Calls) > 0 {
			t.Fatalf("a tool result that calls: %+v", ms[i])
		}
	}
}

func randomConfig(t *rapid.T) engine.Config {
	cfg := engine.Config{
		System:        rapid.SampledFrom([]string{"", "You help."}).Draw(t, "system"),
		MaxIterations: rapid.IntRange(1, 6).Draw(t, "maxIterations"),
		ToolCalls:     rapid.IntRange(0, 8).Draw(t, "toolCalls"),
		SameCall:      rapid.IntRange(0, 2).Draw(t, "sameCall"),
		Tokens:        int64(rapid.IntRange(0, 60).Draw(t, "tokens")),
		ToolPayload:   rapid.IntRange(0, 10).Draw(t, "toolPayload"),
	}
	needs := rapid.SampledFrom([]string{"", "t0", "t1"}).Draw(t, "approve")
	cfg.Approve = func(c engine.Call) (string, bool) { return "listed", c.Name == needs }
	return cfg
}

func randomAnswer(t *rapid.T) engine.Answered {
	a := engine.Answered{Usage: engine.Usage{Input: 5, Output: 1}}
	for range rapid.IntRange(0, 3).Draw(t, "calls") {
		a.Calls = append(a.Calls, engine.Call{
			ID:        rapid.SampledFrom([]string{"", "a", "b", "c", "call_1_1"}).Draw(t, "id"),
			Name:      fmt.Sprintf("t%d", rapid.IntRange(0, 2).Draw(t, "tool")),
			Arguments: rapid.SampledFrom([]string{"", "{}", `{"x":1}`, `{"x"`, "null"}).Draw(t, "arguments"),
		})
	}
	return a
}

func randomResult(t *rapid.T, id string) engine.ToolResult {
	r := engine.ToolResult{CallID: id, Text: "r", IsError: rapid.Bool().Draw(t, "failed"), Malformed: rapid.IntRange(0, 9).Draw(t, "malformed") == 0}
	kind := rapid.SampledFrom([]engine.OutcomeKind{"", "", "", "", "", "", engine.InputRequired, engine.AuthRequired, engine.Rejected, engine.GivenUp, engine.Reply, "odd"}).Draw(t, "outcome")
	if kind != "" {
		r.Outcome = &engine.Outcome{Kind: kind, Text: "o"}
	}
	return r
}

// TestEndsOnce: whatever comes in whatever order, a request ends once, within its budgets, and a suspended one goes on from its JSON.
func TestEndsOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := &driven{t: t, cfg: randomConfig(t), open: map[string]bool{}}
		d.loop = engine.New(d.cfg)
		d.step(engine.Request{Input: []engine.Message{{Role: engine.User, Text: "q"}}, Remember: rapid.Bool().Draw(t, "remember")})
		for range 200 {
			if d.finishes > 0 {
				if !d.resume() {
					break
				}
			}
			d.event()
		}
		if d.finishes != 1 {
			t.Fatalf("%d ends after 200 events", d.finishes)
		}
		d.budgets()
		d.step(engine.Deadline{}) // fails on any effect
		d.step(engine.Answered{})
	})
}

// event gives the loop what it waits for, or something stray before.
func (d *driven) event() {
	switch rapid.IntRange(0, 39).Draw(d.t, "stray") {
	case 0:
		d.step(engine.Deadline{})
		return
	case 1:
		d.step(engine.Cancel{})
		return
	case 2:
		d.step(engine.Failed{Code: "x", Message: "y"})
		return
	case 3:
		d.step(engine.ToolResult{CallID: "nobody"})
		return
	}
	if len(d.open) > 0 {
		id := rapid.SampledFrom(slices.Sorted(maps.Keys(d.open))).Draw(d.t, "result")
		delete(d.open, id)
		r := randomResult(d.t, id)
		d.step(r)
		if d.finishes == 0 {
			d.step(r) // twice counts once
		}
		return
	}
	d.step(engine.Delta{Text: "w"})
	d.step(randomAnswer(d.t))
}

// resume goes on with a suspended request on another config, as a person decides; false when it ended for good.
func (d *driven) resume() bool {
	if d.state == nil {
		return false
	}
	r := engine.Resume{State: *d.state, Answer: "because"}
	for _, c := range d.state.Calls {
		if rapid.Bool().Draw(d.t, "decided") {
			r.Decisions = append(r.Decisions, engine.Decision{CallID: c.ID, Approved: rapid.Bool().Draw(d.t, "approved"), Arguments: rapid.SampledFrom([]string{"", `{"y":2}`}).Draw(d.t, "edit")})
		}
	}
	d.state, d.finishes = nil, 0
	clear(d.open)
	d.loop = engine.New(d.cfg)
	d.step(r)
	return true
}

func (d *driven) budgets() {
	if d.models > d.cfg.MaxIterations {
		d.t.Fatalf("%d model calls, the limit is %d", d.models, d.cfg.MaxIterations)
	}
	if d.cfg.ToolCalls > 0 && d.ran > d.cfg.ToolCalls {
		d.t.Fatalf("%d tool calls, the limit is %d", d.ran, d.cfg.ToolCalls)
	}
	if d.result.Iterations != d.models {
		d.t.Fatalf("%d model calls are told, %d were made", d.result.Iterations, d.models)
	}
}
