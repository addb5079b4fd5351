package scriptmodel

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	placeholder = regexp.MustCompile(`\{\{\s*([A-Za-z0-9_.-]+)\s*\}\}`)
	knownValue  = regexp.MustCompile(`^(user|system|toolResult|model|temperature|topP|maxTokens|tools|turn|round|format|images|[0-9]+|metadata\..+)$`)
)

// fill makes the answer of a reply to a request.
func (q *chatRequest) fill(r *Reply, groups []string) answer {
	if r == nil {
		r = &Reply{Text: "scripted answer"}
	}
	a := answer{model: q.Model, text: q.expand(r.Text, groups), reasoning: q.expand(r.Reasoning, groups), finish: r.FinishReason, pace: r.Pace}
	if r.JSON != nil {
		a.text = q.arguments(r.JSON, groups)
	}
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%s\x00%d\x00%d", q.system, q.user, q.toolResult, q.turn, q.round)
	tag := strconv.FormatUint(h.Sum64(), 36)
	a.id, a.tag, a.encrypted = "chatcmpl-scripted-"+tag, tag, q.encrypted
	for i, c := range r.ToolCalls {
		call := wireCall{ID: "call_" + tag + "_" + strconv.Itoa(i), Type: "function"}
		call.Function.Name = c.Name
		if name, ok := q.offered(c.Name); ok {
			call.Function.Name = name
		}
		call.Function.Arguments = q.arguments(c.Arguments, groups)
		a.calls = append(a.calls, call)
	}
	if a.finish == "" {
		a.finish = "stop"
		if len(a.calls) > 0 {
			a.finish = "tool_calls"
		}
	}
	a.usage = q.count(r.Usage, a)
	return a
}

func (q *chatRequest) count(u *Usage, a answer) wireUsage {
	var out wireUsage
	if u != nil {
		out.PromptTokens, out.CompletionTokens = u.PromptTokens, u.CompletionTokens
	} else {
		chars, made := 0, utf8.RuneCountInString(a.reasoning+a.text)
		for _, m := range q.Messages {
			chars += utf8.RuneCountInString(m.text())
		}
		for _, c := range a.calls {
			made += len(c.Function.Name) + len(c.Function.Arguments)
		}
		out.PromptTokens, out.CompletionTokens = chars/4+1, made/4+1
	}
	out.TotalTokens = out.PromptTokens + out.CompletionTokens
	return out
}

// arguments gives a call's arguments as they are sent: a string as it stands, anything else as JSON.
func (q *chatRequest) arguments(v any, groups []string) string {
	switch v := v.(type) {
	case nil:
		return "{}"
	case string:
		return q.expand(v, groups)
	}
	b, err := json.Marshal(q.expandAll(v, groups))
	if err != nil {
		return "{}"
	}
	return string(b)
}

// expandAll expands the strings anywhere in v.
func (q *chatRequest) expandAll(v any, groups []string) any {
	switch v := v.(type) {
	case string:
		return q.expand(v, groups)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = q.expandAll(e, groups)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = q.expandAll(e, groups)
		}
		return out
	default:
		return v
	}
}

// expand fills the values in. A group that the expression doesn't have is empty.
func (q *chatRequest) expand(text string, groups []string) string {
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := placeholder.FindStringSubmatch(m)[1]
		if n, err := strconv.Atoi(name); err == nil {
			if n < len(groups) {
				return groups[n]
			}
			return ""
		}
		if key, ok := strings.CutPrefix(name, "metadata."); ok {
			return q.Metadata[key]
		}
		return q.value(name, m)
	})
}

func (q *chatRequest) value(name, otherwise string) string {
	switch name {
	case "user":
		return q.user
	case "system":
		return q.system
	case "toolResult":
		return q.toolResult
	case "model":
		return q.Model
	case "temperature":
		return number(q.Temperature)
	case "topP":
		return number(q.TopP)
	case "maxTokens":
		if q.MaxTokens != nil {
			return strconv.Itoa(*q.MaxTokens)
		}
		return "unset"
	case "format":
		return q.format()
	case "images":
		return strconv.Itoa(len(q.images))
	case "turn":
		return strconv.Itoa(q.turn)
	case "round":
		return strconv.Itoa(q.round)
	case "tools":
		names := make([]string, 0, len(q.Tools))
		for _, t := range q.Tools {
			names = append(names, t.Function.Name)
		}
		return strings.Join(names, ", ")
	default:
		return otherwise
	}
}

func number(f *float64) string {
	if f == nil {
		return "unset"
	}
	return strconv.FormatFloat(*f, 'g', -1, 64)
}
