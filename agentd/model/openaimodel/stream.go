package openaimodel

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/tokens"
)

var (
	errTruncated    = errors.New("the stream ended before the answer did")
	errBrokenStream = errors.New("the stream carries something that is no chunk")
)

// afterFinish bounds the wait for usage and [DONE] once the answer is whole.
const afterFinish = 2 * time.Second

// afterDone bounds the wait for the end of the body after [DONE]. A body that was read to its end leaves its connection to the next call.
const afterDone = 20 * time.Millisecond

// attempt makes one call and yields its chunks; nil means the answer is whole (or nobody wants the rest).
func (m *Model) attempt(ctx context.Context, r model.Request, out *output) *failure {
	x := &exchange{}
	body, err := m.render(r)
	if err != nil {
		return classify(ctx, x, err)
	}
	actx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(m.cfg.Timeout, func() { cancel(errTimeout) })
	defer timer.Stop()
	accept := jsonType
	if r.Stream {
		accept = eventsType
	}
	resp, err := m.send(actx, x, m.chat, accept, body)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if r.Stream {
			err = m.stream(cancel, timer, r, resp, out)
		} else {
			err = m.whole(r, resp, out)
		}
	}
	if err == nil {
		return nil
	}
	return classify(actx, x, err)
}

// bodies are for reading answers into: nothing of one is kept.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }} //nolint:gochecknoglobals // a pool serves all

// keepBody is how large a buffer may be to be kept, in bytes.
const keepBody = 64 << 10

func (m *Model) whole(r model.Request, resp *http.Response, out *output) error {
	buf, _ := bodies.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= keepBody {
			buf.Reset()
			bodies.Put(buf)
		}
	}()
	if _, err := buf.ReadFrom(&cappedBody{body: resp.Body, left: maxAnswer}); err != nil {
		return err
	}
	var w wireAnswer
	if err := json.Unmarshal(buf.Bytes(), &w); err != nil {
		return &protocolError{"the answer is not what the protocol says: " + err.Error()}
	}
	switch {
	case len(w.Choices) == 0 && w.Error.said():
		return w.Error
	case len(w.Choices) == 0:
		return &protocolError{"an answer without choices"}
	}
	msg := &w.Choices[0].Message
	text := string(msg.Content)
	if text == "" {
		text = msg.Refusal
	}
	a := answer{price: m.cfg.Price, text: len(text), outTokens: tokens.Estimate(text), finish: w.Choices[0].FinishReason, model: w.Model}
	for _, d := range msg.ToolCalls { // whole ones: none goes on with another
		a.calls.calls = append(a.calls.calls, partial{index: -1, call: model.ToolCall{ID: d.ID, Name: d.Function.Name, Arguments: string(d.Function.Arguments)}})
	}
	a.use(w.Usage)
	c := a.last(r)
	c.Text, c.Reasoning = text, msg.reasoning()
	out.chunk(c)
	return nil
}

func (m *Model) stream(cancel context.CancelCauseFunc, timer *time.Timer, r model.Request, resp *http.Response, out *output) error {
	if ct := resp.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "text/event-stream") {
		head, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return &protocolError{"asked for a stream, answered " + ct + ": " + oneLine(string(head))}
	}
	events := newEvents(&cappedBody{body: resp.Body, left: maxAnswer})
	defer events.close()
	var idle *time.Timer // from the first chunk on; until then the attempt's timer runs
	defer func() {
		if idle != nil {
			idle.Stop()
		}
	}()
	a := answer{price: m.cfg.Price}
	for {
		raw, err := events.next()
		if err != nil {
			err = a.end(err, events.done, r, out)
			if err == nil && events.done {
				timer.Reset(afterDone)
				events.drain()
			}
			return err
		}
		var c wireChunk
		if err := json.Unmarshal(raw, &c); err != nil {
			if a.finish != "" {
				return a.end(io.EOF, false, r, out)
			}
			return fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
		}
		if c.Error.said() {
			return c.Error
		}
		if !a.take(&c, out) {
			return nil
		}
		wait := m.cfg.IdleTimeout
		if a.finish != "" {
			wait = min(wait, afterFinish)
		}
		if idle == nil {
			timer.Stop()
			idle = time.AfterFunc(wait, func() { cancel(errIdle) })
			continue
		}
		idle.Reset(wait)
	}
}

// answer is what a call has given so far.
type answer struct {
	price     Price
	text      int
	outTokens int
	calls     assembly
	finish    string
	model     string
	usage     *model.Usage
}

// use takes the server's count, if it gave one.
func (a *answer) use(u *wireUsage) {
	if u != nil && (u.PromptTokens > 0 || u.CompletionTokens > 0) {
		a.usage = &model.Usage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens}
	}
}

// take adds a chunk and hands its text on; false: the reader wants no more.
func (a *answer) take(c *wireChunk, out *output) bool {
	if c.Model != "" {
		a.model = c.Model
	}
	a.use(c.Usage)
	for i := range c.Choices {
		ch := &c.Choices[i]
		if ch.Index != 0 {
			continue
		}
		for _, d := range ch.Delta.ToolCalls {
			a.calls.add(d)
		}
		if ch.FinishReason != "" {
			a.finish = ch.FinishReason
		}
		piece := model.Chunk{Text: string(ch.Delta.Content) + ch.Delta.Refusal, Reasoning: ch.Delta.reasoning()}
		if piece.Text == "" && piece.Reasoning == "" {
			continue
		}
		a.text += len(piece.Text)
		a.outTokens += tokens.Estimate(piece.Text)
		if !out.chunk(piece) {
			return false
		}
	}
	return true
}

// end closes a stream that gave err: whole if the model finished or the server said so, else the error stands.
func (a *answer) end(err error, done bool, r model.Request, out *output) error {
	said := done && (a.text > 0 || len(a.calls.calls) > 0)
	switch {
	case a.finish != "":
	case !errors.Is(err, io.EOF):
		return err
	case !said:
		return errTruncated
	}
	out.chunk(a.last(r))
	return nil
}

// last gives the chunk that closes an answer.
func (a *answer) last(r model.Request) model.Chunk {
	c := model.Chunk{ToolCalls: a.calls.finish(), Usage: a.usage, FinishReason: a.finish, Model: a.model}
	switch {
	case len(c.ToolCalls) > 0:
		c.FinishReason = "tool_calls"
	case c.FinishReason == "" || c.FinishReason == "tool_calls":
		c.FinishReason = "stop"
	}
	if c.Usage == nil {
		c.Usage = &model.Usage{Estimated: true, OutputTokens: int64(a.outTokens), InputTokens: estimateInput(r)}
		for _, call := range c.ToolCalls {
			c.Usage.OutputTokens += int64(tokens.Estimate(call.Name) + tokens.Estimate(call.Arguments))
		}
	}
	c.Usage.CostUSD = a.price.of(*c.Usage)
	return c
}

func estimateInput(r model.Request) int64 {
	n := 0
	for _, m := range r.Messages {
		n += 4 + tokens.Estimate(m.Text)
		for _, c := range m.ToolCalls {
			n += tokens.Estimate(c.Name) + tokens.Estimate(c.Arguments)
		}
	}
	for _, t := range r.Tools {
		n += tokens.Estimate(t.Name) + tokens.Estimate(t.Description) + len(t.Schema)/4
	}
	return int64(n)
}
