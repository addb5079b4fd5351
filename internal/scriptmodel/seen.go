package scriptmodel

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
)

// keep is how many requests are remembered; the oldest is dropped first.
const keep = 2000

// Seen is one request as it arrived, by which tests judge what an agent really sent.
type Seen struct {
	Seq         int64             `json:"seq"` // from 1, in order of arrival, over all paths
	Time        time.Time         `json:"time"`
	Path        string            `json:"path"`
	Key         string            `json:"key"` // the bearer token, in clear
	Header      http.Header       `json:"header"`
	Model       string            `json:"model"`
	Stream      bool              `json:"stream"`
	Temperature *float64          `json:"temperature"` // nil: not sent
	TopP        *float64          `json:"topP"`
	MaxTokens   *int              `json:"maxTokens"`
	System      string            `json:"system"`
	User        string            `json:"user"`
	ToolResult  string            `json:"toolResult"`
	Messages    []Message         `json:"messages"`
	Tools       []Tool            `json:"tools"`
	Metadata    map[string]string `json:"metadata"`
	Format      json.RawMessage   `json:"format,omitempty"` // response_format, or text.format in its words
	Rule        string            `json:"rule"`             // name of the rule that answered
	// Ended is when the answer was sent or the client had left; nil: not yet. Aborted says that the client left first.
	Ended   *time.Time      `json:"ended"`
	Aborted bool            `json:"aborted"`
	Body    json.RawMessage `json:"body"` // as received
}

// Message is one message of a request.
type Message struct {
	Role       string `json:"role"`
	Content    string `json:"content"`
	ToolCallID string `json:"toolCallId,omitempty"`
	// ToolCalls are names with their arguments, such as `lookup {"q":1}`.
	ToolCalls []string `json:"toolCalls,omitempty"`
	Images    []Image  `json:"images,omitempty"`
}

// Image is a picture in a message, by its address.
type Image struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

// Tool is one tool that a request offered.
type Tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters,omitempty"`
}

// ToolNames gives the names of the offered tools in order.
func (s Seen) ToolNames() []string {
	names := make([]string, 0, len(s.Tools))
	for _, t := range s.Tools {
		names = append(names, t.Name)
	}
	return names
}

// recorder is a bounded memory of requests.
type recorder struct {
	mu   sync.Mutex // guards the rest
	seq  int64
	ring []Seen
}

func (r *recorder) add(s Seen) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	s.Seq = r.seq
	if len(r.ring) == keep {
		r.ring = append(r.ring[:0], r.ring[1:]...)
	}
	r.ring = append(r.ring, s)
	return s.Seq
}

// end notes how a request ended. The first note counts; one about a request that was forgotten does not.
func (r *recorder) end(seq int64, at time.Time, aborted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) == 0 {
		return
	}
	i := seq - r.ring[0].Seq
	if i < 0 || i >= int64(len(r.ring)) || r.ring[i].Ended != nil {
		return
	}
	r.ring[i].Ended, r.ring[i].Aborted = &at, aborted
}

// Requests gives what was seen since the last Clear, oldest first, at most 2,000.
func (s *Server) Requests() []Seen {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	return append([]Seen{}, s.seen.ring...)
}

// Clear forgets what was seen; Seq goes on.
func (s *Server) Clear() {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.ring = nil
}

func (s *Server) listSeen(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Requests())
}

func (s *Server) clearSeen(w http.ResponseWriter, _ *http.Request) {
	s.Clear()
	w.WriteHeader(http.StatusNoContent)
}

// record notes a chat request and the rule that answers it. ended is to be called when the answer is sent, left when writing it fails: that may
// be known before the request's context has ended. The first of them counts.
func (s *Server) record(r *http.Request, q *chatRequest, rule string, body []byte) (ended, left func()) {
	seen := Seen{
		Time: time.Now(), Path: r.URL.Path, Header: r.Header.Clone(), Body: body,
		Key:   strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		Model: q.Model, Stream: q.Stream, Temperature: q.Temperature, TopP: q.TopP, MaxTokens: q.MaxTokens,
		System: q.system, User: q.user, ToolResult: q.toolResult, Metadata: q.Metadata, Format: q.ResponseFormat, Rule: rule,
		Messages: make([]Message, 0, len(q.Messages)), Tools: make([]Tool, 0, len(q.Tools)),
	}
	if seen.MaxTokens == nil {
		seen.MaxTokens = q.MaxCompletion
	}
	for _, m := range q.Messages {
		msg := Message{Role: m.Role, Content: m.text(), ToolCallID: m.ToolCallID, Images: m.images()}
		for _, c := range m.ToolCalls {
			msg.ToolCalls = append(msg.ToolCalls, c.Function.Name+" "+c.Function.Arguments)
		}
		seen.Messages = append(seen.Messages, msg)
	}
	for _, t := range q.Tools {
		seen.Tools = append(seen.Tools, Tool{Name: t.Function.Name, Description: t.Function.Description, Parameters: t.Function.Parameters})
	}
	seq := s.seen.add(seen)
	stop := context.AfterFunc(r.Context(), func() { s.seen.end(seq, time.Now(), true) })
	note := func(aborted bool) func() {
		return func() {
			if stop() { // else the client has left, and that is or will be noted
				// Who waits for the context may hear of its end before the function above is started, and stop it.
				s.seen.end(seq, time.Now(), aborted || r.Context().Err() != nil)
			}
		}
	}
	return note(false), note(true)
}
