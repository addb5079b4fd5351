package view

import (
	"bytes"
	"encoding/hex"
	"strconv"

	"github.com/agentry/agentry/internal/manifest"
)

// scanApplied reads an applied config as Encode writes it: there are more of these records than of all others, and
// encoding/json would take most of a start. Whatever looks different in any way, such as a newer replica's record, is not ok
// and left to Decode.
func scanApplied(b []byte) (a Applied, ok bool) {
	s := scanner{rest: b, ok: true}
	s.literal(`{"revision":`)
	a.Revision = s.number()
	s.literal(`,"config":`)
	a.Config = s.text()
	s.literal(`,"lines":[`)
	for s.ok && !s.skip(`]`) {
		if len(a.Lines) > 0 {
			s.literal(`,`)
		}
		a.Lines = append(a.Lines, s.line())
	}
	s.literal(`,"instance":`)
	a.Instance = s.text()
	s.literal(`,"time":`)
	text := s.text()
	s.literal(`}`)
	if !s.ok || len(s.rest) > 0 || len(a.Lines) == 0 {
		return Applied{}, false
	}
	return a, a.Time.UnmarshalText([]byte(text)) == nil
}

// scanner reads JSON of a known shape without spaces or escapes; the first surprise ends it.
type scanner struct {
	rest []byte
	ok   bool
}

func (s *scanner) line() (l manifest.Line) {
	s.literal(`{"kind":`)
	l.Kind = s.text()
	s.literal(`,"name":`)
	l.Name = s.text()
	s.literal(`,"version":`)
	l.Version = s.text()
	s.literal(`,"sha256":"`)
	const digits = 2 * len(l.SHA256)
	if len(s.rest) < digits {
		s.ok = false
		return l
	}
	if _, err := hex.Decode(l.SHA256[:], s.rest[:digits]); err != nil {
		s.ok = false
	}
	s.rest = s.rest[digits:]
	s.literal(`"}`)
	return l
}

// skip takes a literal if it comes next.
func (s *scanner) skip(literal string) bool {
	rest, there := bytes.CutPrefix(s.rest, []byte(literal))
	if s.ok && there {
		s.rest = rest
		return true
	}
	return false
}

func (s *scanner) literal(l string) { s.ok = s.skip(l) }

func (s *scanner) number() int64 {
	end := bytes.IndexByte(s.rest, ',')
	if !s.ok || end < 0 {
		s.ok = false
		return 0
	}
	n, err := strconv.ParseInt(string(s.rest[:end]), 10, 64)
	s.ok = err == nil && strconv.FormatInt(n, 10) == string(s.rest[:end])
	s.rest = s.rest[end:]
	return n
}

// text takes a string of plain ASCII.
func (s *scanner) text() string {
	s.literal(`"`)
	if !s.ok {
		return ""
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			t := string(s.rest[:i])
			s.rest = s.rest[i+1:]
			return t
		case c < ' ' || c == '\\' || c > '~':
			s.ok = false
			return ""
		}
	}
	s.ok = false
	return ""
}
