package specfile

import (
	"regexp"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

var (
	secretWord   = regexp.MustCompile(`(?i)(^|[^a-z])key["']?\s*:|api_?key|credential|passw|token["']?\s*:|secret|authorization|headers|queryParams|bearer|\bvalue["']?\s*:`)
	valueSection = regexp.MustCompile(`(?i)(headers|query_?params|credential)`)
	keyOnLine    = regexp.MustCompile(`([A-Za-z$]+)["']?\s*:`)
	separator    = regexp.MustCompile(`[?&=;@]`)
	word         = regexp.MustCompile(`[^\s"':,{}\[\]]+`)
)

// snippetWidth bounds the shown part of a line, in runes on each side of the fault.
const snippetWidth = 60

// syntax makes the fault of a text that can't be parsed, with the line and a caret.
func (s *source) syntax(off int, message, hint string) []spec.Fault {
	line, column := s.position(off)
	return []spec.Fault{{
		File: s.path, Line: line, Column: column, Message: message, Hint: hint, Snippet: s.snippet(line, column),
	}}
}

// snippet shows a line and a caret below column. On a line that may hold a secret every word that is no field name of a
// spec is shown as stars.
func (s *source) snippet(line, column int) string {
	full := s.line(line)
	at := min(column-1, len(full))
	shownText := full
	if known := fieldNames(); !s.harmless(line, known) {
		shownText = word.ReplaceAllStringFunc(full, func(w string) string {
			if slices.Contains(known, w) {
				return w
			}
			return strings.Repeat("*", len([]rune(w)))
		})
	}
	caret := len([]rune(full[:at]))
	runes := []rune(strings.ToValidUTF8(shownText, "?"))
	for i, r := range runes {
		if r < ' ' || r == 0x7f {
			runes[i] = ' '
		}
	}
	caret = min(caret, len(runes))
	from, to := max(0, caret-snippetWidth), min(len(runes), caret+snippetWidth)
	lead := ""
	if from > 0 {
		lead = "..."
	}
	width := len(lead)
	for _, r := range runes[from:caret] {
		width++
		if wide(r) {
			width++
		}
	}
	return lead + string(runes[from:to]) + "\n" + strings.Repeat(" ", width) + "^"
}

// wide reports whether terminals give a character two columns.
func wide(r rune) bool {
	return r >= 0x1100 && r <= 0x115f || r >= 0x2e80 && r <= 0xa4cf || r >= 0xac00 && r <= 0xd7a3 ||
		r >= 0xf900 && r <= 0xfaff || r >= 0xfe30 && r <= 0xfe6f || r >= 0xff00 && r <= 0xff60 || r >= 0x1f300 && r <= 0x1faff
}

// harmless reports whether a line surely holds no secret: it names a known field, nothing on it looks like a secret's
// place, and it doesn't stand inside headers, query parameters or a credential.
func (s *source) harmless(line int, known []string) bool {
	full := s.line(line)
	if strings.TrimSpace(full) == "" {
		return true
	}
	if secretWord.MatchString(full) || slices.ContainsFunc(word.FindAllString(full, -1), spec.LooksSecret) {
		return false
	}
	keys := keyOnLine.FindAllStringSubmatch(full, -1)
	if len(keys) == 0 && strings.Trim(full, " \t{}[],\"'") != "" {
		return false
	}
	for _, k := range keys {
		if !slices.Contains(known, k[1]) {
			return false
		}
	}
	return !s.insideValues(line)
}

// insideValues looks back for an opened headers, queryParams or credential that nothing seems to have closed. It rather
// errs towards yes: a line too many is masked.
func (s *source) insideValues(line int) bool {
	indent := indentOf(s.line(line))
	flow := !s.yaml
	for n := line - 1; n >= max(1, line-200); n-- {
		l := s.line(n)
		if strings.TrimSpace(l) == "" {
			continue
		}
		closed := strings.HasSuffix(strings.TrimRight(l, " \t\r,"), "}")
		flow = flow || strings.ContainsAny(l, "{}")
		if valueSection.MatchString(l) {
			return flow && !closed || !flow && indentOf(l) < indent
		}
		if flow && closed {
			return false
		}
		if !flow {
			indent = min(indent, indentOf(l)) // what is indented less has ended the sections below it
		}
	}
	return false
}

func indentOf(l string) int { return len(l) - len(strings.TrimLeft(l, " ")) }

// fieldNames lists every field name of every table, save those whose value is secret.
func fieldNames() []string {
	seen := []string{"kind", "metadata", "namespace", "spec", "Agent", "Prompt", "McpServer", "Credential"}
	var walk func(fields []spec.Field)
	walk = func(fields []spec.Field) {
		for _, f := range fields {
			if f.Name != "" && f.Name != "value" {
				seen = append(seen, f.Name)
			}
			walk(f.Fields)
			if f.Item != nil {
				walk(f.Item.Fields)
			}
		}
	}
	for _, k := range spec.Kinds() {
		walk(spec.Fields(k))
	}
	return seen
}
