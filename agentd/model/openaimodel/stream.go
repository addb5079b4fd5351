package openaimodel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	openai "github.com/sashabaranov/go-openai"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/tokens"
)

var (
	errTruncated    = errors.New("the stream ended before the answer did")
	errBrokenStream = errors.New("the stream carries something that is no chunk")
)

// afterFinish bounds the wait for usage and [DONE] once the answer is whole.
const afterFinish = 2 * time.Second

// attempt makes one call and yields its chunks; nil means the answer is whole (or nobody wants the rest).
func (m *Model) attempt(ctx context.Context, r model.Request, out *output) *failure {
	tail, err := m.tailFor(r)
	x := &exchange{tail: tail, stream: r.Stream}
	if err != nil {
		return classify(ctx, x, err)
	}
	actx, cancel := context.WithCancelCause(withExchange(ctx, x))
	defer cancel(nil)
	timer := time.AfterFunc(m.cfg.Timeout, func() { cancel(errTimeout) })
	defer timer.Stop()
	if !r.Stream {
		err = m.whole(actx, r, out)
	} else {
		err = m.stream(actx, cancel, timer, r, x, out)
	}
	if err == nil {
		return nil
	}
	return classify(actx, x, err)
}

func (m *Model) whole(ctx context.Context, r model.Request, out *output) error {
	resp, err := m.client.CreateChatCompletion(ctx, m.wire(r))
	if err != nil {
		return err
	}
	if len(resp.Choices) == 0 {
		return &protocolError{"an answer without choices"}
	}
	msg := resp.Choices[0].Message
	var calls assembly
	for _, c := range msg.ToolCalls {
		calls.add(toolDelta{ID: c.ID, Function: functionDelta{Name: c.Function.Name, Arguments: argText(c.Function.Arguments)}})
	}
	text := msg.Content
	if text == "" {
		text = msg.Refusal
	}
	for _, part := range msg.MultiContent {
		text += part.Text
	}
	a := answer{price: m.cfg.Price, text: len(text), calls: calls, finish: string(resp.Choices[0].FinishReason), model: resp.Model}
	a.outTokens = tokens.Estimate(text)
	if u := resp.Usage; u.PromptTokens > 0 || u.CompletionTokens > 0 {
		a.usage = &model.Usage{InputTokens: int64(u.PromptTokens), OutputTokens: int64(u.CompletionTokens)}
	}
	c := a.last(r)
	c.Text, c.Reasoning = text, msg.ReasoningContent
	out.chunk(c)
	return nil
}

func (m *Model) stream(ctx context.Context, cancel context.CancelCauseFunc, timer *time.Timer, r model.Request, x *exchange, out *output) error {
	s, err := m.client.CreateChatCompletionStream(ctx, m.wire(r))
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	var idle *time.Timer // from the first chunk on; until then the attempt's timer runs
	defer func() {
		if idle != nil {
			idle.Stop()
		}
	}()
	a := answer{price: m.cfg.Price}
	for {
		raw, err := s.RecvRaw()
		if err != nil {
			return a.end(err, x, r, out)
		}
		var c wireChunk
		if err := json.Unmarshal(raw, &c); err != nil {
			if a.finish != "" {
				return a.end(io.EOF, x, r, out)
			}
			return fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
		}
		if c.Error != nil {
			return c.Error
		}
		if !a.take(c, out) {
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

type wireChunk struct {
	Model   string           `json:"model"`
	Error   *openai.APIError `json:"error"`
	Choices []struct {
		Index int `json:"index"`
		Delta struct {
			Content          string      `json:"content"`
			Refusal          string      `json:"refusal"`
			Reasoning        string      `json:"reasoning"`
			ReasoningContent string      `json:"reasoning_content"`
			ToolCalls        []toolDelta `json:"tool_calls"`
		} `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int64 `json:"prompt_tokens"`
		CompletionTokens int64 `json:"completion_tokens"`
	} `json:"usage"`
}

// take adds a chunk and hands its text on; false: the reader wants no more.
func (a *answer) take(c wireChunk, out *output) bool {
	if c.Model != "" {
		a.model = c.Model
	}
	if u := c.Usage; u != nil && (u.PromptTokens > 0 || u.CompletionTokens > 0) {
		a.usage = &model.Usage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens}
	}
	for _, ch := range c.Choices {
		if ch.Index != 0 {
			continue
		}
		for _, d := range ch.Delta.ToolCalls {
			a.calls.add(d)
		}
		if ch.FinishReason != "" {
			a.finish = ch.FinishReason
		}
		piece := model.Chunk{Text: ch.Delta.Content + ch.Delta.Refusal, Reasoning: ch.Delta.Reasoning}
		if piece.Reasoning == "" {
			piece.Reasoning = ch.Delta.ReasoningContent
		}
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
func (a *answer) end(err error, x *exchange, r model.Request, out *output) error {
	said := x.done && (a.text > 0 || len(a.calls.calls) > 0)
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
