package specfile

import (
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/agentry/agentry/internal/spec"
)

// parseYAML reads every document of a YAML text; empty ones are left out. Of YAML it takes what JSON can say: no anchors,
// aliases, tags, directives, merge keys or composed keys.
func parseYAML(src *source) (docs []*node, faults []spec.Fault) {
	// The library is not ours; whatever it trips over is the text's fault, not a reason to fall.
	defer func() {
		if recover() != nil {
			docs, faults = nil, src.syntax(0, "this can't be read as YAML", "")
		}
	}()
	tokens := lexer.Tokenize(src.text)
	if f := vetTokens(src, tokens); f != nil {
		return nil, f
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, yamlFault(src, err)
	}
	b := &yamlBuilder{src: src}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		if n := b.value(d.Body, "", 1); n != nil {
			docs = append(docs, n)
		}
	}
	return docs, b.faults
}

func yamlFault(src *source, err error) []spec.Fault {
	var e yaml.Error
	if !errors.As(err, &e) || e.GetToken() == nil {
		return src.syntax(0, "this can't be read as YAML", "")
	}
	message, hint := e.GetMessage(), ""
	if strings.Contains(message, "mapping value is not allowed") {
		hint = `put a text that holds ": " in quotes, and check the indentation`
	}
	return src.syntax(src.tokenOffset(e.GetToken()), message, hint)
}

// tokenOffset gives the byte at which a token begins. The lexer counts columns in runes.
func (s *source) tokenOffset(t *token.Token) int {
	if t == nil || t.Position == nil || t.Position.Line < 1 {
		return 0
	}
	if t.Position.Line > len(s.lines) {
		return len(s.text)
	}
	off := s.lines[t.Position.Line-1]
	for i := 1; i < t.Position.Column && off < len(s.text) && s.text[off] != '\n'; i++ {
		off++
		for off < len(s.text) && s.text[off]&0xc0 == 0x80 {
			off++
		}
	}
	return off
}

// vetTokens refuses what would be costly or ambiguous before anything is parsed.
func vetTokens(src *source, tokens token.Tokens) []spec.Fault {
	var indents []int
	flow := 0
	for _, t := range tokens {
		refused := ""
		switch t.Type {
		case token.AnchorType, token.AliasType:
			refused = "anchors and aliases are not supported"
		case token.TagType:
			refused = "tags are not supported"
		case token.MergeKeyType:
			refused = "merge keys are not supported"
		case token.DirectiveType:
			refused = "directives are not supported"
		case token.MappingKeyType:
			refused = "composed keys are not supported"
		case token.MappingStartType, token.SequenceStartType:
			flow++
		case token.MappingEndType, token.SequenceEndType:
			flow--
		case token.SequenceEntryType, token.MappingValueType:
			indents = deepen(indents, t)
		default: // scalars, commas, document marks
		}
		if refused != "" {
			return src.syntax(src.tokenOffset(t), refused, "put the text in quotes if it is meant as a text")
		}
		if flow+len(indents) > spec.MaxDepth {
			return src.syntax(src.tokenOffset(t), "is nested too deep (at most 32)", "")
		}
	}
	return nil
}

// deepen keeps the columns of the open block collections.
func deepen(indents []int, t *token.Token) []int {
	column := t.Position.Column
	if t.Type == token.MappingValueType && t.Prev != nil && t.Prev.Position != nil {
		column = t.Prev.Position.Column
	}
	for len(indents) > 0 && indents[len(indents)-1] > column {
		indents = indents[:len(indents)-1]
	}
	if len(indents) == 0 || indents[len(indents)-1] < column {
		indents = append(indents, column)
	}
	return indents
}

type yamlBuilder struct {
	src    *source
	faults []spec.Fault
}

func (b *yamlBuilder) value(n ast.Node, path string, depth int) *node {
	out := &node{src: b.src, path: path}
	if n == nil {
		out.kind = null
		return out
	}
	out.off = b.src.tokenOffset(firstToken(n))
	if depth > spec.MaxDepth {
		b.faults = append(b.faults, out.fault("is nested too deep (at most 32)"))
		return nil
	}
	switch x := n.(type) {
	case *ast.MappingNode:
		out.kind = object
		b.mapping(out, x, depth)
	case *ast.SequenceNode:
		out.kind = list
		for _, v := range x.Values {
			if item := b.value(v, spec.Index(path, len(out.items)), depth+1); item != nil {
				out.items = append(out.items, item)
			}
		}
	case *ast.LiteralNode:
		out.kind, out.text = text, x.Value.Value
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode, *ast.InfinityNode, *ast.NanNode:
		b.scalar(out, n.GetToken())
	default:
		b.faults = append(b.faults, b.src.syntax(out.off, "this part of YAML is not supported", "")...)
		return nil
	}
	return out
}

func firstToken(n ast.Node) *token.Token {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return m.Values[0].Key.GetToken()
	}
	return n.GetToken()
}

func (b *yamlBuilder) mapping(out *node, m *ast.MappingNode, depth int) {
	seen := map[string]int{}
	for _, e := range m.Values {
		t := e.Key.GetToken()
		off := b.src.tokenOffset(t)
		if _, ok := e.Key.(ast.ScalarNode); !ok {
			b.faults = append(b.faults, b.src.syntax(off, "this can't be a key (expected a name)", "")...)
			continue
		}
		v := b.value(e.Value, spec.Child(out.path, t.Value), depth+1)
		if v == nil {
			continue
		}
		if e.Value == nil {
			v.off = off
		}
		if first, twice := seen[t.Value]; twice {
			b.faults = append(b.faults, duplicate(b.src, v.path, off, first))
			continue
		}
		seen[t.Value] = off
		out.members = append(out.members, member{name: t.Value, off: off, value: v})
	}
}
