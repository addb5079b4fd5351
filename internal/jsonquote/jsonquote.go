// Package jsonquote writes JSON strings into a buffer without reflection, for the few places that put JSON together by hand because every
// request passes there.
package jsonquote

import "unicode/utf8"

const hex = "0123456789abcdef"

// Append appends s to b as a JSON string. What isn't UTF-8 becomes U+FFFD; '<', '>' and '&' stay as they are.
func Append(b []byte, s string) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf:
			i++
			continue
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == utf8.RuneError && size == 1:
				b = append(append(b, s[from:i]...), `\ufffd`...)
			case r == '\u2028' || r == '\u2029': // line ends to some readers of event streams and scripts
				b = append(append(b, s[from:i]...), `\u202`...)
				b = append(b, hex[r&0xf])
			default:
				i += size
				continue
			}
			i += size
		default:
			b = escape(append(b, s[from:i]...), c)
			i++
		}
		from = i
	}
	return append(append(b, s[from:]...), '"')
}

func escape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	default:
		return append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
	}
}
