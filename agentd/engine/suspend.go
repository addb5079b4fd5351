package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Interrupt is what a suspended request waits for.
type Interrupt string

// The interrupts.
const (
	ForApproval Interrupt = "approval"
	ForInput    Interrupt = "input"
	ForAuth     Interrupt = "auth"
)

// CodeState is the fault of a suspended request that can't be read.
const CodeState = "suspended_state"

// State is the rest of a suspended request, as JSON too. It holds no prompt: the request goes on with the prompt of its day.
type State struct {
	Kind       Interrupt      `json:"kind"`
	Question   string         `json:"question,omitempty"` // of input and auth
	Messages   []Message      `json:"messages"`           // all but the agent's own prompt, up to the model's wish
	Input      []Message      `json:"input"`
	Remember   bool           `json:"remember,omitempty"`
	Calls      []Asked        `json:"calls"`             // of the round, in the model's order
	Results    []ToolResult   `json:"results,omitempty"` // of the calls that have one
	Text       string         `json:"text,omitempty"`
	Usage      Usage          `json:"usage"`
	Iterations int            `json:"iterations"`
	Earlier    int            `json:"earlier,omitempty"` // of Iterations: before the caller answered last
	Steps      []Step         `json:"steps,omitempty"`
	Tools      []Use          `json:"tools,omitempty"`
	Same       map[string]int `json:"same,omitempty"`
	Mending    bool           `json:"mending,omitempty"`
	// Changed is what the model is told of arguments that a person changed, by call ID.
	Changed map[string]string `json:"changed,omitempty"`
}

// Asked is a call of a suspended round.
type Asked struct {
	Call

	Needs bool   `json:"needs,omitempty"` // consent
	Why   string `json:"why,omitempty"`
}

// Decision is about one call of a suspended round.
type Decision struct {
	CallID    string
	Approved  bool
	Arguments string // instead of what the model wrote; "": as it wrote
	By        string
	Reason    string
}

// consent asks which calls need consent, and whether any does.
func (l *Loop) consent(run []Call) (asked []Asked, needed bool) {
	if l.cfg.Approve == nil {
		return nil, false
	}
	runs := make(map[string]bool, len(run))
	for _, c := range run {
		runs[c.ID] = true
	}
	asked = make([]Asked, len(l.calls))
	for i, c := range l.calls {
		asked[i].Call = c
		if runs[c.ID] {
			asked[i].Why, asked[i].Needs = l.cfg.Approve(c)
			needed = needed || asked[i].Needs
		}
	}
	return asked, needed
}

// ask suspends for a question to the caller: the calls that ask keep no result, the caller's answer will be it.
func (l *Loop) ask(first *Outcome) []Effect {
	asked := make([]Asked, len(l.calls))
	question := ""
	for i, c := range l.calls {
		asked[i].Call = c
		o := l.results[c.ID].Outcome
		if o == nil || o.Kind != first.Kind {
			continue
		}
		delete(l.results, c.ID)
		if question != "" {
			question += "\n\n"
		}
		question += o.Text
	}
	kind := ForInput
	if first.Kind == AuthRequired {
		kind = ForAuth
	}
	return l.suspend(kind, question, asked)
}

// suspend gives the rest of the request away and ends.
func (l *Loop) suspend(kind Interrupt, question string, asked []Asked) []Effect {
	s := State{
		Kind: kind, Question: question, Messages: slices.Clip(l.rest()), Input: l.input, Remember: l.remember, Calls: asked, Text: l.text.String(),
		Usage: l.res.Usage, Iterations: l.res.Iterations, Earlier: l.earlier, Steps: l.res.Steps, Tools: l.tools, Same: l.same, Mending: l.mending, Changed: l.changed,
	}
	for _, c := range l.calls {
		if r, ok := l.results[c.ID]; ok {
			s.Results = append(s.Results, r)
		}
	}
	return append([]Effect{Suspend{State: s}}, l.finish(BySuspend, "")...)
}

