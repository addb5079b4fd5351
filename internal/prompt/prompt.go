// Package prompt parses, lints and renders prompt templates: {{name}} and {{name|default}}, no code. The control plane and
// agentctl lint with it, agentd renders with it. It does no I/O and knows no store.
package prompt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// Template is a parsed template. It is immutable and may be used from many goroutines.
type Template struct{ parts []part }

// part is a literal text, or a variable when name is set.
type part struct {
	text       string
	name       string
	fallback   string
	hasDefault bool
}

// Position is a place in a template: 1-based line and column, the column in bytes.
type Position struct {
	Offset int // 0-based, in bytes
	Line   int
	Column int
}

// SyntaxError is a fault of a template.
type SyntaxError struct {
	Position
	Message string
}

// Error gives position and message.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("template %d:%d: %s", e.Line, e.Column, e.Message)
}

// Parse reads a template. The error is a *SyntaxError for the first fault. A literal "{{" is written `\{{`; "}}" outside of a variable
// is plain text, and so is every single brace.
func Parse(text string) (*Template, error) {
	t := &Template{}
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.parts = append(t.parts, part{text: literal.String()})
			literal.Reset()
		}
	}
	for at := 0; at < len(text); {
		open := strings.Index(text[at:], "{{")
		if open < 0 {
			literal.WriteString(text[at:])
			break
		}
		open += at
		if open > at && text[open-1] == '\\' {
			literal.WriteString(text[at:open-1] + "{{")
			at = open + 2
			continue
		}
		literal.WriteString(text[at:open])
		end := strings.Index(text[open:], "}}")
		if end < 0 || strings.ContainsAny(text[open:open+end], "\r\n") {
			return nil, fault(text, open, `"{{" is not closed by "}}" on its line (for a literal "{{" write "\{{")`)
		}
		p, err := variable(text, open+2, open+end)
		if err != nil {
			return nil, err
		}
		flush()
		t.parts = append(t.parts, p)
		at = open + end + 2
	}
	flush()
	return t, nil
}

func variable(text string, from, to int) (part, error) {
	name, fallback, has := strings.Cut(text[from:to], "|")
	trimmed := strings.Trim(name, " \t")
	if !spec.ValidVariable(trimmed) {
		lead := len(name) - len(strings.TrimLeft(name, " \t"))
		return part{}, fault(text, from+lead, fmt.Sprintf(`%q is no variable name (letters, digits, "_", "-", "."; for a literal "{{" write "\{{")`, short(trimmed)))
	}
	return part{name: trimmed, fallback: strings.Trim(fallback, " \t"), hasDefault: has}, nil
}

func short(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "..."
	}
	return s
}

func fault(text string, offset int, message string) *SyntaxError {
	before := text[:offset]
	line := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{
		Position: Position{Offset: offset, Line: strings.Count(before, "\n") + 1, Column: offset - line + 1},
		Message:  message,
	}
}

// Variables lists the names used, each once, in the order of first use.
func (t *Template) Variables() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" && !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}
