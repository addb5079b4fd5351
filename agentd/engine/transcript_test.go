package engine_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/agentd/engine"
)

var update = flag.Bool("update", false, "rewrite the effects in testdata")

// TestTranscripts plays testdata/*.txt: a line that starts with ">" is an event, what follows it are the effects. -update
// rewrites the effects; review reads the diff. The events:
//
//	> config maxIterations=3 toolCalls=2 tokens=100 costUsd=0.5 sameCall=2 toolPayload=9 approve=t,u system="..."
//	                                                                (no effects; comes first, or before a resume: the config of its day)
//	> recall user=q1 assistant=a1                                   (no effects; what memory gave)
//	> context "..."                                                 (no effects; a caller's system message)
//	> ask "..." [stateless]
//	> delta "..." [reasoning]
//	> answered [finish=stop] [in=10] [out=5] [cost=0.1] [id:name:arguments ...]
//	> failed code "message"
//	> result id "text" [error] [malformed] [outcome=reject] [artifact=name]
//	> approve by=ann [id=arguments ...]                             (resumes, the state went through JSON)
//	> deny by=ann reason="..."
//	> tell "answer"
//	> deadline
//	> cancel
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

type player struct {
	loop  *engine.Loop
	cfg   engine.Config
	req   engine.Request
	state engine.State
	out   strings.Builder
}

func play(t *testing.T, script string) string {
	t.Helper()
	p := &player{cfg: engine.Config{MaxIterations: 10}}
	for line := range strings.Lines(script) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "#") || line == "" {
			p.out.WriteString(line + "\n")
			continue
		}
		event, ok := strings.CutPrefix(line, "> ")
		if !ok {
			continue
		}
		p.out.WriteString(line + "\n")
		words := split(t, event)
		for _, effect := range p.event(t, words) {
			p.show(effect)
		}
	}
	return p.out.String()
}

// split cuts at spaces, but not within double quotes.
func split(t *testing.T, s string) []string {
	t.Helper()
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if i := strings.IndexAny(s, ` "`); i >= 0 && s[i] == '"' && (i == 0 || s[i-1] == '=') {
			quoted, err := strconv.QuotedPrefix(s[i:])
			if err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			text, _ := strconv.Unquote(quoted)
			words = append(words, s[:i]+text)
			s = s[i+len(quoted):]
			continue
		}
		word, rest, _ := strings.Cut(s, " ")
		words = append(words, word)
		s = rest
	}
	return words
}

func (p *player) event(t *testing.T, w []string) []engine.Effect {
	t.Helper()
	has := func(word string) bool {
		return slices.Contains(w[1:], word)
	}
	if p.loop == nil && w[0] == "ask" {
		p.loop = engine.New(p.cfg)
	}
	switch w[0] {
	case "config":
		p.config(w[1:])
		return nil
	case "recall":
		for _, x := range w[1:] {
			role, text, _ := strings.Cut(x, "=")
			p.req.Recalled = append(p.req.Recalled, engine.Message{Role: engine.Role(role), Text: text})
		}
		return nil
	case "context":
		p.req.Context = append(p.req.Context, engine.Message{Role: engine.System, Text: w[1]})
		return nil
	case "ask":
		p.req.Input = []engine.Message{{Role: engine.User, Text: w[1]}}
		p.req.Remember = !has("stateless")
		return p.loop.Step(p.req)
	case "delta":
		if has("reasoning") {
			return p.loop.Step(engine.Delta{Reasoning: w[1]})
		}
		return p.loop.Step(engine.Delta{Text: w[1]})
	case "answered":
		return p.loop.Step(answered(w[1:]))
	case "failed":
		return p.loop.Step(engine.Failed{Code: w[1], Message: w[2]})
	case "result":
		return p.loop.Step(result(w[1:]))
	case "approve", "deny", "tell":
		p.loop = engine.New(p.cfg)
		return p.loop.Step(p.resume(w))
	case "deadline":
		return p.loop.Step(engine.Deadline{})
	case "cancel":
		return p.loop.Step(engine.Cancel{})
	default:
		t.Fatalf("unknown event %q", w[0])
		return nil
	}
}

