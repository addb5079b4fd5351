package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// round is a round of tool calls under way.
type round struct {
	calls   []Call // in the model's order
	results map[string]ToolResult
	waiting int
	changed map[string]string // by call ID: what the model is told of arguments that a person changed
}

// act starts a round of tool calls. Arguments that are no JSON object are answered here and stay out of the history: many endpoints choke
// on them when they come back. Where one call needs consent, nothing of the round runs before.
func (l *Loop) act(calls []Call) []Effect {
	r := round{calls: named(calls, l.res.Iterations), results: make(map[string]ToolResult, len(calls))}
	run := make([]Call, 0, len(calls))
	for i, c := range r.calls {
		fault := argumentFault(c.Arguments)
		if fault == "" {
			run = append(run, c)
			continue
		}
		r.calls[i].Arguments = "{}"
		r.results[c.ID] = ToolResult{
			CallID: c.ID, IsError: true, Malformed: true,
			Text: fmt.Sprintf("the arguments are malformed: %s. You wrote: %s. Call the tool again with one JSON object that fits its schema.", fault, clip(c.Arguments)),
		}
	}
	if name := l.repeats(run); name != "" {
		return l.finish(BySameCall, fmt.Sprintf("the model wants to call %s with the same arguments more often than %d times (limits.sameCall); %s", name, l.cfg.SameCall, l.done()))
	}
	l.round = r
	l.messages = append(l.messages, Message{Role: Assistant, Text: l.message.String(), Calls: l.calls})
	if asked, needed := l.consent(run); needed {
		return l.suspend(ForApproval, "", asked)
	}
	return l.call(run)
}

// named gives every call an ID of its own: some endpoints leave IDs out or repeat them.
func named(calls []Call, iteration int) []Call {
	out := make([]Call, len(calls))
	seen := make(map[string]bool, len(calls))
	for i, c := range calls {
		for n := i; c.ID == "" || seen[c.ID]; n++ {
			c.ID = fmt.Sprintf("call_%d_%d", iteration, n)
		}
		seen[c.ID] = true
		out[i] = c
	}
	return out
}

// call performs calls of the round under way.
func (l *Loop) call(run []Call) []Effect {
	l.count(run)
	if l.waiting = len(run); l.waiting == 0 {
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
		var effects []Effect
		for i := range r.Artifacts {
			effects = append(effects, Emit{Artifact: &r.Artifacts[i]})
		}
		r.Artifacts = nil
		l.results[r.CallID] = r
		if l.waiting--; l.waiting == 0 {
			effects = append(effects, l.observe()...)
		}
		return effects
	}
	return nil
}

// observe gives a round's results to the model, in the order in which it asked; or does what a built-in tool of the round wants instead.
func (l *Loop) observe() []Effect {
	var last, ask *Outcome // the first that ends the request, the first that asks its caller
	malformed := ""
	for _, c := range l.calls {
		r := l.results[c.ID]
		switch o := r.Outcome; {
		case r.Malformed:
			malformed = c.Name
		case o == nil:
		case o.Kind == Rejected || o.Kind == GivenUp || o.Kind == Reply:
			if last == nil {
				last = o
			}
		case (o.Kind == InputRequired || o.Kind == AuthRequired) && ask == nil:
			ask = o
		}
	}
	broken := malformed != "" && l.mending
	if ask != nil && last == nil && !broken {
		return l.ask(ask)
	}
	l.note()
	switch {
	case last != nil:
		return l.conclude(*last)
	case broken:
		l.res.Code = CodeArguments
		return l.finish(ByFault, fmt.Sprintf("the model wrote malformed arguments for %s again after being told; %s", malformed, l.done()))
	}
	l.mending = malformed != ""
	return l.think()
}

// note writes the round's results into the history.
func (l *Loop) note() {
	for _, c := range l.calls {
		r := l.results[c.ID]
		if !r.Malformed && !r.Denied {
			l.res.Steps = append(l.res.Steps, Step{Tool: c.Name, IsError: r.IsError})
			if l.cfg.ToolPayload > 0 && len(c.Arguments)+len(r.Text) <= l.cfg.ToolPayload {
				l.tools = append(l.tools, Use{Name: c.Name, Arguments: c.Arguments, Result: r.Text, IsError: r.IsError})
			}
		}
		text := l.changed[c.ID] + r.Text
		if text == "" {
			text = "(empty)" // an empty result is dropped on the wire, and then the call has no answer
		}
		l.messages = append(l.messages, Message{Role: Tool, CallID: c.ID, Text: text})
	}
	if len(l.images) > 0 { // a tool's result has none on the wire
		l.messages = append(l.messages, Message{Role: User, Text: "(the images of the answer)", Images: l.images})
		l.images = nil
	}
}

// conclude ends the request by a built-in tool's outcome.
func (l *Loop) conclude(o Outcome) []Effect {
	switch o.Kind {
	case Rejected:
		return l.finish(ByReject, o.Text)
	case GivenUp:
		return l.finish(ByGiveUp, o.Text)
	default:
		l.message.Reset()
		effects := l.delta(Delta{Text: o.Text})
		l.res.FinishReason, l.res.Lone = "stop", true
		return append(effects, l.answer()...)
	}
}
