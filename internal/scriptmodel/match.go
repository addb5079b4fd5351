package scriptmodel

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml"
)

// Match is a condition on a text. Written in YAML as a text that must occur, as /regular expression/, as true or
// false (there is any, or none), or as a mapping of contains, equals, regexp. What is set must all hold.
type Match struct {
	Contains string
	Equals   string
	Regexp   *regexp.Regexp
	Present  *bool
}

// Contains matches a text in which s occurs.
func Contains(s string) *Match { return &Match{Contains: s} }

// UnmarshalYAML reads the forms that Match's comment names.
func (m *Match) UnmarshalYAML(data []byte) error {
	var b bool
	if err := yaml.Unmarshal(data, &b); err == nil {
		m.Present = &b
		return nil
	}
	var s string
	if err := yaml.Unmarshal(data, &s); err == nil {
		if len(s) > 2 && strings.HasPrefix(s, "/") && strings.HasSuffix(s, "/") {
			return m.compile(s[1 : len(s)-1])
		}
		m.Contains = s
		return nil
	}
	var full struct {
		Contains string `yaml:"contains"`
		Equals   string `yaml:"equals"`
		Regexp   string `yaml:"regexp"`
	}
	if err := yaml.UnmarshalWithOptions(data, &full, yaml.DisallowUnknownField()); err != nil {
		return fmt.Errorf("a condition is a text, /regexp/, true, false, or a mapping of contains, equals, regexp: %w", err)
	}
	m.Contains, m.Equals = full.Contains, full.Equals
	if full.Regexp == "" {
		return nil
	}
	return m.compile(full.Regexp)
}

func (m *Match) compile(expr string) error {
	re, err := regexp.Compile(expr)
	m.Regexp = re
	return err
}

// holds tells whether text satisfies m, with the groups of its expression.
func (m *Match) holds(text string) (groups []string, ok bool) {
	switch {
	case m == nil:
		return nil, true
	case m.Present != nil && *m.Present != (text != ""):
		return nil, false
	case !strings.Contains(text, m.Contains):
		return nil, false
	case m.Equals != "" && m.Equals != text:
		return nil, false
	case m.Regexp == nil:
		return nil, true
	}
	groups = m.Regexp.FindStringSubmatch(text)
	return groups, groups != nil
}

// matches tells whether the rule is for this request, and gives the groups its texts may use.
func (r Rule) matches(q *chatRequest) (groups []string, ok bool) {
	w := r.When
	if q.toolResult != "" && w.ToolResult == nil && r.Reply != nil && len(r.Reply.ToolCalls) > 0 {
		return nil, false
	}
	if (w.Turn != 0 && w.Turn != q.turn) || (w.Round != 0 && w.Round != q.round) || (w.Stream != nil && *w.Stream != q.Stream) {
		return nil, false
	}
	for _, c := range []struct {
		m    *Match
		text string
	}{{w.User, q.user}, {w.ToolResult, q.toolResult}, {w.System, q.system}, {w.Model, q.Model}, {w.Format, q.format()}, {w.Image, strings.Join(q.images, "\n")}} {
		g, ok := c.m.holds(c.text)
		if !ok {
			return nil, false
		}
		if len(groups) < 2 && len(g) > 1 {
			groups = g
		}
	}
	for key, m := range w.Metadata {
		if _, ok := m.holds(q.Metadata[key]); !ok {
			return nil, false
		}
	}
	for _, t := range w.Tools {
		name, not := strings.CutPrefix(t, "!")
		if _, found := q.offered(name); found == not {
			return nil, false
		}
	}
	return groups, true
}

// offered finds the tool that pattern means among those of the request: the same name, else the first that the
// glob fits, else the first that ends in it.
func (q *chatRequest) offered(pattern string) (name string, ok bool) {
	fits := []func(string) bool{
		func(n string) bool { return n == pattern },
		func(n string) bool { hit, err := path.Match(pattern, n); return err == nil && hit },
		func(n string) bool { return strings.HasSuffix(n, pattern) },
	}
	for _, fit := range fits {
		for _, t := range q.Tools {
			if fit(t.Function.Name) {
				return t.Function.Name, true
			}
		}
	}
	return "", false
}
