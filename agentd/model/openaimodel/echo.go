package openaimodel

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// Bounds of what is kept to be sent back; the oldest goes first.
const (
	maxEcho   = 256 << 10 // bytes of one round's reasoning
	maxEchoes = 4096
	echoBytes = 8 << 20
)

// echoes keeps what some endpoints want back with a tool call and the port has no word for: Gemini's signature of the call, DeepSeek's and
// Kimi's reasoning before it, the Responses API's reasoning items. It is found again by a mark at the end of the call's id, which the endpoint never sees: an id alone won't do, as
// some servers number calls anew in every conversation. What was dropped, or kept by another process, isn't sent.
type echoes struct {
	mu     sync.Mutex // guards the rest
	byMark map[string]echo
	order  []string // marks, oldest first
	bytes  int
}

type echo struct {
	reasoning string // before the round's first call
	extra     json.RawMessage
	// Of the Responses API: reasoning items, each with a comma behind it, that came before the answer's text and right before the call. They
	// are for the model that made them only.
	lead, items string
	model       string
}

func (e echo) size() int { return len(e.reasoning) + len(e.extra) + len(e.lead) + len(e.items) }

func newEchoes() *echoes { return &echoes{byMark: map[string]echo{}} }

// The mark: a tilde and 16 hex digits.
const (
	markSign   = '~'
	markLength = 17
)

// keep marks the calls of a whole answer that have something to be sent back.
func (e *echoes) keep(a *answer) {
	first := true
	for i := range a.calls.calls {
		p := &a.calls.calls[i]
		v := echo{extra: p.extra, items: string(p.items)}
		if first {
			v.reasoning, v.lead, first = string(a.reasoning), string(a.lead), false
		}
		if v.size() == 0 {
			continue
		}
		v.model = a.asked
		p.mark = fmt.Sprintf("%c%016x", markSign, rand.Uint64()) // #nosec G404 -- a name, not a secret
		e.put(p.mark, v)
	}
}

func (e *echoes) put(mark string, v echo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byMark[mark] = v
	e.order = append(e.order, mark)
	e.bytes += v.size()
	for len(e.order) > maxEchoes || (e.bytes > echoBytes && len(e.order) > 1) {
		e.bytes -= e.byMark[e.order[0]].size()
		delete(e.byMark, e.order[0])
		e.order = e.order[1:]
	}
}

// get gives what belongs to a call, and its id as the endpoint knows it.
func (e *echoes) get(id string) (echo, string) {
	bare, mark := splitMark(id)
	if mark == "" {
		return echo{}, id
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.byMark[mark], bare
}

// splitMark cuts a mark off an id; "" where it has none.
func splitMark(id string) (bare, mark string) {
	at := len(id) - markLength
	if at < 0 || id[at] != markSign || strings.Trim(id[at+1:], "0123456789abcdef") != "" {
		return id, ""
	}
	return id[:at], id[at:]
}
