package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// spent says which budget forbids a round of n more calls, and why; "" if none. What the model said already is paid for: a budget that it
// passed ends the request only where it would go on.
func (l *Loop) spent(n int) (End, string) {
	switch {
	case l.cfg.Tokens > 0 && l.res.Usage.Total() >= l.cfg.Tokens:
		return ByTokens, fmt.Sprintf("%d of %d tokens are used (limits.tokens)", l.res.Usage.Total(), l.cfg.Tokens)
	case l.cfg.CostUSD > 0 && l.res.Usage.CostUSD >= l.cfg.CostUSD:
		return ByCost, fmt.Sprintf("%.6g of %.6g USD are spent (limits.costUsd)", l.res.Usage.CostUSD, l.cfg.CostUSD)
	case l.cfg.ToolCalls > 0 && len(l.res.Steps)+n > l.cfg.ToolCalls:
		return ByToolCalls, fmt.Sprintf("%d more tool calls would pass the limit of %d (limits.toolCalls)", n, l.cfg.ToolCalls)
	}
	return "", ""
}

// repeats gives the first call that would be one too many with its arguments; "" if none.
func (l *Loop) repeats(calls []Call) string {
	if l.cfg.SameCall <= 0 {
		return ""
	}
	more := make(map[string]int, len(calls))
	for _, c := range calls {
		k := callKey(c)
		more[k]++
		if l.same[k]+more[k] > l.cfg.SameCall {
			return c.Name
		}
	}
	return ""
}

// count counts calls that are made.
func (l *Loop) count(calls []Call) {
	if l.cfg.SameCall <= 0 {
		return
	}
	if l.same == nil {
		l.same = map[string]int{}
	}
	for _, c := range calls {
		l.same[callKey(c)]++
	}
}

// callKey is the same for calls of one tool with equal arguments, however they are written.
func callKey(c Call) string {
	args := []byte(c.Arguments)
	d := json.NewDecoder(bytes.NewReader(args))
	d.UseNumber()
	var value map[string]any
	if d.Decode(&value) == nil {
		if b, err := json.Marshal(value); err == nil {
			args = b
		}
	} else if len(bytes.TrimSpace(args)) == 0 {
		args = []byte("{}")
	}
	h := sha256.New()
	h.Write([]byte(c.Name))
	h.Write([]byte{0})
	h.Write(args)
	return hex.EncodeToString(h.Sum(nil)[:16])
}
