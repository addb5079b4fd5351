package scriptmodel

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// response is the state of a response, as an answer in one piece or in an event.
type response struct {
	ID         string          `json:"id"`
	Object     string          `json:"object"`
	CreatedAt  int64           `json:"created_at"`
	Model      string          `json:"model"`
	Status     string          `json:"status"`
	Error      *struct{}       `json:"error"` // null: a fault's is an HTTP status
	Incomplete *incomplete     `json:"incomplete_details"`
	Output     []outputItem    `json:"output"`
	Usage      *responsesUsage `json:"usage"`
}

type incomplete struct {
	Reason string `json:"reason"`
}

type responsesUsage struct {
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// outputItem is a reasoning, a message or a function_call.
type outputItem struct {
	Type      string        `json:"type"`
	ID        string        `json:"id"`
	Status    string        `json:"status,omitempty"`
	Role      string        `json:"role,omitempty"`
	Content   *[]outputPart `json:"content,omitempty"`
	Summary   *[]outputPart `json:"summary,omitempty"`
	Encrypted string        `json:"encrypted_content,omitempty"`
	CallID    string        `json:"call_id,omitempty"`
	Name      string        `json:"name,omitempty"`
	Arguments *string       `json:"arguments,omitempty"`
}

type outputPart struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// output gives an answer's items: its reasoning, its text, its calls.
func (a answer) output() []outputItem {
	out := []outputItem{}
	if a.reasoning != "" {
		i := outputItem{Type: "reasoning", ID: "rs_" + a.tag, Summary: &[]outputPart{{"summary_text", a.reasoning}}}
		if a.encrypted {
			i.Encrypted = "scripted-" + a.tag
		}
		out = append(out, i)
	}
	if a.text != "" || len(a.calls) == 0 {
		out = append(out, outputItem{Type: "message", ID: "msg_" + a.tag, Status: "completed", Role: "assistant", Content: &[]outputPart{{"output_text", a.text}}})
	}
	for n, c := range a.calls {
		args := c.Function.Arguments
		out = append(out, outputItem{Type: "function_call", ID: "fc_" + a.tag + "_" + strconv.Itoa(n), Status: "completed", CallID: c.ID, Name: c.Function.Name, Arguments: &args})
	}
	return out
}

// response gives the state that an answer ends in.
func (a answer) response(created time.Time) response {
	out := response{
		ID: "resp_scripted_" + a.tag, Object: "response", CreatedAt: created.Unix(), Model: a.model, Status: "completed", Output: a.output(),
		Usage: &responsesUsage{a.usage.PromptTokens, a.usage.CompletionTokens, a.usage.TotalTokens},
	}
	switch a.finish {
	case "length":
		out.Status, out.Incomplete = "incomplete", &incomplete{"max_output_tokens"}
	case "content_filter":
		out.Status, out.Incomplete = "incomplete", &incomplete{"content_filter"}
	}
	return out
}

func (s *Server) wholeResponse(w http.ResponseWriter, r *http.Request, a answer, f *Fault, ended func()) {
	s.piece(w, r, a.response(time.Now()), f, ended)
}

// event is one event of a stream; the fields that its type hasn't are left out.
type event struct {
	Type     string      `json:"type"`
	Sequence int         `json:"sequence_number"`
	Response *response   `json:"response,omitempty"`
	Output   *int        `json:"output_index,omitempty"`
	ItemID   string      `json:"item_id,omitempty"`
	Content  *int        `json:"content_index,omitempty"`
	Summary  *int        `json:"summary_index,omitempty"`
	Part     *outputPart `json:"part,omitempty"`
	Item     *outputItem `json:"item,omitempty"`
	Delta    string      `json:"delta,omitempty"`
	Text     *string     `json:"text,omitempty"`
	Args     *string     `json:"arguments,omitempty"`
}

// streamResponse writes an answer as the Responses API's events at its pace. ended and left are as stream's.
func (s *Server) streamResponse(w http.ResponseWriter, r *http.Request, _ *chatRequest, a answer, f *Fault, ended, left func()) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	drip := time.Duration(0)
	if f != nil {
		drip = f.Drip
	}
	last := a.response(time.Now())
	begun := last
	begun.Status, begun.Incomplete, begun.Output, begun.Usage = "in_progress", nil, []outputItem{}, nil
	events := append([]event{{Type: "response.created", Response: &begun}, {Type: "response.in_progress", Response: &begun}}, a.events(last.Output)...)
	stop := len(events)
	if f != nil && (f.HalfOpen || f.GarbageSSE || f.Reset) {
		stop = max(1, stop/2)
	}
	send := func(n int, e event) bool {
		e.Sequence = n
		b, err := json.Marshal(e)
		if err != nil {
			return false
		}
		out := append(append([]byte("event: "+e.Type+"\ndata: "), b...), "\n\n"...)
		if s.write(r.Context(), w, out, drip) != nil {
			left()
			return false
		}
		return true
	}
	began := false // the pace is between pieces of the answer
	for n, e := range events[:stop] {
		if e.Delta != "" && began && !s.wait(r.Context(), a.pace.Delay) {
			return
		}
		began = began || e.Delta != ""
		if !send(n, e) {
			return
		}
	}
	switch {
	case f != nil && f.HalfOpen:
		s.hang(r.Context())
		panic(http.ErrAbortHandler) // a clean end would look like a finished stream
	case f != nil && f.Reset:
		reset(w)
	case f != nil && f.GarbageSSE:
		_ = s.write(r.Context(), w, []byte(garbage), drip)
		return
	}
	ended()
	send(len(events), event{Type: "response." + last.Status, Response: &last})
}

