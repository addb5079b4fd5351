package openaimodel

import (
	"encoding/json"
	"fmt"
)

// chat reads answers of the chat-completions API.
type chat struct {
	*answer
	c wireChunk // one for all: what is taken of it is in slices of its own
}

func (a *chat) whole(raw []byte) (text, reasoning string, err error) {
	var w wireAnswer
	if err := json.Unmarshal(raw, &w); err != nil {
		return "", "", &protocolError{"the answer is not what the protocol says: " + err.Error()}
	}
	switch {
	case len(w.Choices) == 0 && w.Error.said():
		return "", "", w.Error
	case len(w.Choices) == 0:
		return "", "", &protocolError{"an answer without choices"}
	}
	msg := &w.Choices[0].Message
	text = msg.Content.text
	if text == "" {
		text = msg.Refusal
	}
	a.model, a.reasoning = w.Model, []byte(msg.ReasoningContent)
	if err := a.count(text, msg.reasoning()); err != nil {
		return "", "", err
	}
	if err := a.finished(w.Choices[0].FinishReason); err != nil {
		return "", "", err
	}
	for i, d := range msg.ToolCalls { // whole ones: none goes on with another
		d.Index = &i
		if err := a.calls.add(d); err != nil {
			return "", "", err
		}
	}
	a.use(w.Usage)
	return text, msg.reasoning(), nil
}

func (a *chat) event(raw []byte, out *output) (more bool, err error) {
	a.c = wireChunk{}
	if err := json.Unmarshal(raw, &a.c); err != nil {
		return false, fmt.Errorf("%w: %s", errBrokenStream, oneLine(string(raw)))
	}
	if err := a.c.refused(); err != nil {
		return false, err
	}
	return a.take(&a.c, out)
}
