package openaidoor

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

type wireUsage struct {
	Prompt     int64 `json:"prompt_tokens"`
	Completion int64 `json:"completion_tokens"`
	Total      int64 `json:"total_tokens"`
}

func usage(u engine.Usage) *wireUsage {
	return &wireUsage{Prompt: u.Input, Completion: u.Output, Total: u.Total()}
}

type completion struct {
	ID      string     `json:"id"`
	Object  string     `json:"object"`
	Created int64      `json:"created"`
	Model   string     `json:"model"`
	Choices []choice   `json:"choices"`
	Usage   *wireUsage `json:"usage"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      answer  `json:"message"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

type answer struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content,omitempty"`
}

func (d *Door) chat(w http.ResponseWriter, r *http.Request) {
	ctx := d.cfg.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	req, asked, fault := d.read(w, r)
	if fault != nil {
		d.stamp(w)
		writeError(w, fault.status, fault.wireError)
		return
	}
	turn, err := d.cfg.Runner.Start(ctx, req)
	if turn != nil {
		setConfig(w, turn.Revision, turn.Config)
		if turn.PreviousConfig != "" {
			w.Header().Set(HeaderPreviousConfig, turn.PreviousConfig)
		}
	}
	if err != nil {
		d.fail(w, err)
		return
	}
	id := fmt.Sprintf("chatcmpl-%016x", rand.Uint64()) // #nosec G404 -- a name, not a secret
	if asked.Stream {
		s := newStream(w, id, turn.Agent)
		defer s.close()
		res, err := turn.Do(ctx, s.delta)
		d.finish(w, s, asked, res, err)
		return
	}
	var reasoning []byte
	res, err := turn.Do(ctx, func(delta run.Delta) error {
		reasoning = append(reasoning, delta.Reasoning...)
		return nil
	})
	switch {
	case errs.Is(err, errs.Canceled): // nobody reads
	case err != nil:
		d.fail(w, err)
	default:
		writeJSON(w, http.StatusOK, completion{
			ID: id, Object: "chat.completion", Created: time.Now().Unix(), Model: turn.Agent,
			Choices: []choice{{Message: answer{Role: "assistant", Content: res.Text, Reasoning: string(reasoning)}, FinishReason: finishReason(res)}},
			Usage:   usage(res.Usage),
		})
	}
}

// finish ends a stream: an error before the first byte is a plain one.
func (d *Door) finish(w http.ResponseWriter, s *stream, asked *chatRequest, res engine.Result, err error) {
	switch {
	case errs.Is(err, errs.Canceled):
		return
	case err != nil && !s.begun:
		d.fail(w, err)
		return
	case err != nil:
		_, e := wire(err)
		s.fault(e)
		return
	}
	s.finish(finishReason(res))
	if asked.StreamOptions != nil && asked.StreamOptions.IncludeUsage {
		s.usage(usage(res.Usage))
	}
	s.done()
}

func finishReason(res engine.Result) string {
	switch res.FinishReason {
	case "length", "content_filter":
		return res.FinishReason
	default:
		return "stop"
	}
}

// stream writes server-sent events. Chunks are put together by hand: this is the hot path.
type stream struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	head  []byte // everything of a chunk up to the delta
	buf   []byte
	begun bool
}

func newStream(w http.ResponseWriter, id, model string) *stream {
	name, _ := json.Marshal(model) //nolint:errchkjson // a string
	return &stream{w: w, rc: http.NewResponseController(w), head: fmt.Appendf(nil, `data: {"id":%q,"object":"chat.completion.chunk","created":%d,"model":%s,"choices":[`, id, time.Now().Unix(), name)}
}

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
	s.buf = append(append(s.buf[:0], s.head...), `{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`+"\n\n"...)
}

// delta sends a piece and flushes it.
func (s *stream) delta(d run.Delta) error {
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
	s.buf = append(s.buf, `},"finish_reason":null}]}`+"\n\n"...)
}

func (s *stream) finish(reason string) {
	s.buf = s.buf[:0]
	s.begin()
	s.buf = append(s.buf, s.head...)
	s.buf = fmt.Appendf(s.buf, `{"index":0,"delta":{},"finish_reason":%q}]}`+"\n\n", reason)
}

func (s *stream) usage(u *wireUsage) {
	b, err := json.Marshal(u)
	if err != nil {
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
