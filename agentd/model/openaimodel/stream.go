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
	a := answer{price: m.cfg.Price}
	resp, err := m.send(actx, x, m.chat, accept, body)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		if r.Stream && !isJSON(resp) { // a server that can't stream answers whole
			err = m.stream(cancel, timer, r, resp, &a, out)
		} else {
			err = m.whole(r, resp, &a, out)
		}
	}
	if err == nil {
		return nil
	}
	f := classify(actx, x, err)
	f.spent = a.spent(r)
	return f
}

func isJSON(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json")
}

// bodies are for reading answers into: nothing of one is kept.
var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }} //nolint:gochecknoglobals // a pool serves all

// keepBody is how large a buffer may be to be kept, in bytes.
const keepBody = 64 << 10

func (m *Model) whole(r model.Request, resp *http.Response, a *answer, out *output) error {
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
	text := msg.Content.text
	if text == "" {
		text = msg.Refusal
	}
	a.model, a.reasoning = w.Model, []byte(msg.ReasoningContent)
	if err := a.count(text, msg.reasoning()); err != nil {
		return err
	}
	if err := a.finished(w.Choices[0].FinishReason); err != nil {
		return err
	}
	for i, d := range msg.ToolCalls { // whole ones: none goes on with another
		d.Index = &i
		if err := a.calls.add(d); err != nil {
			return err
		}
	}
	a.use(w.Usage)
	c := m.last(a, r)
	c.Text, c.Reasoning = text, msg.reasoning()
	out.chunk(c)
	return nil
}

func (m *Model) stream(cancel context.CancelCauseFunc, timer *time.Timer, r model.Request, resp *http.Response, a *answer, out *output) error {
	if ct := resp.Header.Get("Content-Type"); ct != "" && !strings.HasPrefix(ct, "text/event-stream") {
		head, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return &protocolError{"asked for a stream, answered " + ct + ": " + oneLine(string(head))}
	}
	events := newEvents(&cappedBody{body: resp.Body, left: maxStream})
	defer events.close()
	var idle *time.Timer // from the first chunk on; until then the attempt's timer runs
	defer func() {
		if idle != nil {
			idle.Stop()
		}
	}()
	var c wireChunk // one for all: what is taken of it is in slices of its own
	for {
		raw, err := events.next()
		if err != nil {
			err = m.end(a, err, events.done, r, out)
			if err == nil && events.done {
				timer.Reset(afterDone)
				events.drain()
			}
			return err
		}
		c = wireChunk{}
		if err := json.Unmarshal(raw, &c); err != nil {
			if a.finish != "" {
				return m.end(a, io.EOF, false, r, out)
			}
			return fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
		}
		if err := c.refused(); err != nil {
			return err
		}
		if more, err := a.take(&c, out); err != nil || !more {
			return err
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
