package engine

import (
	"fmt"
	"strings"
)

// CodeArguments is the fault of a model that can't write a tool's arguments, not even when told what is wrong.
const CodeArguments = "tool_arguments"

// Loop is one request's state. It belongs to one goroutine.
type Loop struct {
	cfg      Config
	messages []Message // the agent's own prompt first, if it has one
	input    []Message
	remember bool

	text    strings.Builder // everything emitted
	message strings.Builder // of the model message that streams now
	res     Result
	earlier int            // model calls that don't count against MaxIterations: before the caller answered last
	tools   []Use          // to be remembered
	same    map[string]int // calls by callKey; nil where nobody counts

	round
	images   []Image // of a caller's answer, which the model has not seen yet
	mending  bool    // the round before had malformed arguments
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
	case Resume:
		return l.resume(e)
	case Delta:
		return l.delta(e)
	case Answered:
		return l.answered(e)
	case Failed:
		l.res.Code = e.Code
		l.res.Usage = l.res.Usage.plus(e.Usage)
		return l.finish(ByFault, e.Message)
	case ToolResult:
		return l.toolResult(e)
	case Deadline:
		l.res.Usage = l.res.Usage.plus(e.Usage)
		return l.finish(ByDeadline, "the request's time is over; "+l.done())
	case Cancel:
		l.res.Usage = l.res.Usage.plus(e.Usage)
		return l.finish(ByCancel, "the caller is gone")
	default:
		return nil
	}
}

func (l *Loop) begin(r Request) []Effect {
	l.messages = make([]Message, 0, 1+len(r.Context)+len(r.Recalled)+len(r.Input)+8)
	l.prompt()
	l.messages = append(l.messages, r.Context...)
	l.messages = append(l.messages, r.Recalled...)
	l.messages = append(l.messages, r.Input...)
	l.input, l.remember = r.Input, r.Remember
	return l.think()
}

func (l *Loop) prompt() {
	if l.cfg.System != "" {
		l.messages = append(l.messages, Message{Role: System, Text: l.cfg.System})
	}
}

// rest gives the messages without the agent's own prompt.
func (l *Loop) rest() []Message {
	if l.cfg.System != "" {
		return l.messages[1:]
	}
	return l.messages
}

// exhausted reports whether the model may not be called once more.
func (l *Loop) exhausted() bool { return l.res.Iterations-l.earlier >= l.cfg.MaxIterations }

func (l *Loop) think() []Effect {
	if l.exhausted() {
		return l.finish(ByMaxIterations, fmt.Sprintf("no answer after %d model calls (maxIterations); %s", l.res.Iterations-l.earlier, l.done()))
	}
	l.res.Iterations++
	l.message.Reset()
	return []Effect{CallModel{Iteration: l.res.Iterations, Messages: l.messages[:len(l.messages):len(l.messages)]}}
}

func (l *Loop) delta(d Delta) []Effect {
	if d.Text == "" {
		return []Effect{Emit{Reasoning: d.Reasoning}}
	}
	text := d.Text
	if l.message.Len() == 0 && l.text.Len() > 0 { // words before a tool call, then the answer
		text = "\n\n" + text
	}
	l.text.WriteString(text)
	l.message.WriteString(d.Text)
	return []Effect{Emit{Text: text, Reasoning: d.Reasoning}}
}

func (l *Loop) answered(a Answered) []Effect {
	l.res.Usage = l.res.Usage.plus(a.Usage)
	l.res.FinishReason = a.FinishReason
	if len(a.Calls) == 0 {
		return l.answer()
	}
	if l.exhausted() { // nobody would read the results
		return l.think()
	}
	if end, why := l.spent(len(a.Calls)); end != "" {
		return l.finish(end, why+"; "+l.done())
	}
	return l.act(a.Calls)
}

func (l *Loop) answer() []Effect {
	var effects []Effect
	if l.remember && l.text.Len() > 0 && l.res.FinishReason != "content_filter" {
		var turns []Message
		for _, m := range l.input {
			if m.Role == User || m.Role == Assistant {
				turns = append(turns, m)
			}
		}
		effects = append(effects, Remember{Turns: append(turns, Message{Role: Assistant, Text: l.text.String()}), Tools: l.tools})
	}
	return append(effects, l.finish(ByAnswer, "")...)
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
