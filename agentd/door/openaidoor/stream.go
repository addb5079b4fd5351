package openaidoor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/agentry/agentry/agentd/run"
)

// stream writes server-sent events. Chunks are put together by hand: this is the hot path.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	head  []byte // everything of a chunk up to the delta
	tail  string // what follows the choices
	usage bool   // it is asked for, in a chunk of its own before the end
	buf   []byte
	begun bool
}

func newStream(w http.ResponseWriter, id, model string, usage bool) *stream {
	name, _ := json.Marshal(model) //nolint:errchkjson // a string
	s := &stream{w: w, rc: http.NewResponseController(w), tail: "]", usage: usage}
	s.head = fmt.Appendf(nil, `data: {"id":%q,"object":"chat.completion.chunk","created":%d,"model":%s,"choices":[`, id, time.Now().Unix(), name)
	if usage {
		s.tail = `],"usage":null`
	}
	return s
}

// end ends a chunk.
func (s *stream) end() { s.buf = append(append(s.buf, s.tail...), "}\n\n"...) }

func (s *stream) begin() {
	if s.begun {
		return
	}
	s.begun = true
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.buf = append(append(s.buf[:0], s.head...), `{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}`...)
	s.end()
}

// delta sends a piece and flushes it.
func (s *stream) delta(d run.Delta) error {
	if d.Text == "" && d.Reasoning == "" {
		return nil // what this door doesn't show
	}
	s.buf = s.buf[:0]
	s.begin()
	if d.Text != "" {
		s.chunk("content", d.Text)
	}
	if d.Reasoning != "" {
		s.chunk("reasoning_content", d.Reasoning)
	}
	return s.flush()
}

// beat shows that the stream lives, by a comment. It begins a stream that has not begun: an error that comes later is one of the stream then.
func (s *stream) beat() {
	s.buf = s.buf[:0]
	s.begin()
	s.buf = append(s.buf, ": keep-alive\n\n"...)
	_ = s.flush() // whoever is gone is noticed by the request's end
}

func (s *stream) chunk(field, text string) {
	quoted, err := json.Marshal(text)
	if err != nil {
		return
	}
	s.buf = append(s.buf, s.head...)
	s.buf = append(s.buf, `{"index":0,"delta":{"`...)
	s.buf = append(s.buf, field...)
	s.buf = append(s.buf, `":`...)
	s.buf = append(s.buf, quoted...)
	s.buf = append(s.buf, `},"logprobs":null,"finish_reason":null}`...)
	s.end()
}

// finish adds a last piece, if there is one, and the chunk that says why it ends, with what is ours.
func (s *stream) finish(text, reason string, extra *ours) {
	s.buf = s.buf[:0]
	s.begin()
	if text != "" {
		s.chunk("content", text)
	}
	s.buf = append(s.buf, s.head...)
	s.buf = fmt.Appendf(s.buf, `{"index":0,"delta":{},"logprobs":null,"finish_reason":%q}`, reason)
	if b, err := json.Marshal(extra); extra != nil && err == nil {
		s.buf = append(append(append(s.buf, s.tail...), `,"agentry":`...), b...)
		s.buf = append(s.buf, "}\n\n"...)
		return
	}
	s.end()
}

// count adds the usage, where it is asked for.
func (s *stream) count(u *wireUsage) {
	b, err := json.Marshal(u)
	if err != nil || !s.usage {
		return
	}
	s.buf = append(s.buf, s.head...)
	s.buf = append(s.buf, `],"usage":`...)
	s.buf = append(s.buf, b...)
	s.buf = append(s.buf, "}\n\n"...)
}

func (s *stream) done() {
	s.buf = append(s.buf, "data: [DONE]\n\n"...)
	_ = s.flush() // the caller is gone: nothing more to do
}

// fault sends an error as data: an event name would hide it from some clients. No [DONE]: the answer is not whole.
func (s *stream) fault(e wireError) {
	b, err := json.Marshal(errorBody{e})
	if err != nil {
		return
	}
	s.buf = append(append(append(s.buf[:0], "data: "...), b...), "\n\n"...)
	_ = s.flush() // the caller is gone: nothing more to do
}

func (s *stream) flush() error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	if _, err := s.w.Write(s.buf); err != nil {
		return err
	}
	return s.rc.Flush()
}

// close lifts the deadline: the connection goes on to the next request.
func (s *stream) close() { _ = s.rc.SetWriteDeadline(time.Time{}) }
