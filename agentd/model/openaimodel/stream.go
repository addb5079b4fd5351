package openaimodel

import (
	"bytes"
	"context"
	"errors"
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
	a := answer{price: m.cfg.Price, asked: m.cfg.Model}
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

// reader takes an answer of one API apart into an answer.
type reader interface {
	// whole reads one that came in one piece, and gives its text and its reasoning.
	whole(raw []byte) (text, reasoning string, err error)
	// event reads a piece of a stream and hands its text on. more is false when nobody wants more. An error that is errBrokenStream says that
	// it is no piece of one.
	event(raw []byte, out *output) (more bool, err error)
}

func (m *Model) reader(a *answer) reader {
	if m.responses {
		return &responses{answer: a}
	}
	return &chat{answer: a}
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
	text, reasoning, err := m.reader(a).whole(buf.Bytes())
	if err != nil {
		return err
	}
	c := m.last(a, r)
	c.Text, c.Reasoning = text, reasoning
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
	read := m.reader(a)
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
		more, err := read.event(raw, out)
		switch {
		case errors.Is(err, errBrokenStream) && a.finish != "":
			return m.end(a, io.EOF, false, r, out)
		case err != nil || !more:
			return err
		case a.over:
			err = m.end(a, io.EOF, true, r, out)
			timer.Reset(afterDone)
			events.drain()
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
