package specfile

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agentry/agentry/internal/spec"
)

func itoa(i int) string { return strconv.Itoa(i) }

// jsonFault says where encoding/json stopped and what it would have taken.
func jsonFault(src *source, err error) []spec.Fault {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return src.syntax(0, "this can't be read as JSON", "")
	}
	msg := syntax.Error()
	if strings.HasPrefix(msg, "unexpected end") {
		return src.syntax(len(src.text), "the file ends here (expected "+unfinished(src.text)+")", "")
	}
	if strings.Contains(msg, "exceeded max depth") {
		return src.syntax(min(int(syntax.Offset), len(src.text)), "is nested too deep (at most "+itoa(spec.MaxDepth)+")", "")
	}
	off := min(max(int(syntax.Offset)-1, 0), len(src.text))
	r, _ := utf8.DecodeRuneInString(src.text[off:])
	expected, hint := expectation(msg, r, src, off)
	return src.syntax(off, found(r)+" can't stand here (expected "+expected+")", hint)
}

// found names a character; letters and digits are not repeated, for they may belong to a secret.
func found(r rune) string {
	switch {
	case r == '\n' || r == '\r':
		return "the end of the line"
	case r == '\t':
		return "a tab"
	case unicode.IsLetter(r) || unicode.IsDigit(r):
		return "this character"
	default:
		return strconv.QuoteRune(r)
	}
}

func expectation(msg string, r rune, src *source, off int) (expected, hint string) {
	closing := r == '}' || r == ']'
	switch {
	case strings.Contains(msg, "looking for beginning of object key string"):
		expected = `a field name in double quotes`
		if closing || previous(src.text, off) == ',' {
			hint = "a comma after the last field is not allowed"
		}
		if !closing {
			hint = quoteHint(r)
		}
	case strings.Contains(msg, "looking for beginning of value"):
		expected = `a value: a text in double quotes, a number, true, false, null, "{" or "["`
		if closing && previous(src.text, off) == ',' {
			hint = "a comma after the last element is not allowed"
		} else {
			hint = quoteHint(r)
		}
	case strings.Contains(msg, "after object key:value pair"):
		expected, hint = `"," or "}"`, missingComma(r, src, off)
	case strings.Contains(msg, "after object key"):
		expected = `":"`
	case strings.Contains(msg, "after array element"):
		expected, hint = `"," or "]"`, missingComma(r, src, off)
	case strings.Contains(msg, "after top-level value"):
		expected = "the end of the file"
	case strings.Contains(msg, "in string escape code"), strings.Contains(msg, `in \u hexadecimal`):
		expected = `one of \" \\ \/ \b \f \n \r \t \u0000`
	case strings.Contains(msg, "in string literal"):
		expected = `'"', for a text ends on its line`
	case strings.Contains(msg, "numeric literal"):
		expected = "a digit"
	default:
		expected = "true, false or null"
	}
	return expected, hint
}

func quoteHint(r rune) string {
	switch r {
	case '\'', '“', '”', '‘', '’', '＂':
		return `texts stand in straight double quotes: "..."`
	default:
		return ""
	}
}

func missingComma(r rune, src *source, off int) string {
	if r != '"' && r != '{' && r != '[' {
		return ""
	}
	end := len(strings.TrimRight(src.text[:off], " \t\r\n"))
	line, _ := src.position(end)
	return "is a comma missing in line " + itoa(line) + "?"
}

// previous gives the last byte before off that is no space.
func previous(s string, off int) byte {
	before := strings.TrimRight(s[:off], " \t\r\n")
	if before == "" {
		return 0
	}
	return before[len(before)-1]
}

// unfinished says what a text that ends too soon still needs.
func unfinished(s string) string {
	if strings.TrimSpace(s) == "" {
		return `"{"`
	}
	var open []byte
	inText := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			open = append(open, c)
		case (c == '}' || c == ']') && len(open) > 0:
			open = open[:len(open)-1]
		}
	}
	switch {
	case inText:
		return `the closing '"' of a text`
	case len(open) > 0 && open[len(open)-1] == '[':
		return `"]"`
	case len(open) > 0:
		return `"}"`
	default:
		return "more"
	}
}
