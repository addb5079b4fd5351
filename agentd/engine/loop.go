package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// CodeArguments is the fault of a model that can't write a tool's arguments, not even when told what is wrong.
const CodeArguments = "tool_arguments"

// Loop is one request's state. It belongs to one goroutine.
type Loop struct {
	cfg      Config
	messages []Message
	input    []Message
	remember bool

	text    strings.Builder // everything emitted
	message strings.Builder // of the model message that streams now
	res     Result

	calls    []Call // of the round under way, in the model's order
	results  map[string]ToolResult
	waiting  int
	mending  bool // the round before had malformed arguments
	finished bool
}

// New makes a Loop.
func New(cfg Config) *Loop {
	cfg.MaxIterations = max(cfg.MaxIterations, 1)
	return &Loop{cfg: cfg}
}

// Step takes an event and gives what to do, in order. Events after Finish give nothing.
func (l *Loop) Step(e Event) []Effect {
	if l.finished {
		return nil
	}
	switch e := e.(type) {
	case Request:
		return l.begin(e)
	case Delta:
		return l.delta(e)
	case Answered:
		return l.answered(e)
	case Failed:
		l.res.Code = e.Code
		return l.finish(ByFault, e.Message)
	case ToolResult:
		return l.toolResult(e)
	case Deadline:
		return l.finish(ByDeadline, "the request's time is over; "+l.done())
	case Cancel:
		return l.finish(ByCancel, "the caller is gone")
	default:
		return nil
	}
}

func (l *Loop) begin(r Request) []Effect {
	l.messages = make([]Message, 0, 1+len(r.Context)+len(r.Recalled)+len(r.Input)+8)
	if l.cfg.System != "" {
		l.messages = append(l.messages, Message{Role: System, Text: l.cfg.System})
	}
	l.messages = append(l.messages, r.Context...)
	l.messages = append(l.messages, r.Recalled...)
	l.messages = append(l.messages, r.Input...)
	l.input, l.remember = r.Input, r.Remember
	return l.think()
}

func (l *Loop) think() []Effect {
	if l.res.Iterations >= l.cfg.MaxIterations {
		return l.finish(ByMaxIterations, fmt.Sprintf("no answer after %d model calls (maxIterations); %s", l.res.Iterations, l.done()))
	}
	l.res.Iterations++
	l.message.Reset()
	return []Effect{CallModel{Iteration: l.res.Iterations, Messages: l.messages[:len(l.messages):len(l.messages)]}}
}

func (l *Loop) delta(d Delta) []Effect {
	if d.Text == "" {
		return []Effect{Emit{Text: d.Text, Reasoning: d.Reasoning}}
	}
	if l.message.Len() == 0 && l.text.Len() > 0 { // words before a tool call, then the answer
		l.text.WriteString("\n\n")
		l.text.WriteString(d.Text)
		l.message.WriteString(d.Text)
		return []Effect{Emit{Text: "\n\n" + d.Text, Reasoning: d.Reasoning}}
	}
	l.text.WriteString(d.Text)
	l.message.WriteString(d.Text)
	return []Effect{Emit{Text: d.Text, Reasoning: d.Reasoning}}
}

func (l *Loop) answered(a Answered) []Effect {
	l.res.Usage = l.res.Usage.plus(a.Usage)
	l.res.FinishReason = a.FinishReason
	if len(a.Calls) == 0 {
		return l.answer()
	}
	switch {
	case l.res.Iterations >= l.cfg.MaxIterations: // nobody would read the results
		return l.think()
	case l.cfg.Tokens > 0 && l.res.Usage.Total() >= l.cfg.Tokens:
		return l.finish(ByTokens, fmt.Sprintf("%d of %d tokens are used (limits.tokens); %s", l.res.Usage.Total(), l.cfg.Tokens, l.done()))
	case l.cfg.ToolCalls > 0 && len(l.res.Steps)+len(a.Calls) > l.cfg.ToolCalls:
		return l.finish(ByToolCalls, fmt.Sprintf("%d more tool calls would pass the limit of %d (limits.toolCalls); %s", len(a.Calls), l.cfg.ToolCalls, l.done()))
	}
	return l.act(a.Calls)
}