func (p *player) config(w []string) {
	for _, x := range w {
		name, value, _ := strings.Cut(x, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "maxIterations":
			p.cfg.MaxIterations = n
		case "toolCalls":
			p.cfg.ToolCalls = n
		case "tokens":
			p.cfg.Tokens = int64(n)
		case "costUsd":
			p.cfg.CostUSD, _ = strconv.ParseFloat(value, 64)
		case "sameCall":
			p.cfg.SameCall = n
		case "toolPayload":
			p.cfg.ToolPayload = n
		case "approve":
			p.cfg.Approve = func(c engine.Call) (string, bool) {
				if !slices.Contains(strings.Split(value, ","), c.Name) {
					return "", false
				}
				return c.Name + " is listed", true
			}
		case "system":
			p.cfg.System = value
		}
	}
}

func result(w []string) engine.ToolResult {
	r := engine.ToolResult{CallID: w[0], Text: w[1]}
	for _, x := range w[2:] {
		switch name, value, _ := strings.Cut(x, "="); name {
		case "error":
			r.IsError = true
		case "malformed":
			r.Malformed = true
		case "outcome":
			r.Outcome = &engine.Outcome{Kind: engine.OutcomeKind(value), Text: r.Text}
		case "artifact":
			r.Artifacts = append(r.Artifacts, engine.Artifact{ID: value, Name: value, Parts: []engine.Part{{Text: "x"}}})
		}
	}
	return r
}

func (p *player) resume(w []string) engine.Resume {
	r := engine.Resume{State: p.state}
	if w[0] == "tell" {
		r.Answer = w[1]
		return r
	}
	given := map[string]string{}
	for _, x := range w[1:] {
		name, value, _ := strings.Cut(x, "=")
		given[name] = value
	}
	for _, c := range p.state.Calls {
		if w[0] == "approve" || c.Needs {
			r.Decisions = append(r.Decisions, engine.Decision{CallID: c.ID, Approved: w[0] == "approve", By: given["by"], Reason: given["reason"], Arguments: given[c.ID]})
		}
	}
	return r
}

func answered(w []string) engine.Answered {
	a := engine.Answered{FinishReason: "stop"}
	for _, x := range w {
		if name, value, ok := strings.Cut(x, "="); ok && (name == "finish" || name == "in" || name == "out" || name == "cost") {
			n, _ := strconv.Atoi(value)
			switch name {
			case "finish":
				a.FinishReason = value
			case "in":
				a.Usage.Input = int64(n)
			case "out":
				a.Usage.Output = int64(n)
			case "cost":
				a.Usage.CostUSD, _ = strconv.ParseFloat(value, 64)
			}
			continue
		}
		parts := strings.SplitN(x, ":", 3)
		a.Calls = append(a.Calls, engine.Call{ID: parts[0], Name: parts[1], Arguments: parts[2]})
		a.FinishReason = "tool_calls"
	}
	return a
}

func (p *player) show(e engine.Effect) {
	switch e := e.(type) {
	case engine.CallModel:
		fmt.Fprintf(&p.out, "call model, iteration %d\n", e.Iteration)
		p.messages(e.Messages)
	case engine.CallTools:
		p.out.WriteString("call tools\n")
		for _, c := range e.Calls {
			fmt.Fprintf(&p.out, "  %s %s %s\n", c.ID, c.Name, c.Arguments)
		}
	case engine.Emit:
		if e.Artifact != nil {
			fmt.Fprintf(&p.out, "emit artifact %s\n", e.Artifact.Name)
			return
		}
		fmt.Fprintf(&p.out, "emit %q %q\n", e.Text, e.Reasoning)
	case engine.Remember:
		p.out.WriteString("remember\n")
		p.messages(e.Turns)
		for _, u := range e.Tools {
			fmt.Fprintf(&p.out, "    used %s %s: %q, failed %v\n", u.Name, u.Arguments, u.Result, u.IsError)
		}
	case engine.Suspend:
		b, _ := json.MarshalIndent(e.State, "  ", " ")
		fmt.Fprintf(&p.out, "suspend %s\n", b)
		p.state = engine.State{}
		_ = json.Unmarshal(b, &p.state)
	case engine.Finish:
		b, _ := json.MarshalIndent(e.Result, "  ", " ")
		fmt.Fprintf(&p.out, "finish %s\n", b)
	}
}

func (p *player) messages(ms []engine.Message) {
	for _, m := range ms {
		fmt.Fprintf(&p.out, "  %s", m.Role)
		if m.CallID != "" {
			fmt.Fprintf(&p.out, " %s", m.CallID)
		}
		fmt.Fprintf(&p.out, ": %q\n", m.Text)
		for _, c := range m.Calls {
			fmt.Fprintf(&p.out, "    calls %s %s %s\n", c.ID, c.Name, c.Arguments)
		}
	}
}
