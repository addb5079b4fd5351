package command

import (
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
)

// jsonPath is a template of kubectl's kind, as far as people use it by hand: text, {.a.b}, {.a[0]}, {.a[*].b}, {"\n"}.
type jsonPath []pathPart

// pathPart is text, or steps.
type pathPart struct {
	text  string
	steps []string // ".name", "[0]", "[*]"; nil: text
}

var pathStep = regexp.MustCompile(`^(\.[A-Za-z0-9_$-]+|\[\d+\]|\[\*\]|\['[^']*'\])`)

func parseJSONPath(template string) (jsonPath, error) {
	var out jsonPath
	rest := template
	for rest != "" {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			return append(out, pathPart{text: rest}), nil
		}
		if open > 0 {
			out = append(out, pathPart{text: rest[:open]})
		}
		end := strings.IndexByte(rest[open:], '}')
		if end < 0 {
			return nil, usagef("jsonpath %q: a { without its }", template)
		}
		part, err := parseExpr(rest[open+1 : open+end])
		if err != nil {
			return nil, err
		}
		out, rest = append(out, part), rest[open+end+1:]
	}
	return out, nil
}

func parseExpr(expr string) (pathPart, error) {
	if strings.HasPrefix(expr, `"`) {
		s, err := strconv.Unquote(expr)
		if err != nil {
			return pathPart{}, usagef("jsonpath {%s}: not a quoted text", expr)
		}
		return pathPart{text: s}, nil
	}
	p, rest := pathPart{steps: []string{}}, strings.TrimPrefix(expr, "$")
	if rest == "." {
		return p, nil
	}
	for rest != "" {
		m := pathStep.FindString(rest)
		if m == "" {
			return p, usagef("jsonpath {%s}: can't read %q (.name, [0], [*], ['name'])", expr, rest)
		}
		p.steps, rest = append(p.steps, m), rest[len(m):]
	}
	return p, nil
}

// eval fills the template; several values are separated by blanks, a missing one is empty.
func (p jsonPath) eval(doc any) string {
	var b strings.Builder
	for _, part := range p {
		if part.steps == nil {
			b.WriteString(part.text)
			continue
		}
		values := []any{doc}
		for _, s := range part.steps {
			var next []any
			for _, v := range values {
				next = append(next, step(v, s)...)
			}
			values = next
		}
		words := make([]string, 0, len(values))
		for _, v := range values {
			words = append(words, plain(v))
		}
		b.WriteString(strings.Join(words, " "))
	}
	return b.String()
}

func step(v any, s string) []any {
	if name, ok := strings.CutPrefix(s, "."); ok {
		return member(v, name)
	}
	inner := strings.Trim(s, "[]")
	if strings.HasPrefix(inner, "'") {
		return member(v, strings.Trim(inner, "'"))
	}
	list, ok := v.([]any)
	if !ok {
		if m, isMap := v.(map[string]any); isMap && inner == "*" {
			for _, e := range m {
				list = append(list, e)
			}
		}
		return list
	}
	if inner == "*" {
		return list
	}
	if i, err := strconv.Atoi(inner); err == nil && i < len(list) {
		return []any{list[i]}
	}
	return nil
}

func member(v any, name string) []any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	if e, has := m[name]; has {
		return []any{e}
	}
	return nil
}

func plain(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
