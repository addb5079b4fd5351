package openaidoor

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/agentry/agentry/agentd/engine"
	"github.com/agentry/agentry/agentd/pending"
	"github.com/agentry/agentry/agentd/run"
)

// maxShown bounds the arguments of a call in the text that says what waits, in bytes; the field beside it has all.
const maxShown = 600

// ours is what an answer says beyond the API, in a field of its own.
type ours struct {
	Pending   *wirePending `json:"pending,omitempty"`
	Estimated bool         `json:"usage_estimated,omitempty"` // the model's endpoint counted no tokens
}

// wirePending is a run that waits for somebody.
type wirePending struct {
	ID        string     `json:"id"`
	Kind      string     `json:"kind"`
	Question  string     `json:"question,omitempty"`
	Calls     []wireCall `json:"calls,omitempty"`
	ExpiresAt string     `json:"expires_at"`
}

type wireCall struct {
	ID        string          `json:"id"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
	Needs     bool            `json:"needs_approval"`
	Why       string          `json:"why,omitempty"`
}

// beyond gives what is ours to say of a turn; nil: nothing.
func beyond(turn *run.Turn, res engine.Result) *ours {
	out := ours{Pending: suspended(turn.Pending), Estimated: res.Usage.Estimated}
	if out == (ours{}) {
		return nil
	}
	return &out
}

// suspended shows a run that waits; nil: none does.
func suspended(p *pending.Run) *wirePending {
	if p == nil {
		return nil
	}
	out := &wirePending{ID: p.ID, Kind: string(p.Kind), Question: p.Question, ExpiresAt: p.ExpiresAt.UTC().Format(time.RFC3339)}
	for _, c := range p.Calls {
		args := c.Arguments
		if !json.Valid(args) { // as the model wrote it
			args, _ = json.Marshal(string(args)) //nolint:errchkjson // a string
		}
		out.Calls = append(out.Calls, wireCall{ID: c.ID, Tool: c.Tool, Arguments: args, Needs: c.Needs, Why: c.Why})
	}
	return out
}

// after gives the text of an answer that waits: what was said before, and what is waited for.
func (p *wirePending) after(said string) string {
	var b strings.Builder
	b.WriteString(said)
	if said != "" {
		b.WriteString("\n\n")
	}
	if p.Kind != string(pending.Approval) {
		b.WriteString(p.Question)
		return b.String()
	}
	b.WriteString("This waits for approval:\n\n")
	for _, c := range p.Calls {
		if !c.Needs {
			continue
		}
		_, _ = fmt.Fprintf(&b, "- %s %s", c.Tool, shorten(string(c.Arguments)))
		if c.Why != "" {
			_, _ = fmt.Fprintf(&b, " (%s)", c.Why)
		}
		b.WriteString("\n")
	}
	_, _ = fmt.Fprintf(&b, "\nNothing was called yet. Who may approve decides until %s with `agentctl approvals approve %s` or `agentctl approvals deny %s`, or with POST /api/v1/approvals/%s. The run goes on then, and its answer is found at the last of these.", p.ExpiresAt, p.ID, p.ID, p.ID)
	return b.String()
}

// shorten cuts a text at a rune's end.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "..."
}
