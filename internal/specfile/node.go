package specfile

import (
	"encoding/json"
	"sort"

	"github.com/agentry/agentry/internal/spec"
)

type kind int

const (
	text kind = iota
	number
	boolean
	null
	object
	list
)

// node is one value of a parsed file with its origin. Import readings move nodes about; the origin stays.
type node struct {
	kind    kind
	text    string // of a text, number (as JSON) or boolean
	members []member
	items   []*node
	src     *source
	off     int    // byte offset in src
	path    string // JSON path within the file
}

type member struct {
	name  string
	off   int
	value *node
}

// source is one file without its BOM and, for JSON, with comments blanked.
type source struct {
	path  string
	text  string
	lines []int // offset of each line's start
	yaml  bool
}

func newSource(path, text string) *source {
	s := &source{path: path, text: text, lines: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// position gives the 1-based line and column (in bytes) of an offset.
func (s *source) position(off int) (line, column int) {
	off = max(0, min(off, len(s.text)))
	line = sort.Search(len(s.lines), func(i int) bool { return s.lines[i] > off })
	return line, off - s.lines[line-1] + 1
}

func (s *source) line(n int) string {
	from, to := s.lines[n-1], len(s.text)
	if n < len(s.lines) {
		to = s.lines[n] - 1
	}
	for to > from && s.text[to-1] == '\r' {
		to--
	}
	return s.text[from:to]
}

func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for i := range n.members {
		if n.members[i].name == name {
			return n.members[i].value
		}
	}
	return nil
}

// set replaces or appends a member; the origin of an appended one's name is the value's.
func (n *node) set(name string, v *node) {
	for i := range n.members {
		if n.members[i].name == name {
			n.members[i].value = v
			return
		}
	}
	n.members = append(n.members, member{name: name, off: v.off, value: v})
}

// take removes a member and answers it.
func (n *node) take(name string) (member, bool) {
	for i, m := range n.members {
		if m.name == name {
			n.members = append(n.members[:i:i], n.members[i+1:]...)
			return m, true
		}
	}
	return member{}, false
}

// derived makes a node that stands where n does.
func (n *node) derived(k kind, s string) *node {
	return &node{kind: k, text: s, src: n.src, off: n.off, path: n.path}
}

// implied makes the text of a field that the file leaves to its path.
func (n *node) implied(field, s string) *node {
	v := n.derived(text, s)
	v.path = spec.Child(n.path, field)
	return v
}

// doc gives n as encoding/json with UseNumber would.
func (n *node) doc() any {
	switch n.kind {
	case text:
		return n.text
	case number:
		return json.Number(n.text)
	case boolean:
		return n.text == "true"
	case object:
		m := make(map[string]any, len(n.members))
		for _, e := range n.members {
			m[e.name] = e.value.doc()
		}
		return m
	case list:
		l := make([]any, len(n.items))
		for i := range n.items {
			l[i] = n.items[i].doc()
		}
		return l
	default:
		return nil
	}
}

func (n *node) document() map[string]any {
	m, _ := n.doc().(map[string]any)
	return m
}

func (n *node) place() Place {
	line, column := n.src.position(n.off)
	return Place{File: n.src.path, Line: line, Column: column, Path: n.path}
}

func (n *node) fault(message string) spec.Fault {
	p := n.place()
	return spec.Fault{File: p.File, Line: p.Line, Column: p.Column, Path: p.Path, Message: message}
}

// locate walks path as far as the tree goes. A missing part is placed at what is around it.
func locate(root *node, path string, atKey bool) Place {
	if root == nil {
		return Place{Path: path}
	}
	n, src, off := root, root.src, root.off
	at := root.path
	steps := spec.SplitPath(path)
	for i, s := range steps {
		var next *node
		keyOff := 0
		if s.IsIndex {
			if n.kind == list && s.Index < len(n.items) && s.Index >= 0 {
				next = n.items[s.Index]
				keyOff = next.off
			}
		} else {
			for _, m := range n.members {
				if m.name == s.Name {
					next, keyOff = m.value, m.off
				}
			}
		}
		if next == nil {
			return missing(n, at, steps[i:])
		}
		n, src, off, at = next, next.src, next.off, next.path
		if atKey && i == len(steps)-1 {
			off = keyOff
		}
	}
	line, column := src.position(off)
	return Place{File: src.path, Line: line, Column: column, Path: at}
}

func missing(around *node, at string, steps []spec.Step) Place {
	for _, s := range steps {
		if s.IsIndex {
			at = spec.Index(at, s.Index)
		} else {
			at = spec.Child(at, s.Name)
		}
	}
	p := around.place()
	p.Path = at
	return p
}