func (l *Loop) answer() []Effect {
	var effects []Effect
	if l.remember && l.text.Len() > 0 && l.res.FinishReason != "content_filter" {
		var turns []Message
		for _, m := range l.input {
			if m.Role == User {
				turns = append(turns, m)
			}
		}
		effects = append(effects, Remember{Turns: append(turns, Message{Role: Assistant, Text: l.text.String()})})
	}
	return append(effects, l.finish(ByAnswer, "")...)
}

// act starts a round of tool calls. Arguments that are no JSON object are answered here and stay out of the history: many endpoints choke
// on them when they come back.
func (l *Loop) act(calls []Call) []Effect {
	l.results = make(map[string]ToolResult, len(calls))
	l.calls = make([]Call, len(calls))
	run := make([]Call, 0, len(calls))
	for i, c := range calls {
		l.calls[i] = c
		if fault := argumentFault(c.Arguments); fault != "" {
			l.calls[i].Arguments = "{}"
			l.results[c.ID] = ToolResult{
				CallID: c.ID, IsError: true, Malformed: true,
				Text: fmt.Sprintf("the arguments are malformed: %s. You wrote: %s. Call the tool again with one JSON object that fits its schema.", fault, clip(c.Arguments)),
			}
			continue
		}
		run = append(run, c)
	}
	l.messages = append(l.messages, Message{Role: Assistant, Text: l.message.String(), Calls: l.calls})
	l.waiting = len(run)
	if l.waiting == 0 {
		return l.observe()
	}
	return []Effect{CallTools{Calls: run}}
}

func argumentFault(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	var object map[string]json.RawMessage
	err := json.Unmarshal([]byte(s), &object)
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind):
		return "a JSON " + kind.Value + " is no object"
	case err != nil:
		return err.Error()
	case object == nil:
		return "null is no object"
	}
	return ""
}

func clip(s string) string {
	if len(s) <= 300 {
		return s
	}
	return strings.ToValidUTF8(s[:300], "") + "..."
}

func (l *Loop) toolResult(r ToolResult) []Effect {
	if _, twice := l.results[r.CallID]; twice || l.waiting == 0 {
		return nil
	}
	for _, c := range l.calls {
		if c.ID != r.CallID {
			continue
		}
		l.results[r.CallID] = r
		if l.waiting--; l.waiting == 0 {
			return l.observe()
		}
		return nil
	}
	return nil
}

// observe gives a round's results to the model, in the order in which it asked.
func (l *Loop) observe() []Effect {
	malformed := ""
	for _, c := range l.calls {
		r := l.results[c.ID]
		if r.Malformed {
			malformed = c.Name
		} else {
			l.res.Steps = append(l.res.Steps, Step{Tool: c.Name, IsError: r.IsError})
		}
		text := r.Text
		if text == "" {
			text = "(empty)" // an empty result is dropped on the wire, and then the call has no answer
		}
		l.messages = append(l.messages, Message{Role: Tool, CallID: c.ID, Text: text})
	}
	if malformed != "" && l.mending {
		l.res.Code = CodeArguments
		return l.finish(ByFault, fmt.Sprintf("the model wrote malformed arguments for %s again after being told; %s", malformed, l.done()))
	}
	l.mending = malformed != ""
	return l.think()
}

func (l *Loop) finish(end End, message string) []Effect {
	l.finished = true
	l.res.End, l.res.Message, l.res.Text = end, message, l.text.String()
	return []Effect{Finish{Result: l.res}}
}

// done tells what was done, for errors.
func (l *Loop) done() string {
	if len(l.res.Steps) == 0 {
		return "no tool was called"
	}
	count := map[string]int{}
	var order []string
	for _, s := range l.res.Steps {
		if count[s.Tool] == 0 {
			order = append(order, s.Tool)
		}
		count[s.Tool]++
	}
	parts := make([]string, len(order))
	for i, name := range order {
		parts[i] = fmt.Sprintf("%s x%d", name, count[name])
	}
	return "tools called: " + strings.Join(parts, ", ")
}
