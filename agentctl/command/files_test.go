package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/specfile"
)

// fleet makes n agents with one literal secret each, and shared things beside them.
func fleet(n int) fileSet {
	var s fileSet
	add := func(path, content string) {
		s.files = append(s.files, specfile.File{Path: path, Content: []byte(content)})
	}
	for i := range n {
		add(fmt.Sprintf("all/a%d/agent-base.json", i), `{"promptKey": "p"}`)
		add(fmt.Sprintf("all/a%d/model.json", i), `{"model": "m", "baseUrl": "http://127.0.0.1:1/v1", "apiKey": "sk-abcdefghijklmnop"}`)
	}
	add("all/prompts/p.json", `{"promptKey": "p", "version": "1.0.0", "template": "x"}`)
	add("all/mcp/m.json", `{"name": "m", "version": "1.0.0", "endpoint": "http://127.0.0.1:1/mcp"}`)
	add("all/more.yaml", "kind: Prompt\nmetadata: {name: q}\nspec: {version: 1.0.0, template: x}\n---\nkind: Prompt\nmetadata: {name: r}\nspec: {version: 1.0.0, template: x}\n")
	return s
}

func TestParts(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		agents int
		want   []int // heads of each part
	}{
		"a small set stays whole": {3, []int{10}},
		"just enough":             {48, []int{100}},
		"one too many":            {49, []int{100, 2}},
		"three parts":             {130, []int{100, 100, 64}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fleet(tc.agents)
			parsed, faults := specfile.Parse(s.files)
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			parts := s.parts(parsed)
			var heads []int
			seen := map[string]bool{}
			for _, p := range parts {
				again, _ := specfile.Parse(p)
				heads = append(heads, 2*len(again.Agents)+len(again.Prompts)+len(again.MCPServers))
				for _, f := range p {
					seen[f.Path] = true
				}
			}
			if fmt.Sprint(heads) != fmt.Sprint(tc.want) {
				t.Errorf("heads %v, want %v", heads, tc.want)
			}
			if len(seen) != len(s.files) {
				t.Errorf("%d of %d files", len(seen), len(s.files))
			}
			if len(parts) > 1 && strings.Contains(parts[0][0].Path, "/a") {
				t.Errorf("shared things must come first, not %s", parts[0][0].Path)
			}
		})
	}
}

func TestShownPath(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ typed, file, want string }{
		"folder":            {"examples/helper", "helper/model.json", "examples/helper/model.json"},
		"with a slash":      {"examples/", "examples/helper/model.json", "examples/helper/model.json"},
		"here":              {".", "work/helper/model.json", "helper/model.json"},
		"one file":          {"a/prompts/p.json", "prompts/p.json", "a/prompts/p.json"},
		"one file up there": {"../m.yaml", "x/m.yaml", "../m.yaml"},
		"standard input":    {"-", "-", "-"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := shownPath(tc.typed, tc.file); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
