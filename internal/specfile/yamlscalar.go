package specfile

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/token"
)

var (
	yamlInt   = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)
	yamlZero  = regexp.MustCompile(`^[-+]?0[0-9_]+$`)
	yamlBased = regexp.MustCompile(`^[-+]?0[xob][0-9a-fA-F_]+$`)
	yamlFloat = regexp.MustCompile(`^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`)
	yamlOdd   = regexp.MustCompile(`^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)
	jsonFloat = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// scalar reads a token by YAML's core schema, not by the library's looser one: 1e3 is a number, 012 a fault, and a plain text
// never holds ": ".
func (b *yamlBuilder) scalar(out *node, t *token.Token) {
	out.kind, out.text = text, t.Value
	switch t.Type {
	case token.SingleQuoteType, token.DoubleQuoteType, token.LiteralType, token.FoldedType:
		return
	case token.ImplicitNullType:
		out.kind = null
		return
	default: // a plain scalar
	}
	switch s := t.Value; {
	case s == "" || s == "~" || s == "null" || s == "Null" || s == "NULL":
		out.kind = null
	case s == "true" || s == "True" || s == "TRUE":
		out.kind, out.text = boolean, "true"
	case s == "false" || s == "False" || s == "FALSE":
		out.kind, out.text = boolean, "false"
	case yamlInt.MatchString(s):
		out.kind, out.text = number, strings.TrimPrefix(s, "+")
	case yamlZero.MatchString(s), yamlBased.MatchString(s):
		b.faults = append(b.faults, b.src.syntax(out.off, "this number is read in different ways by different readers (expected a decimal without leading zeros)", "put it in quotes if it is meant as a text")...)
	case yamlFloat.MatchString(s):
		out.kind, out.text = number, jsonNumber(s)
	case yamlOdd.MatchString(s):
		b.faults = append(b.faults, b.src.syntax(out.off, "infinity and not-a-number are not allowed", "")...)
	case strings.Contains(s, ": ") || strings.HasSuffix(s, ":") && s != ":":
		b.faults = append(b.faults, b.src.syntax(out.off, `a text without quotes can't hold ": " (expected ",", "}" or a new line)`, "put the text in quotes, or add what is missing")...)
	}
}

// jsonNumber writes a YAML float as JSON does; one that is beyond every float keeps its text and is refused later.
func jsonNumber(s string) string {
	s = strings.TrimPrefix(s, "+")
	if jsonFloat.MatchString(s) {
		return s
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(v, 0) {
		return "1e999"
	}
	out := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(out, ".e") {
		out += ".0"
	}
	return out
}
