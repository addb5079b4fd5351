package openaimodel

import (
	"encoding/json"
	"strings"
)

// wireResponse is what counts of a response: a whole one, or the state that some events carry.
type wireResponse struct {
	Model      string   `json:"model"`
	Status     string   `json:"status"` // completed, incomplete, failed, cancelled, queued, in_progress
	Error      *refusal `json:"error"`
	Incomplete *struct {
		Reason string `json:"reason"`
	} `json:"incomplete_details"`
	Output []wireItem          `json:"output"`
	Usage  *wireResponsesUsage `json:"usage"`
}

// wireResponsesUsage counts tokens: cached ones are among the input's, reasoning ones among the output's.
type wireResponsesUsage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// wireItem is an output item: a message, a function_call, a reasoning, or one of another type, which is passed over.
type wireItem struct {
	Type      string     `json:"type"`
	ID        string     `json:"id"`
	CallID    string     `json:"call_id"`
	Name      string     `json:"name"`
	Arguments argText    `json:"arguments"`
	Content   []wirePart `json:"content"`
	Summary   []wirePart `json:"summary"`
	Encrypted string     `json:"encrypted_content"`
}

// wirePart is a piece of a message or of a reasoning.
type wirePart struct {
	Type    string `json:"type"` // output_text, refusal, summary_text, reasoning_text
	Text    string `json:"text"`
	Refusal string `json:"refusal"`
}

// UnmarshalJSON reads no more than the type of an item that isn't known: its fields may be anything.
func (i *wireItem) UnmarshalJSON(b []byte) error {
	type plain wireItem
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return err
	}
	switch head.Type {
	case "message", "function_call", "reasoning":
		return json.Unmarshal(b, (*plain)(i))
	default:
		i.Type = head.Type
		return nil
	}
}

// said gives a message's text; a refusal is one.
func (i *wireItem) said() string {
	var b strings.Builder
	for _, p := range i.Content {
		b.WriteString(p.Text)
		b.WriteString(p.Refusal)
	}
	return b.String()
}

// thought gives a reasoning's text: its summary, or where there is none what an open model thought.
func (i *wireItem) thought() string {
	parts := i.Summary
	if len(parts) == 0 {
		parts = i.Content
	}
	var all []string
	for _, p := range parts {
		if p.Text != "" {
			all = append(all, p.Text)
		}
	}
	return strings.Join(all, "\n\n")
}

// givenBack gives a reasoning as an input item with a comma behind it. nil where there is nothing to go by without a store: neither
// encrypted content nor an open model's own.
func (i *wireItem) givenBack() []byte {
	if i.Encrypted == "" && len(i.Content) == 0 {
		return nil
	}
	type part struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	out := struct {
		Type      string `json:"type"`
		ID        string `json:"id,omitempty"`
		Summary   []part `json:"summary"` // required
		Content   []part `json:"content,omitempty"`
		Encrypted string `json:"encrypted_content,omitempty"`
	}{Type: i.Type, ID: i.ID, Summary: []part{}, Encrypted: i.Encrypted}
	for _, p := range i.Summary {
		out.Summary = append(out.Summary, part{p.Type, p.Text})
	}
	for _, p := range i.Content {
		out.Content = append(out.Content, part{p.Type, p.Text})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil
	}
	return append(b, ',')
}

// wireEvent is what counts of an event of a stream.
type wireEvent struct {
	Type        string          `json:"type"`
	OutputIndex *int            `json:"output_index"`
	ItemID      string          `json:"item_id"`
	Summary     int             `json:"summary_index"`
	Delta       json.RawMessage `json:"delta"` // a text in the events that count
	Arguments   argText         `json:"arguments"`
	Item        *wireItem       `json:"item"`
	Response    *wireResponse   `json:"response"`
	// Of the event error: fields of its own, or an object.
	Error   *refusal        `json:"error"`
	Message json.RawMessage `json:"message"`
	Code    json.RawMessage `json:"code"`
}

// text gives the delta.
func (e *wireEvent) text() (string, error) {
	var s string
	if len(e.Delta) == 0 {
		return "", nil
	}
	err := json.Unmarshal(e.Delta, &s)
	return s, err
}
