package scriptmodel

import (
	"encoding/json"
	"net/http"
	"time"
)

type chunk struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"`
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Choices []chunkChoice `json:"choices"`
	Usage   *wireUsage    `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int     `json:"index"`
	Delta        delta   `json:"delta"`
	FinishReason *string `json:"finish_reason"`
}

type delta struct {
	Role      string     `json:"role,omitempty"`
	Content   string     `json:"content,omitempty"`
	Reasoning string     `json:"reasoning_content,omitempty"`
	ToolCalls []wireCall `json:"tool_calls,omitempty"`
}

// garbage is events that belong to no API.
const garbage = "event: \x00\xff\ndata: {\"choices\": [[]]] \xfe\n\ndata\n\n:\n\ndata: 7\n\n"

// stream writes an answer as server-sent events at its pace. It calls ended before the last event: the client may leave right
// after that. It calls left where a write fails.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, q *chatRequest, a answer, f *Fault, ended, left func()) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	drip := time.Duration(0)
	if f != nil {
		drip = f.Drip
	}
	created := time.Now().Unix()
	send := func(c chunk) bool {
		c.ID, c.Object, c.Created, c.Model = a.id, "chat.completion.chunk", created, a.model
		b, err := json.Marshal(c)
		if err != nil {
			return false
		}
		if s.write(r.Context(), w, append(append([]byte("data: "), b...), "\n\n"...), drip) != nil {
			left()
			return false
		}
		return true
	}

	deltas := a.deltas()
	stop := len(deltas)
	if f != nil && (f.HalfOpen || f.GarbageSSE || f.Reset) {
		stop = max(1, stop/2)
	}
	for i, d := range deltas[:stop] {
		if i > 0 && !s.wait(r.Context(), a.pace.Delay) {
			return
		}
		if !send(chunk{Choices: []chunkChoice{{Delta: d}}}) {
			return
		}
	}
	if f != nil && f.HalfOpen {
		s.hang(r.Context())
		panic(http.ErrAbortHandler) // a clean end would look like a finished stream
	}
	if f != nil && f.Reset {
		reset(w)
	}
	if f != nil && f.GarbageSSE {
		_ = s.write(r.Context(), w, []byte(garbage), drip)
		return
	}
	if !send(chunk{Choices: []chunkChoice{{FinishReason: &a.finish}}}) {
		return
	}
	if q.StreamOptions.IncludeUsage && !send(chunk{Choices: []chunkChoice{}, Usage: &a.usage}) {
		return
	}
	ended()
	_ = s.write(r.Context(), w, []byte("data: [DONE]\n\n"), drip)
}

// deltas cuts an answer into chunks: text by its pace, each call's name at once and then its arguments in pieces.
func (a answer) deltas() []delta {
	out := []delta{{Role: "assistant"}}
	for _, piece := range pieces(a.reasoning, a.pace.Chunk) {
		out = append(out, delta{Reasoning: piece})
	}
	for _, piece := range pieces(a.text, a.pace.Chunk) {
		out = append(out, delta{Content: piece})
	}
	for i, c := range a.calls {
		head := wireCall{Index: &i, ID: c.ID, Type: c.Type}
		head.Function.Name = c.Function.Name
		out = append(out, delta{ToolCalls: []wireCall{head}})
		for _, piece := range pieces(c.Function.Arguments, a.pace.Chunk) {
			part := wireCall{Index: &i}
			part.Function.Arguments = piece
			out = append(out, delta{ToolCalls: []wireCall{part}})
		}
	}
	return out
}

// pieces cuts text after every size characters; size 0: 16.
func pieces(text string, size int) []string {
	if size <= 0 {
		size = 16
	}
	var out []string
	runes := []rune(text)
	for len(runes) > 0 {
		n := min(size, len(runes))
		out = append(out, string(runes[:n]))
		runes = runes[n:]
	}
	return out
}
