package openaimodel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/agentry/agentry/agentd/model"
)

// toolDelta is a piece of a tool call. Servers differ: some send no index, some index 0 for every call, some no id.
type toolDelta struct {
	Index    *int          `json:"index"`
	ID       string        `json:"id"`
	Function functionDelta `json:"function"`
}

type functionDelta struct {
	Name      string  `json:"name"`
	Arguments argText `json:"arguments"`
}

// argText is a piece of the arguments: a string, or the object itself as some servers send it.
type argText string

// UnmarshalJSON reads both forms.
func (a *argText) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"':
		return json.Unmarshal(b, (*string)(a))
	case string(b) != "null":
		*a = argText(b)
	}
	return nil
}

// assembly puts tool calls together from their pieces.
type assembly struct {
	calls []partial
}

type partial struct {
	index int // -1: the server gave none
	call  model.ToolCall
}

func (a *assembly) add(d toolDelta) {
	p := a.find(d)
	if p == nil {
		index := -1
		if d.Index != nil {
			index = *d.Index
		}
		a.calls = append(a.calls, partial{index: index})
		p = &a.calls[len(a.calls)-1]
	}
	if p.call.ID == "" {
		p.call.ID = d.ID
	}
	if d.Function.Name != p.call.Name { // some repeat the whole name in every piece
		p.call.Name += d.Function.Name
	}
	p.call.Arguments += string(d.Function.Arguments)
}

// find gives the call that d continues, or nil when it begins a new one. The newest call of an index counts.
func (a *assembly) find(d toolDelta) *partial {
	for i := range slices.Backward(a.calls) {
		p := &a.calls[i]
		if d.Index != nil && p.index != *d.Index {
			continue
		}
		switch {
		case d.ID != "" && p.call.ID != "" && d.ID != p.call.ID:
			if d.Index == nil {
				continue // pieces of several calls, told apart by id
			}
			return nil // another call under the same index
		case d.Index == nil && d.ID == "" && d.Function.Name != "" && d.Function.Name != p.call.Name && p.call.Arguments != "":
			return nil // a new name without index or id
		case d.Index == nil && d.ID == "" && d.Function.Name != "" && json.Valid([]byte(p.call.Arguments)):
			return nil // the same tool again: the call before is whole
		}
		return p
	}
	return nil
}

// finish gives the calls in order, each with an id of its own.
func (a *assembly) finish() []model.ToolCall {
	if len(a.calls) == 0 {
		return nil
	}
	out := make([]model.ToolCall, 0, len(a.calls))
	seen := make(map[string]bool, len(a.calls))
	for _, p := range a.calls {
		c := p.call
		if c.Name == "" && c.Arguments == "" {
			continue
		}
		for c.ID == "" || seen[c.ID] {
			c.ID = fmt.Sprintf("call_%016x", rand.Uint64()) // #nosec G404 -- a name, not a secret
		}
		seen[c.ID] = true
		out = append(out, c)
	}
	return out
}
