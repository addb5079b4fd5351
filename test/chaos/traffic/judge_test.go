package traffic

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/stub"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// modelCall is the model call of request r1.
func modelCall(prompt, temperature, tool int) stub.Call {
	t := Temperature(temperature)
	return stub.Call{User: "req r1", System: fmt.Sprintf("number %d", prompt), Temperature: &t, Tools: []string{fmt.Sprintf("numbers-a__n%d", tool%world.ToolNumbers)}}
}

func toolCall(id string, header, tool int) harness.MCPCall {
	return harness.MCPCall{Tool: fmt.Sprintf("n%d", tool%world.ToolNumbers), Args: map[string]any{"q": id}, Headers: http.Header{"X-Number": {fmt.Sprint(header)}}}
}

func answer(id string, k int, revision string) harness.Answer {
	return harness.Answer{Text: fmt.Sprintf("done %s number %d temperature %v end", id, k, Temperature(k)), Config: "2-ff", Revision: revision}
}

func TestARequestIsOfOneConfig(t *testing.T) {
	cases := map[string]struct {
		play func(j *Judge)
		want int
	}{
		"one config": {play: func(j *Judge) {
			j.model(modelCall(3, 3, 3), time.Now())
			j.tool(toolCall("r1", 3, 3), time.Now())
			j.Answered("a", "r1", answer("r1", 3, "2"))
		}},
		"temperature":  {play: func(j *Judge) { j.model(modelCall(3, 4, 3), time.Now()) }, want: 1},
		"offered tool": {play: func(j *Judge) { j.model(modelCall(3, 3, 4), time.Now()) }, want: 1},
		"header": {play: func(j *Judge) {
			j.model(modelCall(3, 3, 3), time.Now())
			j.tool(toolCall("r1", 4, 4), time.Now())
		}, want: 1},
		"called tool": {play: func(j *Judge) { j.tool(toolCall("r1", 3, 4), time.Now()) }, want: 1},
		"second model call": {play: func(j *Judge) {
			j.model(modelCall(3, 3, 3), time.Now())
			j.model(modelCall(4, 4, 4), time.Now())
		}, want: 1},
		"answer": {play: func(j *Judge) {
			j.model(modelCall(3, 3, 3), time.Now())
			j.Answered("a", "r1", answer("r1", 4, "2"))
		}, want: 1},
		"another's answer":     {play: func(j *Judge) { j.Answered("a", "r1", answer("r2", 4, "2")) }, want: 1},
		"header of the answer": {play: func(j *Judge) { j.Answered("a", "r1", answer("r1", 4, "3")) }, want: 1},
		"one config, two": {play: func(j *Judge) {
			j.Answered("a", "r1", answer("r1", 4, "2"))
			j.Answered("a", "r2", answer("r2", 5, "2"))
		}, want: 2},
		"revision acknowledged": {play: func(j *Judge) { j.Acked("a", 2, 4); j.Answered("a", "r1", answer("r1", 5, "2")) }, want: 1},
		"two agents":            {play: func(j *Judge) { j.Acked("a", 2, 4); j.Answered("b", "r1", answer("r1", 5, "2")) }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := &report.Findings{}
			c.play(NewJudge(f))
			if all, n := f.All(); n != c.want {
				t.Errorf("%d violations, want %d: %v", n, c.want, all)
			}
		})
	}
}

func TestOnlyWhatIsExcusedIsExcused(t *testing.T) {
	one, other := &world.Node{Name: "one"}, &world.Node{Name: "other"}
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	e := &Excuses{}
	end := e.Begin([]*world.Node{one}, at(10))
	if !e.Holds(one, at(0), at(11)) || !e.Holds(one, at(20), at(30)) || e.Holds(one, at(0), at(9)) || e.Holds(other, at(10), at(11)) {
		t.Error("an open excuse holds for who it is for, from when it begins")
	}
	end()
	if e.Holds(one, at(20), at(30)) {
		t.Error("an excuse that ended holds on")
	}
}
