package prompt_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/prompt"
	"github.com/agentry/agentry/internal/spec"
)

func TestRender(t *testing.T) {
	text := "默认"
	declared := map[string]spec.PromptVariable{"名字": {Default: &text}, "must": {Required: true}, "n": {Type: "number"}, "b": {Type: "boolean"}}
	cases := map[string]struct {
		template string
		values   map[string]string
		want     string
		fails    string
	}{
		"no variables":       {"你好，{世界} }} {", map[string]string{"must": "x"}, "你好，{世界} }} {", ""},
		"declared default":   {"你好 {{名字}}！", map[string]string{"must": "x"}, "你好 默认！", ""},
		"value wins":         {"{{名字}}", map[string]string{"must": "x", "名字": "王"}, "王", ""},
		"empty is a value":   {"[{{名字}}]", map[string]string{"must": "x", "名字": ""}, "[]", ""},
		"beside the name":    {"{{ 名字 | 这里 }}{{n|}}", map[string]string{"must": "x"}, "这里", ""},
		"nothing is empty":   {"[{{n}}]", map[string]string{"must": "x"}, "[]", ""},
		"literal braces":     {`\{{a}} {{must}}`, map[string]string{"must": "x"}, "{{a}} x", ""},
		"values are no code": {"{{must}}", map[string]string{"must": "{{n}}"}, "{{n}}", ""},
		"extra is ignored":   {"{{must}}", map[string]string{"must": "x", "more": "y"}, "x", ""},
		"required":           {"{{must}}", nil, "", "promptVariables.must: is missing (the prompt requires it)"},
		"types":              {"{{n}}", map[string]string{"must": "x", "n": "one", "b": "yes"}, "", "promptVariables.b: is no boolean (the prompt wants one)\npromptVariables.n: is no number (the prompt wants one)"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := prompt.Parse(c.template)
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Render(c.values, declared)
			if err != nil && err.Error() != c.fails || err == nil && c.fails != "" {
				t.Fatalf("got %v, want %s", err, c.fails)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseFaults(t *testing.T) {
	cases := map[string]struct{ template, want string }{
		"not closed":        {"你好\n世界 {{名字", `template 2:8: "{{" is not closed by "}}" on its line (for a literal "{{" write "\{{")`},
		"over a line's end": {"{{a\n}}", `template 1:1: "{{" is not closed by "}}" on its line (for a literal "{{" write "\{{")`},
		"empty":             {"x{{ }}", `template 1:5: "" is no variable name (letters, digits, "_", "-", "."; for a literal "{{" write "\{{")`},
		"JSON":              {`{{"a": 1}}`, `template 1:3: "\"a\": 1" is no variable name (letters, digits, "_", "-", "."; for a literal "{{" write "\{{")`},
		"code":              {`{{ .Name }}`, `template 1:4: ".Name" is no variable name (letters, digits, "_", "-", "."; for a literal "{{" write "\{{")`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := prompt.Parse(c.template)
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	p, err := prompt.Parse("{{b}}{{a|x}}{{b}}")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b", "a"}, p.Variables()); diff != "" {
		t.Error(diff)
	}
}

func TestLint(t *testing.T) {
	bad := "x"
	var got []string
	for _, f := range prompt.Lint(spec.Prompt{
		Template:  "{{used}} {{tonee}}",
		Variables: map[string]spec.PromptVariable{"used": {}, "tone": {}, "n": {Type: "number", Default: &bad}},
	}) {
		got = append(got, f.String())
	}
	want := []string{
		"variables.n.default: is no number (type is number)",
		"template: {{tonee}} is not declared in variables, did you mean {{tone}}?",
		"variables.n: is not used in the template",
		"variables.tone: is not used in the template",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCheckValues(t *testing.T) {
	p := spec.Prompt{PromptKey: "p", Version: "1.0.0", Variables: map[string]spec.PromptVariable{"tone": {}, "must": {Required: true}}}
	var got []string
	for _, f := range prompt.CheckValues(p, map[string]string{"tnoe": "x"}) {
		got = append(got, f.String())
	}
	want := []string{
		"promptVariables.must: is missing (the prompt requires it)",
		"promptVariables.tnoe: prompt p 1.0.0 has no such variable, did you mean tone?",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
