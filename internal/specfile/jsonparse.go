package specfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/agentry/agentry/internal/spec"
)

// parseJSON reads one JSON document with comments.
func parseJSON(src *source) (*node, []spec.Fault) {
	blanked, open := blankComments(src.text)
	if open >= 0 {
		return nil, src.syntax(open, "this comment is not closed (expected */)", "")
	}
	src.text = blanked
	var raw json.RawMessage
	if err := json.Unmarshal([]byte(blanked), &raw); err != nil {
		return nil, jsonFault(src, err)
	}
	b := &jsonBuilder{src: src, dec: jsontext.NewDecoder(bytes.NewReader([]byte(blanked)), jsontext.AllowDuplicateNames(true))}
	n, err := b.value("", 1)
	if err != nil {
		return nil, b.fault(err)
	}
	return n, b.faults
}

type jsonBuilder struct {
	src    *source
	dec    *jsontext.Decoder
	faults []spec.Fault
}

var errDeep = errors.New("nested deeper than allowed")

// next gives the offset at which the next token begins.
func (b *jsonBuilder) next() int {
	off := int(b.dec.InputOffset())
	for off < len(b.src.text) && bytes.IndexByte([]byte(" \t\r\n,:"), b.src.text[off]) >= 0 {
		off++
	}
	return off
}

func (b *jsonBuilder) value(path string, depth int) (*node, error) {
	n := &node{src: b.src, off: b.next(), path: path}
	if depth > spec.MaxDepth {
		b.faults = append(b.faults, n.fault("is nested too deep (at most 32)"))
		return nil, errDeep
	}
	t, err := b.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch t.Kind() {
	case '"':
		n.kind, n.text = text, t.String()
	case '0':
		n.kind, n.text = number, t.String()
	case 't', 'f':
		n.kind, n.text = boolean, t.String()
	case '{':
		n.kind = object
		return n, b.object(n, depth)
	case '[':
		n.kind = list
		return n, b.list(n, depth)
	default:
		n.kind = null
	}
	return n, nil
}

func (b *jsonBuilder) object(n *node, depth int) error {
	seen := map[string]int{}
	for b.dec.PeekKind() != '}' {
		off := b.next()
		t, err := b.dec.ReadToken()
		if err != nil {
			return err
		}
		name := t.String()
		v, err := b.value(spec.Child(n.path, name), depth+1)
		if err != nil {
			return err
		}
		if first, twice := seen[name]; twice {
			b.faults = append(b.faults, duplicate(b.src, v.path, off, first))
			continue
		}
		seen[name] = off
		n.members = append(n.members, member{name: name, off: off, value: v})
	}
	_, err := b.dec.ReadToken()
	return err
}

func (b *jsonBuilder) list(n *node, depth int) error {
	for b.dec.PeekKind() != ']' {
		v, err := b.value(spec.Index(n.path, len(n.items)), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, v)
	}
	_, err := b.dec.ReadToken()
	return err
}

func (b *jsonBuilder) fault(err error) []spec.Fault {
	if errors.Is(err, errDeep) {
		return b.faults
	}
	off := len(b.src.text)
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) && !errors.Is(err, io.ErrUnexpectedEOF) {
		off = int(syntax.ByteOffset)
	}
	return append(b.faults, b.src.syntax(off, "this is not allowed in JSON", "")...)
}

// blankComments replaces // and /* */ comments outside of strings by spaces of equal length, so that positions stay. open is
// the offset of a comment that isn't closed, else -1.
func blankComments(s string) (blanked string, open int) {
	out := []byte(s)
	for i := 0; i < len(s); {
		end := i + 1
		switch {
		case s[i] == '"':
			end = textEnd(s, i)
		case strings.HasPrefix(s[i:], "//"):
			end = i + strings.IndexByte(s[i:]+"\n", '\n')
			blank(out[i:end])
		case strings.HasPrefix(s[i:], "/*"):
			length := strings.Index(s[i+2:], "*/")
			if length < 0 {
				return s, i
			}
			end = i + length + 4
			blank(out[i:end])
		}
		i = end
	}
	return string(out), -1
}

// textEnd gives the offset after the text that begins at i; one that isn't closed ends with its line.
func textEnd(s string, i int) int {
	for i++; i < len(s) && s[i] != '"' && s[i] != '\n'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(s))
}

func blank(b []byte) {
	for i := range b {
		if b[i] != '\n' && b[i] != '\r' {
			b[i] = ' '
		}
	}
}

func duplicate(src *source, path string, off, first int) spec.Fault {
	line, column := src.position(off)
	before, _ := src.position(first)
	return spec.Fault{
		File: src.path, Line: line, Column: column, Path: path,
		Message: "stands twice in this object (first in line " + itoa(before) + ")",
	}
}

// invalidUTF8 gives the offset of the first byte that is no UTF-8, else -1.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size <= 1 {
				return i
			}
		}
	}
	return -1
}
