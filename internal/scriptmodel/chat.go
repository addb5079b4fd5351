package scriptmodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// answer is a reply with its values filled in.
type answer struct {
	id        string
	model     string
	text      string
	reasoning string
	calls     []wireCall
	finish    string
	usage     wireUsage
	pace      Pace
	tag       string // names the request
	encrypted bool   // the request wants its reasoning in a form to give back
}

type wireUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		return
	}
	q := &chatRequest{}
	if err := json.Unmarshal(body, q); err != nil {
		writeError(w, http.StatusBadRequest, "invalid_json", err.Error())
		return
	}
	if len(q.Messages) == 0 {
		writeError(w, http.StatusBadRequest, "missing_messages", "messages must not be empty")
		return
	}
	s.answer(w, r, q, body, wire{s.whole, s.stream})
}

// wire writes answers in the form of one API.
type wire struct {
	whole  func(w http.ResponseWriter, r *http.Request, a answer, f *Fault, ended func())
	stream func(w http.ResponseWriter, r *http.Request, q *chatRequest, a answer, f *Fault, ended, left func())
}

// answer finds what the script says to a request and writes it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, q *chatRequest, body []byte, to wire) {
	q.digest()
	c := s.choose(q)
	ended, left := s.record(r, q, c.rule, body)
	defer ended()

	delay := time.Duration(0)
	if c.reply != nil {
		delay = c.reply.Delay
	}
	if c.fault != nil {
		delay += c.fault.Slow
	}
	if !s.wait(r.Context(), delay) {
		return
	}
	if c.fault.refuses(q.Stream) {
		c.fault.refuse(w, q.Stream)
		return
	}
	a := q.fill(c.reply, c.groups)
	if c.fault != nil && c.fault.HugeArguments > 0 {
		a.huge(q, c.fault.HugeArguments)
	}
	if q.Stream {
		to.stream(w, r, q, a, c.fault, ended, left)
		return
	}
	to.whole(w, r, a, c.fault, ended)
}

// readBody reads a bounded body; after an error the answer is written.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return body, nil
	}
	status := http.StatusBadRequest
	if tooBig := (*http.MaxBytesError)(nil); errors.As(err, &tooBig) {
		status = http.StatusRequestEntityTooLarge
	}
	writeError(w, status, "unreadable_body", err.Error())
	return nil, err
}

// choice is what one request gets.
type choice struct {
	rule   string
	reply  *Reply
	fault  *Fault // nil: none, or used up
	groups []string
}

// choose finds the first rule that matches and counts the use of its fault.
func (s *Server) choose(q *chatRequest) choice {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.script.Rules {
		groups, ok := r.matches(q)
		if !ok {
			continue
		}
		c := choice{rule: r.Name, reply: r.Reply, groups: groups}
		if c.rule == "" {
			c.rule = "rule " + strconv.Itoa(i+1)
		}
		if r.Fault != nil && (r.Fault.Times == 0 || s.hits[i] < r.Fault.Times) {
			s.hits[i]++
			c.fault = r.Fault
		}
		if c.fault == nil && c.reply == nil {
			continue // a fault used up, and nothing to say
		}
		return c
	}
	if s.script.Default != nil {
		return choice{rule: "default", reply: s.script.Default}
	}
	return choice{rule: "none", reply: &Reply{Text: "No rule of the script matches: {{user}}"}}
}

// wait passes d; false when the client left or the server was closed first.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	case <-s.done:
		return false
	}
}

// hang keeps a connection open until the client leaves or Close.
func (s *Server) hang(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.done:
	}
}

// whole writes an answer in one piece. It calls ended before the last byte: the client may leave right after that.
func (s *Server) whole(w http.ResponseWriter, r *http.Request, a answer, f *Fault, ended func()) {
	type message struct {
		Role      string     `json:"role"`
		Content   *string    `json:"content"`
		Reasoning string     `json:"reasoning_content,omitempty"`
		ToolCalls []wireCall `json:"tool_calls,omitempty"`
	}
	type choiceOut struct {
		Index        int     `json:"index"`
		Message      message `json:"message"`
		FinishReason string  `json:"finish_reason"`
	}
	out := struct {
		ID      string      `json:"id"`
		Object  string      `json:"object"`
		Created int64       `json:"created"`
		Model   string      `json:"model"`
		Choices []choiceOut `json:"choices"`
		Usage   wireUsage   `json:"usage"`
	}{ID: a.id, Object: "chat.completion", Created: time.Now().Unix(), Model: a.model, Usage: a.usage}
	m := message{Role: "assistant", Reasoning: a.reasoning, ToolCalls: a.calls}
	if a.text != "" || len(a.calls) == 0 {
		m.Content = &a.text
	}
	out.Choices = []choiceOut{{Message: m, FinishReason: a.finish}}
	s.piece(w, r, out, f, ended)
}

// piece writes an answer that comes in one piece, as far as the fault lets it.
func (s *Server) piece(w http.ResponseWriter, r *http.Request, out any, f *Fault, ended func()) {
	if f == nil || (!f.HalfOpen && !f.Reset && f.Drip == 0) {
		ended()
		writeJSON(w, http.StatusOK, out)
		return
	}
	full, err := json.Marshal(out)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "marshal", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(full)))
	if f.Drip > 0 {
		_ = s.write(r.Context(), w, full, f.Drip)
		return
	}
	_ = s.write(r.Context(), w, full[:len(full)/2], 0)
	if f.Reset {
		reset(w)
	}
	s.hang(r.Context())
	panic(http.ErrAbortHandler) // the promised length never comes
}

// refuses reports whether the fault replaces the answer as a whole.
func (f *Fault) refuses(stream bool) bool {
	return f != nil && !f.HalfOpen && (f.Status != 0 || f.WrongJSON || f.BrokenSSE || (f.GarbageSSE && !stream))
}

func (f *Fault) refuse(w http.ResponseWriter, stream bool) {
	if f.Status != 0 {
		if f.RetryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((f.RetryAfter+time.Second-1)/time.Second)))
		}
		msg := f.Message
		if msg == "" {
			msg = "scripted fault"
		}
		writeError(w, f.Status, "scripted_fault", msg)
		return
	}
	if f.BrokenSSE && stream {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, `data: {"id":"chatcmpl-broken","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"bro`+"\n\ndata: ")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprint(w, `{"choices": "not a list", "usage": [`)
}
