package openaimodel

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/agentry/agentry/agentd/model"
)

// maxItems caps the output items of one answer.
const maxItems = 4096

// The events that count, beside error.
var (
	itemEvents = []string{ //nolint:gochecknoglobals // a constant
		"response.output_text.delta", "response.function_call_arguments.delta", "response.reasoning_summary_text.delta", "response.reasoning_text.delta",
		"response.refusal.delta", "response.reasoning_summary_part.added", "response.function_call_arguments.done", "response.output_item.added",
		"response.output_item.done",
	}
	lastEvents = []string{"response.completed", "response.incomplete", "response.failed", "response.cancelled"} //nolint:gochecknoglobals // a constant
)

// responses reads answers of the Responses API.
type responses struct {
	*answer
	items map[string]*item // of a stream, by their place or else their id
	e     wireEvent        // one for all: what is taken of it is in slices of its own
	spoke bool             // a message has begun
	kept  []byte           // reasoning items that wait for the call they came before
	held  int              // bytes of all reasoning items
}

// item is an output item of a stream that may go on.
type item struct {
	call    int  // in calls.calls; -1: it's none
	said    bool // deltas came: what the whole item says is known
	thought bool
	closed  bool
}

func (a *responses) whole(raw []byte) (text, reasoning string, err error) {
	var w wireResponse
	if err := json.Unmarshal(raw, &w); err != nil {
		return "", "", &protocolError{"the answer is not what the protocol says: " + err.Error()}
	}
	var said, thought strings.Builder
	for i := range w.Output {
		it := &w.Output[i]
		switch it.Type {
		case "message":
			said.WriteString(it.said())
		case "reasoning":
			if more := it.thought(); more != "" {
				if thought.Len() > 0 {
					thought.WriteString("\n\n")
				}
				thought.WriteString(more)
			}
		}
		if err := a.close(&item{call: -1}, it); err != nil {
			return "", "", err
		}
	}
	if err := a.count(said.String(), thought.String()); err != nil {
		return "", "", err
	}
	if err := a.ended(&w); err != nil {
		return "", "", err
	}
	if a.finish == "" {
		return "", "", &protocolError{"an answer that is no whole response: its status is " + strconv.Quote(oneLine(w.Status))}
	}
	return said.String(), thought.String(), nil
}

// event reads one event. Those that aren't known are passed over.
func (a *responses) event(raw []byte, out *output) (more bool, err error) {
	a.e = wireEvent{}
	e := &a.e
	if err := json.Unmarshal(raw, e); err != nil {
		if passedOver(raw) {
			return true, nil
		}
		return false, fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
	}
	if e.Response != nil && e.Response.Model != "" {
		a.model = e.Response.Model
	}
	switch {
	case slices.Contains(itemEvents, e.Type):
		it, err := a.item(e)
		if err != nil {
			return false, err
		}
		return a.ofItem(it, e, raw, out)
	case slices.Contains(lastEvents, e.Type):
		return a.terminal(e, out)
	case e.Type == "error":
		said := e.Error
		if !said.said() {
			said = &refusal{Message: word(e.Message), Code: word(e.Code)}
		}
		return false, said.inAnswer()
	case e.Type == "" && e.Error.said():
		return false, e.Error.inAnswer()
	}
	return true, nil
}

// passedOver tells whether raw is an event of a type that isn't known, whose fields may be anything.
func passedOver(raw []byte) bool {
	var e struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(raw, &e) == nil && e.Type != "" && e.Type != "error" && !slices.Contains(itemEvents, e.Type) && !slices.Contains(lastEvents, e.Type)
}

// ofItem reads an event that belongs to an output item.
func (a *responses) ofItem(it *item, e *wireEvent, raw []byte, out *output) (more bool, err error) {
	delta, err := e.text()
	if err != nil {
		return false, fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
	}
	switch e.Type {
	case "response.output_text.delta", "response.refusal.delta":
		it.said, a.spoke = true, true
		return a.hand(model.Chunk{Text: delta}, out)
	case "response.reasoning_summary_text.delta", "response.reasoning_text.delta":
		it.thought = true
		return a.hand(model.Chunk{Reasoning: delta}, out)
	case "response.reasoning_summary_part.added":
		if e.Summary > 0 && it.thought {
			return a.hand(model.Chunk{Reasoning: "\n\n"}, out)
		}
	case "response.function_call_arguments.delta":
		return true, a.argue(it, delta)
	case "response.function_call_arguments.done":
		return true, a.settle(it, string(e.Arguments))
	case "response.output_item.added":
		if e.Item != nil && e.Item.Type == "function_call" {
			return true, a.name(it, e.Item)
		}
	case "response.output_item.done":
		if e.Item != nil {
			return a.done(it, e.Item, out)
		}
	}
	return true, nil
}

// item finds the output item that an event is about: by its place, for ids change from event to event at some servers; by its id where the
// server tells no places.
func (a *responses) item(e *wireEvent) (*item, error) {
	id := e.ItemID
	if e.Item != nil && e.Item.ID != "" {
		id = e.Item.ID
	}
	key := id
	if e.OutputIndex != nil {
		key = "#" + strconv.Itoa(*e.OutputIndex)
	}
	if it := a.items[key]; it != nil {
		return it, nil
	}
	if len(a.items) >= maxItems {
		return nil, errCalls
	}
	if a.items == nil {
		a.items = map[string]*item{}
	}
	it := &item{call: -1}
	a.items[key] = it
	if id != "" {
		a.items[id] = it
	}
	return it, nil
}

