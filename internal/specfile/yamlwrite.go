package specfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// plainText is what may stand without quotes: it is read as a text by every YAML reader.
var plainText = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*$`)

// writeYAML writes v, through its JSON, as block YAML. Fields keep the order of the JSON; map names are sorted.
func writeYAML(b *bytes.Buffer, v any) error {
	raw, err := pretty(v)
	if err != nil {
		return err
	}
	n, faults := parseJSON(newSource("", string(raw)))
	if len(faults) > 0 {
		return fmt.Errorf("encode: %s", faults[0])
	}
	writeObject(b, n, "")
	return nil
}

func writeObject(b *bytes.Buffer, n *node, indent string) {
	for _, m := range n.members {
		b.WriteString(indent + scalarText(m.name) + ":")
		writeValue(b, m.value, indent)
	}
}

// writeValue writes what follows "key:" or "-", with the line's end.
func writeValue(b *bytes.Buffer, n *node, indent string) {
	switch {
	case n.kind == object && len(n.members) > 0:
		b.WriteByte('\n')
		writeObject(b, n, indent+"  ")
	case n.kind == object:
		b.WriteString(" {}\n")
	case n.kind == list && len(n.items) > 0:
		b.WriteByte('\n')
		for _, item := range n.items {
			b.WriteString(indent + "  -")
			writeValue(b, item, indent+"  ")
		}
	case n.kind == list:
		b.WriteString(" []\n")
	case n.kind == text && blockText(n.text):
		writeBlock(b, n.text, indent+"  ")
	case n.kind == text:
		b.WriteString(" " + scalarText(n.text) + "\n")
	case n.kind == null:
		b.WriteString(" null\n")
	default:
		b.WriteString(" " + n.text + "\n")
	}
}

// blockText reports whether a text of several lines survives as a literal block.
func blockText(s string) bool {
	if !strings.Contains(strings.TrimSuffix(s, "\n"), "\n") || strings.HasSuffix(s, "\n\n") || strings.HasPrefix(s, "\n") {
		return false
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		if strings.TrimRight(line, " \t") != line || strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") || line == "" ||
			strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...") || strings.HasPrefix(line, "%") || strings.HasPrefix(line, "#") {
			return false
		}
	}
	for _, r := range s {
		if r != '\n' && (!unicode.IsPrint(r) || r == '\u2028' || r == '\u2029') {
			return false
		}
	}
	return true
}

func writeBlock(b *bytes.Buffer, s, indent string) {
	if strings.HasSuffix(s, "\n") {
		b.WriteString(" |\n")
	} else {
		b.WriteString(" |-\n")
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(s, "\n"), "\n") {
		b.WriteString(indent + line + "\n")
	}
}

// scalarText writes a text plainly where that can't be misread, else in double quotes with JSON's escapes, which YAML shares.
func scalarText(s string) string {
	if plainText.MatchString(s) && !strings.HasSuffix(s, ".") {
		switch strings.ToLower(s) {
		case "null", "true", "false", "yes", "no", "on", "off", "y", "n":
		default:
			return s
		}
	}
	raw, _ := json.Marshal(s) // a string can't fail; <, >, & and line separators come as \u escapes
	var b strings.Builder
	for _, r := range string(raw) {
		if r >= 0x7f && r < 0xa0 || r == '\u0085' || r == '\ufeff' {
			fmt.Fprintf(&b, `\u%04x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
