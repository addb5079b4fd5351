package openaimodel

import (
	"errors"
	"io"

	"github.com/agentry/agentry/agentd/model"
	"github.com/agentry/agentry/internal/tokens"
)

// maxText caps what an answer may say and think, in bytes. The wire around a stream is several times as large.
const maxText = 16 << 20

// imageTokens is what a picture is taken for where nobody counts: endpoints differ from 85 to some thousand.
const imageTokens = 800

// answer is what a call has given so far.
type answer struct {
	price     Price
	text      int // bytes
	thought   int // bytes
	outTokens int
	calls     assembly
	reasoning []byte // kept for calls, see echoes
	lead      []byte // the same of the Responses API: reasoning items before the text
	asked     string // the model's name in the request
	over      bool   // nothing that counts follows
	finish    string
	model     string
	usage     *model.Usage
	billed    *model.Usage // what a server counted of an answer that failed
}

// use takes the server's count, if it gave one.
func (a *answer) use(u *wireUsage) {
	if u != nil && (u.PromptTokens > 0 || u.CompletionTokens > 0) {
		a.usage = &model.Usage{InputTokens: u.PromptTokens, OutputTokens: u.CompletionTokens}
	}
}

// take adds a chunk and hands its text on. more is false when the reader wants no more.
func (a *answer) take(c *wireChunk, out *output) (more bool, err error) {
	if c.Model != "" {
		a.model = c.Model
	}
	a.use(c.Usage)
	if c.XGroq != nil {
		a.use(c.XGroq.Usage)
	}
	for i := range c.Choices {
		ch := &c.Choices[i]
		if ch.Index != 0 {
			continue
		}
		a.use(ch.Usage)
		for _, d := range ch.Delta.ToolCalls {
			if err := a.calls.add(d); err != nil {
				return false, err
			}
		}
		if err := a.finished(ch.FinishReason); err != nil {
			return false, err
		}
		piece := model.Chunk{Text: ch.Delta.Content.text + ch.Delta.Refusal, Reasoning: ch.Delta.reasoning()}
		if piece.Text == "" && piece.Reasoning == "" {
			continue
		}
		if err := a.count(piece.Text, piece.Reasoning); err != nil {
			return false, err
		}
		if ch.Delta.ReasoningContent != "" && len(a.reasoning) < maxEcho {
			a.reasoning = append(a.reasoning, ch.Delta.ReasoningContent...)
		}
		if !out.chunk(piece) {
			return false, nil
		}
	}
	return true, nil
}

// count notes what was said and thought.
func (a *answer) count(text, reasoning string) error {
	a.text += len(text)
	a.thought += len(reasoning)
	a.outTokens += tokens.Estimate(text) + tokens.Estimate(reasoning)
	if a.text+a.thought > maxText {
		return errTooLarge
	}
	return nil
}

// finished takes a finish reason, in the words that the port knows. Some servers end an answer by saying that they failed.
func (a *answer) finished(reason string) error {
	switch reason {
	case "":
	case "length", "model_length", "max_tokens", "max_output_tokens":
		a.finish = "length"
	case "content_filter", "sensitive", "safety", "SAFETY":
		a.finish = "content_filter"
	case "error", "network_error", "insufficient_system_resource":
		return &refusal{Message: "the server ended the answer with " + reason}
	default: // tool_calls, function_call, eos...: what came says which
		a.finish = "stop"
	}
	return nil
}

// end closes a stream that gave err: whole if the model finished or the server said so, else the error stands.
func (m *Model) end(a *answer, err error, done bool, r model.Request, out *output) error {
	said := done && (a.text > 0 || len(a.calls.calls) > 0)
	switch {
	case a.finish != "":
	case !errors.Is(err, io.EOF):
		return err
	case !said:
		return errTruncated
	}
	out.chunk(m.last(a, r))
	return nil
}

// last gives the chunk that closes an answer.
func (m *Model) last(a *answer, r model.Request) model.Chunk {
	m.echoes.keep(a)
	c := model.Chunk{ToolCalls: a.calls.finish(), Usage: a.usage, FinishReason: a.finish, Model: a.model}
	switch {
	case len(c.ToolCalls) > 0:
		c.FinishReason = "tool_calls"
	case c.FinishReason == "":
		c.FinishReason = "stop"
	}
	if c.Usage == nil {
		c.Usage = a.estimate(r)
	}
	c.Usage.CostUSD = a.price.of(*c.Usage)
	return c
}

// spent gives the usage of an answer that broke off; nil where nothing had come.
func (a *answer) spent(r model.Request) *model.Usage {
	u := a.billed
	switch {
	case u != nil:
	case a.text+a.thought+a.calls.bytes == 0:
		return nil
	default:
		u = a.estimate(r)
	}
	u.CostUSD = a.price.of(*u)
	return u
}

func (a *answer) estimate(r model.Request) *model.Usage {
	u := &model.Usage{Estimated: true, OutputTokens: int64(a.outTokens), InputTokens: estimateInput(r)}
	for i := range a.calls.calls {
		p := &a.calls.calls[i]
		u.OutputTokens += int64(tokens.Estimate(p.name) + tokens.Estimate(string(p.args)))
	}
	return u
}

func estimateInput(r model.Request) int64 {
	n := 0
	for _, m := range r.Messages {
		n += 4 + tokens.Estimate(m.Text) + imageTokens*len(m.Images)
		for _, c := range m.ToolCalls {
			n += tokens.Estimate(c.Name) + tokens.Estimate(c.Arguments)
		}
	}
	for _, t := range r.Tools {
		n += tokens.Estimate(t.Name) + tokens.Estimate(t.Description) + len(t.Schema)/4
	}
	return int64(n)
}
