package spec

import (
	"fmt"
	"strings"
)

// Fault is one thing wrong in one file or document. It never holds the value of a secret.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line"`   // 1-based; 0: unknown
	Column  int    `json:"column"` // 1-based, in bytes; 0: unknown
	Path    string `json:"path"`   // JSON path, such as "mcpServers[0].headers.key"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Snippet string `json:"snippet,omitempty"` // of a parse fault: the line, and a caret below
	// AtKey is true when the field's name is at fault, not its value; it decides where a position points.
	AtKey bool `json:"-"`
}

// String gives the fault on one line: file:line:column: path: message, hint.
func (f Fault) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
			if f.Column > 0 {
				fmt.Fprintf(&b, ":%d", f.Column)
			}
		}
		b.WriteString(": ")
	}
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString(", " + f.Hint)
	}
	return b.String()
}

// FaultsError is every fault of one document as an error.
type FaultsError []Fault

// Error gives one fault a line.
func (f FaultsError) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].String()
	}
	return strings.Join(lines, "\n")
}

// Err gives f as an error, nil when there is none.
func (f FaultsError) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}