// events cuts items into events: each is added, streamed in pieces and done.
func (a answer) events(items []outputItem) []event {
	var out []event
	zero := new(int)
	for n, i := range items {
		add := func(e event) {
			e.Output = &n
			if e.Item == nil {
				e.ItemID = i.ID
			}
			out = append(out, e)
		}
		begun, empty := i, ""
		switch i.Type {
		case "reasoning":
			text := (*i.Summary)[0].Text
			begun.Summary, begun.Encrypted = &[]outputPart{}, ""
			add(event{Type: "response.output_item.added", Item: &begun})
			add(event{Type: "response.reasoning_summary_part.added", Summary: zero, Part: &outputPart{Type: "summary_text"}})
			for _, p := range pieces(text, a.pace.Chunk) {
				add(event{Type: "response.reasoning_summary_text.delta", Summary: zero, Delta: p})
			}
			add(event{Type: "response.reasoning_summary_text.done", Summary: zero, Text: &text})
			add(event{Type: "response.reasoning_summary_part.done", Summary: zero, Part: &(*i.Summary)[0]})
		case "message":
			text := (*i.Content)[0].Text
			begun.Status, begun.Content = "in_progress", &[]outputPart{}
			add(event{Type: "response.output_item.added", Item: &begun})
			add(event{Type: "response.content_part.added", Content: zero, Part: &outputPart{Type: "output_text"}})
			for _, p := range pieces(text, a.pace.Chunk) {
				add(event{Type: "response.output_text.delta", Content: zero, Delta: p})
			}
			add(event{Type: "response.output_text.done", Content: zero, Text: &text})
			add(event{Type: "response.content_part.done", Content: zero, Part: &(*i.Content)[0]})
		default:
			begun.Status, begun.Arguments = "in_progress", &empty
			add(event{Type: "response.output_item.added", Item: &begun})
			for _, p := range pieces(*i.Arguments, a.pace.Chunk) {
				add(event{Type: "response.function_call_arguments.delta", Delta: p})
			}
			add(event{Type: "response.function_call_arguments.done", Args: i.Arguments})
		}
		add(event{Type: "response.output_item.done", Item: &i})
	}
	return out
}
