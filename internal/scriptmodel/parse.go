package scriptmodel

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a script: the parser's cost grows with the square of the depth.
const (
	maxScript = 1 << 20
	maxDepth  = 32
	maxHuge   = 64 << 20 // bytes of hugeArguments
)

// ParseScript reads a script in YAML. Unknown fields, wrong values and unknown {{values}} are errors that say the
// line. Empty input gives an empty script, which New replaces by DefaultScript.
func ParseScript(data []byte) (Script, error) {
	var s Script
	if len(data) > maxScript {
		return s, fmt.Errorf("script: %d bytes (at most %d)", len(data), maxScript)
	}
	if err := checkDepth(data); err != nil {
		return s, err
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return s, fmt.Errorf("script: %w", located(err))
	}
	dec := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.DisallowUnknownField())
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("script: %w", located(err))
	}
	var faults []error
	for i, r := range s.Rules {
		for _, f := range r.check() {
			faults = append(faults, fmt.Errorf("script:%d: rules[%d]%s", lineOf(file, i, f.at), i, f.what))
		}
	}
	if s.Default != nil {
		for _, f := range s.Default.check() {
			faults = append(faults, fmt.Errorf("script: default%s", f.what))
		}
	}
	return s, errors.Join(faults...)
}

// checkDepth refuses deep nesting before the parser sees it.
func checkDepth(data []byte) error {
	depth, indents := 0, []int{}
	for _, t := range lexer.Tokenize(string(data)) {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.MappingValueType, token.SequenceEntryType:
			for len(indents) > 0 && indents[len(indents)-1] > t.Position.IndentNum {
				indents = indents[:len(indents)-1]
			}
			if len(indents) == 0 || indents[len(indents)-1] < t.Position.IndentNum {
				indents = append(indents, t.Position.IndentNum)
			}
		default:
		}
		if depth+len(indents) > maxDepth {
			return fmt.Errorf("script:%d: nested deeper than %d", t.Position.Line, maxDepth)
		}
	}
	return nil
}

// located gives a YAML error as line:column and its message, without colours.
func located(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		p := y.GetToken().Position
		return fmt.Errorf("line %d, column %d: %s", p.Line, p.Column, y.GetMessage())
	}
	return err
}

// lineOf finds the line of a path below a rule; of the rule where the path is not there.
func lineOf(file *ast.File, rule int, below string) int {
	for _, p := range []string{fmt.Sprintf("$.rules[%d]%s", rule, below), fmt.Sprintf("$.rules[%d]", rule)} {
		path, err := yaml.PathString(p)
		if err != nil {
			continue
		}
		if node, err := path.FilterFile(file); err == nil && node != nil && node.GetToken() != nil {
			return node.GetToken().Position.Line
		}
	}
	return 1
}

// fault is something wrong in one rule: where below it, and what.
type fault struct{ at, what string }

func (r Rule) check() []fault {
	var out []fault
	switch {
	case r.Reply == nil && r.Fault == nil:
		out = append(out, fault{"", ": neither reply nor fault"})
	case r.Reply != nil:
		for _, f := range r.Reply.check() {
			out = append(out, fault{".reply" + f.at, ".reply" + f.what})
		}
	}
	f := r.Fault
	if f == nil {
		return out
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		out = append(out, fault{".fault.status", fmt.Sprintf(".fault.status: %d (400 to 599)", f.Status)})
	}
	if f.Status == 0 && !f.HalfOpen && !f.BrokenSSE && !f.WrongJSON && !f.GarbageSSE && !f.Reset && f.HugeArguments == 0 && f.Drip == 0 && f.Slow == 0 {
		out = append(out, fault{".fault", ".fault: nothing to do (status, halfOpen, brokenSSE, wrongJSON, garbageSSE, reset, drip, hugeArguments or slow)"})
	}
	if f.Times < 0 || f.Slow < 0 || f.RetryAfter < 0 || f.Drip < 0 {
		out = append(out, fault{".fault", ".fault: times, slow, drip and retryAfter must not be negative"})
	}
	if f.HugeArguments < 0 || f.HugeArguments > maxHuge {
		out = append(out, fault{".fault.hugeArguments", fmt.Sprintf(".fault.hugeArguments: %d (0 to %d)", f.HugeArguments, maxHuge)})
	}
	return out
}

func (r Reply) check() []fault {
	var out []fault
	if bad := unknownValue(r.Text); bad != "" {
		out = append(out, fault{".text", ".text: unknown value " + bad})
	}
	if bad := unknownValue(r.Reasoning); bad != "" {
		out = append(out, fault{".reasoning", ".reasoning: unknown value " + bad})
	}
	if bad := unknownIn(r.JSON); bad != "" {
		out = append(out, fault{".json", ".json: unknown value " + bad})
	}
	if r.JSON != nil && r.Text != "" {
		out = append(out, fault{".json", ".json: text and json exclude each other"})
	}
	for i, c := range r.ToolCalls {
		at := fmt.Sprintf(".toolCalls[%d]", i)
		if c.Name == "" {
			out = append(out, fault{at, at + ".name: must not be empty"})
		}
		if bad := unknownIn(c.Arguments); bad != "" {
			out = append(out, fault{at + ".arguments", at + ".arguments: unknown value " + bad})
		}
	}
	if r.Delay < 0 || r.Pace.Delay < 0 || r.Pace.Chunk < 0 {
		out = append(out, fault{"", ": delay and pace must not be negative"})
	}
	return out
}

func unknownIn(v any) string {
	switch v := v.(type) {
	case string:
		return unknownValue(v)
	case []any:
		for _, e := range v {
			if bad := unknownIn(e); bad != "" {
				return bad
			}
		}
	case map[string]any:
		for _, e := range v {
			if bad := unknownIn(e); bad != "" {
				return bad
			}
		}
	}
	return ""
}

func unknownValue(text string) string {
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		if !knownValue.MatchString(m[1]) {
			return m[0]
		}
	}
	return ""
}