func (l *Loop) resume(r Resume) []Effect {
	s := r.State
	l.messages = make([]Message, 0, 1+len(s.Messages)+len(s.Calls)+8)
	l.prompt()
	l.messages = append(l.messages, s.Messages...)
	l.input, l.remember, l.tools, l.same, l.mending = s.Input, s.Remember, slices.Clone(s.Tools), maps.Clone(s.Same), s.Mending
	l.res.Usage, l.res.Iterations, l.res.Steps, l.earlier = s.Usage, s.Iterations, slices.Clone(s.Steps), s.Earlier
	l.text.WriteString(s.Text)
	l.round = round{results: make(map[string]ToolResult, len(s.Calls)), changed: maps.Clone(s.Changed)}
	for _, c := range s.Calls {
		l.calls = append(l.calls, c.Call)
	}
	for _, res := range s.Results {
		l.results[res.CallID] = res
	}
	if !s.whole() {
		l.res.Code = CodeState
		return l.finish(ByFault, "the suspended request's state is broken")
	}
	if s.Kind != ForApproval {
		return l.told(s, r.Answer, r.Images)
	}
	return l.decided(s, r.Decisions)
}

// whole reports whether every call has an ID of its own: else one would be waited for that nobody makes. A state comes from a store.
func (s State) whole() bool {
	seen := make(map[string]bool, len(s.Calls))
	for _, c := range s.Calls {
		if c.ID == "" || seen[c.ID] {
			return false
		}
		seen[c.ID] = true
	}
	return true
}

// told goes on with the caller's answer. What was said so far becomes a turn of its own: the question belongs to it, the answer follows, with
// as many model calls as a request has, and calls may repeat those before it; what is spent counts on.
func (l *Loop) told(s State, answer string, images []Image) []Effect {
	for _, c := range l.calls {
		if _, ok := l.results[c.ID]; !ok {
			l.results[c.ID] = ToolResult{CallID: c.ID, Text: answer}
		}
	}
	said := s.Question
	if s.Text != "" {
		said = s.Text + "\n\n" + s.Question
	}
	l.input = append(slices.Clip(l.input), Message{Role: Assistant, Text: said}, Message{Role: User, Text: answer, Images: images})
	l.images = images
	l.earlier = s.Iterations
	clear(l.same)
	l.text.Reset()
	return l.observe()
}

// decided runs what was consented to, and what needs no consent now either.
func (l *Loop) decided(s State, decisions []Decision) []Effect {
	by := make(map[string]Decision, len(decisions))
	for _, d := range decisions {
		by[d.CallID] = d
	}
	var run []Call
	for i, c := range l.calls {
		if _, ok := l.results[c.ID]; ok {
			continue
		}
		d, ok := by[c.ID]
		if !ok {
			d.Approved = !s.Calls[i].Needs && !l.needs(c)
		}
		if !d.Approved {
			l.results[c.ID] = ToolResult{CallID: c.ID, IsError: true, Denied: true, Text: denial(d)}
			continue
		}
		if d.Arguments != "" && d.Arguments != c.Arguments {
			if l.changed == nil {
				l.changed = map[string]string{}
			}
			l.changed[c.ID] = fmt.Sprintf("(the arguments were changed to %s%s before the call)\n", d.Arguments, author(d))
			l.calls[i].Arguments, c.Arguments = d.Arguments, d.Arguments
		}
		run = append(run, c)
	}
	return l.call(run)
}

func (l *Loop) needs(c Call) bool {
	if l.cfg.Approve == nil {
		return false
	}
	_, needed := l.cfg.Approve(c)
	return needed
}

func denial(d Decision) string {
	text := "the call was denied" + author(d)
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text + ". Nothing ran."
}

func author(d Decision) string {
	if d.By == "" {
		return ""
	}
	return " by " + d.By
}

// Use is one tool call with its result, to be remembered.
type Use struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
	Result    string `json:"result"`
	IsError   bool   `json:"isError,omitempty"`
}

// OutcomeKind is what a built-in tool does to the request that called it.
type OutcomeKind string

// The kinds of outcome.
const (
	InputRequired OutcomeKind = "input_required" // suspend: the caller's next message is the call's result
	AuthRequired  OutcomeKind = "auth_required"  // likewise
	Rejected      OutcomeKind = "rejected"       // finish by ByReject
	GivenUp       OutcomeKind = "failed"         // finish by ByGiveUp
	Reply         OutcomeKind = "reply"          // finish by ByAnswer, Lone
)

// Outcome is what a built-in tool does to the request that called it; Text is the question, the reason or the reply.
type Outcome struct {
	Kind OutcomeKind
	Text string
}

// Artifact is a thing that a tool made for the caller.
type Artifact struct {
	ID          string
	Name        string
	Description string
	Parts       []Part
	Append      bool // to the artifact of that ID
	Last        bool // nothing is appended any more
}

// Part is a piece of an Artifact: one of Text, Data, Bytes and URL.
type Part struct {
	Text      string
	Data      json.RawMessage
	Bytes     []byte
	URL       string
	MediaType string
	Filename  string
}