// hand counts a piece and hands it on.
func (a *responses) hand(c model.Chunk, out *output) (more bool, err error) {
	if c.Text == "" && c.Reasoning == "" {
		return true, nil
	}
	if err := a.count(c.Text, c.Reasoning); err != nil {
		return false, err
	}
	return out.chunk(c), nil
}

// done takes an item that is whole: what wasn't streamed of it is handed on now.
func (a *responses) done(it *item, w *wireItem, out *output) (more bool, err error) {
	if it.closed {
		return true, nil
	}
	more = true
	switch {
	case w.Type == "message" && !it.said:
		more, err = a.hand(model.Chunk{Text: w.said()}, out)
	case w.Type == "reasoning" && !it.thought:
		more, err = a.hand(model.Chunk{Reasoning: w.thought()}, out)
	}
	if err != nil || !more {
		return more, err
	}
	return true, a.close(it, w)
}

// close notes a whole item in the answer.
func (a *responses) close(it *item, w *wireItem) error {
	it.closed = true
	switch w.Type {
	case "message":
		a.spoke = true
	case "function_call":
		if err := a.name(it, w); err != nil {
			return err
		}
		return a.settle(it, string(w.Arguments))
	case "reasoning":
		back := w.givenBack()
		if a.held+len(back) > maxEcho {
			return nil
		}
		a.held += len(back)
		if a.spoke || len(a.calls.calls) > 0 {
			a.kept = append(a.kept, back...)
		} else {
			a.lead = append(a.lead, back...)
		}
	}
	return nil
}

// name begins a call, or completes what is known of one. The error is errCalls.
func (a *responses) name(it *item, w *wireItem) error {
	p, err := a.call(it)
	if err != nil {
		return err
	}
	a.calls.bytes += len(w.Name)
	p.id, p.name = cmp.Or(w.CallID, p.id, w.ID), cmp.Or(w.Name, p.name)
	return a.bounded()
}

// argue adds to a call's arguments.
func (a *responses) argue(it *item, delta string) error {
	p, err := a.call(it)
	if err != nil {
		return err
	}
	a.calls.bytes += len(delta)
	p.args = append(p.args, delta...)
	return a.bounded()
}

// settle takes a call's whole arguments, in place of the pieces.
func (a *responses) settle(it *item, args string) error {
	p, err := a.call(it)
	if err != nil || args == "" {
		return err
	}
	a.calls.bytes += len(args) - len(p.args)
	p.args = append(p.args[:0], args...)
	return a.bounded()
}

func (a *responses) call(it *item) (*partial, error) {
	if it.call < 0 {
		if len(a.calls.calls) == maxCalls {
			return nil, errCalls
		}
		it.call = len(a.calls.calls)
		a.calls.calls = append(a.calls.calls, partial{index: -1, items: a.kept})
		a.kept = nil
	}
	return &a.calls.calls[it.call], nil
}

func (a *responses) bounded() error {
	if a.calls.bytes > maxArguments {
		return errCalls
	}
	return nil
}

// terminal reads the event that ends a stream. It carries the whole output: what no event before it told is taken from there.
func (a *responses) terminal(e *wireEvent, out *output) (more bool, err error) {
	w := e.Response
	if w == nil {
		return false, errBrokenStream
	}
	for i := range w.Output {
		last := &w.Output[i]
		it := a.items[last.ID]
		if it == nil || last.ID == "" {
			if it, err = a.item(&wireEvent{OutputIndex: &i, Item: last}); err != nil {
				return false, err
			}
		}
		if more, err := a.done(it, last, out); err != nil || !more {
			return more, err
		}
	}
	if w.Status == "" {
		w.Status = strings.TrimPrefix(e.Type, "response.")
	}
	if err := a.ended(w); err != nil {
		return false, err
	}
	a.over = a.finish != ""
	return true, nil
}

// ended takes the state of a response that is over, in the words that the port knows.
func (a *responses) ended(w *wireResponse) error {
	if w.Model != "" {
		a.model = w.Model
	}
	if u := w.Usage; u != nil && (u.InputTokens > 0 || u.OutputTokens > 0) {
		a.usage = &model.Usage{InputTokens: u.InputTokens, OutputTokens: u.OutputTokens}
	}
	switch {
	case w.Error.said() || w.Status == "failed" || w.Status == "cancelled":
		a.billed = a.usage
		if !w.Error.said() {
			return &refusal{Message: "the server ended the answer with " + w.Status}
		}
		return w.Error.inAnswer()
	case w.Status == "incomplete":
		a.finish = "length"
		if w.Incomplete != nil && w.Incomplete.Reason == "content_filter" {
			a.finish = "content_filter"
		}
	case w.Status == "completed":
		a.finish = "stop" // or tool_calls: what came says which
	}
	return nil
}

// inAnswer gives the error of an answer that began well: the Responses API says by its code whose fault it is.
func (e *refusal) inAnswer() *refusal {
	if e.status == 0 && (strings.HasPrefix(e.Code, "invalid_") || strings.Contains(e.Code, "image")) {
		e.status = http.StatusBadRequest
	}
	return e
}
