package openaimodel

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/agentry/agentry/agentd/model"
)

// Caps on the tool calls of one answer.
const (
	maxCalls     = 128
	maxArguments = 4 << 20 // bytes, of all calls together
)

var errCalls = errors.New("the answer asks for too much: at most 128 tool calls, and 4 MiB of arguments together")

// toolDelta is a piece of a tool call. Servers differ: some send no index, some index 0 for every call, some an index in the first piece
// that the next ones don't have, some no id.
type toolDelta struct {
	Index    *int            `json:"index"`
	ID       string          `json:"id"`
	Function functionDelta   `json:"function"`
	Extra    json.RawMessage `json:"extra_content"` // Gemini's: goes back with the call as it came
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
	bytes int // of all arguments
}

// partial is a call that may go on.
type partial struct {
	index int // -1: the server gave none
	id    string
	name  string
	args  []byte
	scan  scan
	extra json.RawMessage
	items []byte // reasoning items right before it, of the Responses API
	mark  string // see echoes
}

// add takes a piece. The error is errCalls.
func (a *assembly) add(d toolDelta) error {
	p := a.find(d)
	if p == nil {
		if len(a.calls) == maxCalls {
			return errCalls
		}
		index := -1
		if d.Index != nil {
			index = *d.Index
		}
		a.calls = append(a.calls, partial{index: index})
		p = &a.calls[len(a.calls)-1]
	}
	if p.id == "" {
		p.id = d.ID
	}
	if d.Function.Name != p.name { // some repeat the whole name in every piece
		p.name += d.Function.Name
	}
	if len(d.Extra) > 0 && string(d.Extra) != "null" {
		p.extra = d.Extra
	}
	a.bytes += len(d.Function.Arguments) + len(d.Function.Name) + len(d.Extra)
	if a.bytes > maxArguments {
		return errCalls
	}
	p.args = append(p.args, d.Function.Arguments...)
	p.scan.feed(string(d.Function.Arguments))
	return nil
}

// find gives the call that d continues, or nil when it begins a new one. The newest call of an index counts.
func (a *assembly) find(d toolDelta) *partial {
	if len(a.calls) == 0 {
		return nil
	}
	newest := &a.calls[len(a.calls)-1]
	if d.ID == "" && d.Function.Name == "" && (d.Index == nil || !a.has(*d.Index)) {
		return newest // nothing that begins a call
	}
	for i := range slices.Backward(a.calls) {
		p := &a.calls[i]
		if d.Index != nil && p.index != *d.Index {
			continue
		}
		switch {
		case d.ID != "" && p.id != "" && d.ID != p.id:
			if d.Index == nil {
				continue // pieces of several calls, told apart by id
			}
			return nil // another call under the same index
		case d.ID == "" && d.Function.Name != "" && d.Function.Arguments != "" && p.scan.whole():
			return nil // a name again, though the call before is whole
		case d.Index == nil && d.ID == "" && d.Function.Name != "" && d.Function.Name != p.name && len(p.args) > 0:
			return nil // a new name without index or id
		}
		return p
	}
	return nil
}

func (a *assembly) has(index int) bool {
	return slices.ContainsFunc(a.calls, func(p partial) bool { return p.index == index })
}

// finish gives the calls in order, each with an id of its own.
func (a *assembly) finish() []model.ToolCall {
	if len(a.calls) == 0 {
		return nil
	}
	out := make([]model.ToolCall, 0, len(a.calls))
	seen := make(map[string]bool, len(a.calls))
	for i := range a.calls {
		p := &a.calls[i]
		if p.name == "" && len(p.args) == 0 {
			continue
		}
		for p.id == "" || seen[p.id] {
			p.id = fmt.Sprintf("call_%016x", rand.Uint64()) // #nosec G404 -- a name, not a secret
		}
		seen[p.id] = true
		out = append(out, model.ToolCall{ID: p.id + p.mark, Name: p.name, Arguments: string(p.args)})
	}
	return out
}

// scan follows JSON as it comes, to know when an object is whole.
type scan struct {
	depth   int
	text    bool // inside a string
	escaped bool
	opened  bool
}

func (s *scan) feed(piece string) {
	for i := range len(piece) {
		c := piece[i]
		switch {
		case s.escaped:
			s.escaped = false
		case s.text:
			s.escaped, s.text = c == '\\', c != '"'
		case c == '"':
			s.text = true
		case c == '{' || c == '[':
			s.depth++
			s.opened = true
		case c == '}' || c == ']':
			s.depth--
		}
	}
}

func (s *scan) whole() bool { return s.opened && s.depth == 0 && !s.text }
