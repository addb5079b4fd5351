package restdoor

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/door/heartbeat"
	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/internal/errs"
)

// answer is the agent's answer to a message. Pending is set where the run waits for a person, and then there is no whole text yet.
type answer struct {
	Session        string       `json:"session"`
	Agent          string       `json:"agent"`
	Revision       int64        `json:"revision"`
	Config         string       `json:"config"`
	PreviousConfig string       `json:"previousConfig,omitempty"` // that answered the session last, where it is another
	Text           string       `json:"text"`
	Reasoning      string       `json:"reasoning,omitempty"`
	FinishReason   string       `json:"finishReason,omitempty"`
	Usage          *usage       `json:"usage"`
	Iterations     int          `json:"iterations"` // calls of the model
	Steps          []step       `json:"steps"`
	Stateless      bool         `json:"stateless,omitempty"` // the session's memory is gone: answered without it, and not remembered
	Pending        *pending.Run `json:"pending,omitempty"`
}

type usage struct {
	InputTokens  int64   `json:"inputTokens"`
	OutputTokens int64   `json:"outputTokens"`
	TotalTokens  int64   `json:"totalTokens"`
	CostUSD      float64 `json:"costUsd,omitempty"`
	Estimated    bool    `json:"estimated,omitempty"`
}

type step struct {
	Tool    string `json:"tool"`
	IsError bool   `json:"isError,omitempty"`
}

func usageOf(u engine.Usage) *usage {
	return &usage{u.Input, u.Output, u.Total(), u.CostUSD, u.Estimated}
}

func (d *Door) message(w http.ResponseWriter, r *http.Request) {
	ctx := d.cfg.Propagator.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	req, fault := d.request(w, r)
	if fault != nil {
		d.stamp(w)
		writeError(w, fault.status, fault.Fault)
		return
	}
	turn, err := d.cfg.Runner.Start(ctx, req)
	if turn != nil {
		setConfig(w, turn.Revision, turn.Config)
		w.Header().Set(HeaderSession, headerSafe(req.Session))
		if turn.PreviousConfig != "" {
			w.Header().Set(HeaderPreviousConfig, turn.PreviousConfig)
		}
		if turn.Stateless {
			w.Header().Set(HeaderMemory, "unavailable")
		}
	}
	if err != nil {
		d.fail(w, err)
		return
	}
	if req.Stream {
		s := &events{w: w, rc: http.NewResponseController(w)}
		defer s.close()
		heart := heartbeat.Start(d.cfg.KeepAlive, s.beat)
		res, err := turn.Do(ctx, func(delta run.Delta) error { return heart.Say(func() error { return s.delta(delta) }) })
		heart.Stop()
		d.finish(w, s, turn, req.Session, res, err)
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
		a := answered(turn, req.Session, res)
		a.Reasoning = string(reasoning)
		status := http.StatusOK
		if a.Pending != nil {
			status = http.StatusAccepted
			w.Header().Set(HeaderPending, a.Pending.ID)
			w.Header().Set("Location", "/api/v1/approvals/"+a.Pending.ID)
		}
		writeJSON(w, status, a)
	}
}

func answered(t *run.Turn, session string, res engine.Result) answer {
	a := answer{
		Session: session, Agent: t.Agent, Revision: t.Revision, Config: t.Config, PreviousConfig: t.PreviousConfig,
		Text: res.Text, FinishReason: res.FinishReason, Usage: usageOf(res.Usage), Iterations: res.Iterations, Steps: []step{}, Stateless: t.Stateless,
	}
	for _, s := range res.Steps {
		a.Steps = append(a.Steps, step(s))
	}
	if t.Pending != nil {
		p := shown(*t.Pending)
		a.Pending, a.FinishReason = &p, "" // it isn't finished
	}
	return a
}

// headerSafe gives a text that may stand in a header, or "".
func headerSafe(s string) string {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return s
}

// finish ends a stream by one of done, approval and error. An error before the first byte is a plain one.
func (d *Door) finish(w http.ResponseWriter, s *events, t *run.Turn, session string, res engine.Result, err error) {
	switch {
	case errs.Is(err, errs.Canceled): // nobody reads
	case err != nil && !s.begun:
		d.fail(w, err)
	case err != nil:
		_, f := wire(err)
		_ = s.send("error", errorBody{f})
	default:
		a := answered(t, session, res)
		name := "done"
		if a.Pending != nil {
			name = "approval"
			if !s.begun {
				w.Header().Set(HeaderPending, a.Pending.ID)
			}
		}
		_ = s.send(name, a) // the caller is gone: nothing more to do
	}
}

// events writes server-sent events: delta, tool, and at the end one of done, approval and error.
type events struct {
	w     http.ResponseWriter
	rc    *http.ResponseController
	buf   bytes.Buffer
	begun bool
}

type deltaEvent struct {
	Text      string `json:"text,omitempty"`
	Reasoning string `json:"reasoning,omitempty"`
}

type toolEvent struct {
	CallID    string          `json:"callId"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments,omitempty"` // at the begin; a text where the model wrote no JSON
	Done      bool            `json:"done"`
	IsError   bool            `json:"isError,omitempty"`
}

// delta sends a piece of the answer, or a tool's step.
func (s *events) delta(d run.Delta) error {
	if t := d.Tool; t != nil {
		return s.send("tool", toolEvent{t.CallID, t.Name, asJSON(t.Arguments), t.Done, t.IsError})
	}
	if d.Text == "" && d.Reasoning == "" {
		return nil
	}
	return s.send("delta", deltaEvent{d.Text, d.Reasoning})
}

// asJSON gives a model's arguments as JSON, whatever they are.
func asJSON(arguments string) json.RawMessage {
	if arguments == "" {
		return nil
	}
	if json.Valid([]byte(arguments)) {
		return json.RawMessage(arguments)
	}
	b, err := json.Marshal(arguments)
	if err != nil {
		return nil
	}
	return b
}

func (s *events) send(name string, v any) error {
	b, err := json.Marshal(v) // compact: a line break would end the data
	if err != nil {
		return err
	}
	s.buf.Reset()
	s.buf.WriteString("event: " + name + "\ndata: ")
	s.buf.Write(b)
	s.buf.WriteString("\n\n")
	return s.flush()
}

// beat shows that the stream lives, by a comment. It begins a stream that has not begun: an error that comes later is one of the stream then.
func (s *events) beat() {
	s.buf.Reset()
	s.buf.WriteString(": keep-alive\n\n")
	_ = s.flush() // whoever is gone is noticed by the request's end
}

func (s *events) flush() error {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
		h.Set("Cache-Control", "no-cache, no-transform")
		h.Set("X-Accel-Buffering", "no")
		s.w.WriteHeader(http.StatusOK)
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTimeout)) // not every writer has one
	if _, err := s.w.Write(s.buf.Bytes()); err != nil {
		return err
	}
	return s.rc.Flush()
}

// close lifts the deadline: the connection goes on to the next request.
func (s *events) close() { _ = s.rc.SetWriteDeadline(time.Time{}) }
