package openaidoor

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/agentry/agentry/agentd/door/heartbeat"
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
	Agentry *ours      `json:"agentry,omitempty"`
}

type choice struct {
	Index        int     `json:"index"`
	Message      answer  `json:"message"`
	Logprobs     *string `json:"logprobs"`
	FinishReason string  `json:"finish_reason"`
}

type answer struct {
	Role      string  `json:"role"`
	Content   string  `json:"content"`
	Refusal   *string `json:"refusal"`
	Reasoning string  `json:"reasoning_content,omitempty"`
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
		describe(w, turn)
	}
	if err != nil {
		d.fail(w, err)
		return
	}
	id := fmt.Sprintf("chatcmpl-%016x", rand.Uint64()) // #nosec G404 -- a name, not a secret
	if asked.Stream {
		s := newStream(w, id, turn.Agent, asked.StreamOptions != nil && asked.StreamOptions.IncludeUsage)
		defer s.close()
		heart := heartbeat.Start(d.cfg.KeepAlive, s.beat)
		res, err := turn.Do(ctx, func(delta run.Delta) error { return heart.Say(func() error { return s.delta(delta) }) })
		heart.Stop()
		d.finish(w, s, turn, res, err)
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
		text, extra := res.Text, beyond(turn, res)
		if extra != nil && extra.Pending != nil {
			w.Header().Set(HeaderPending, turn.Pending.ID)
			text = extra.Pending.after(text)
		}
		writeJSON(w, http.StatusOK, completion{
			ID: id, Object: "chat.completion", Created: time.Now().Unix(), Model: turn.Agent,
			Choices: []choice{{Message: answer{Role: "assistant", Content: text, Reasoning: string(reasoning)}, FinishReason: finishReason(res)}},
			Usage:   usage(res.Usage), Agentry: extra,
		})
	}
}

// describe puts on an answer which config it is of, and what it was made without.
func describe(w http.ResponseWriter, turn *run.Turn) {
	setConfig(w, turn.Revision, turn.Config)
	if turn.PreviousConfig != "" {
		w.Header().Set(HeaderPreviousConfig, turn.PreviousConfig)
	}
	if turn.Stateless {
		w.Header().Set(HeaderMemory, "unavailable")
	}
}

// finish ends a stream: an error before the first byte is a plain one.
func (d *Door) finish(w http.ResponseWriter, s *stream, turn *run.Turn, res engine.Result, err error) {
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
	rest, extra := "", beyond(turn, res)
	if extra != nil && extra.Pending != nil {
		w.Header().Set(HeaderPending, turn.Pending.ID) // too late where text went out before; the last chunk says it too
		rest = extra.Pending.after(res.Text)[len(res.Text):]
	}
	s.finish(rest, finishReason(res), extra)
	s.count(usage(res.Usage))
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
