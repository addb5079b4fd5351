package specfile_test

import (
	"testing"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

func FuzzParse(f *testing.F) {
	for _, file := range published() {
		f.Add(file.Path, string(file.Content))
	}
	for _, s := range []string{"{b: 1 c: 2}", "a: &x [*x]", "- - - -", "? a\n: b", "\"\\ud800\"", "{\"a\":1,}", "\ufeff{}", "a: |2\n  x", "%YAML 1.2\n---\n", "kind: Agent\nspec: 1\nmetadata: []"} {
		f.Add("x.yaml", s)
		f.Add("a/model.json", s)
	}
	f.Add("-", manifest)
	f.Fuzz(func(t *testing.T, path, content string) {
		set, faults := specfile.Parse(files(path, content))
		for i := range faults {
			if faults[i].Message == "" || faults[i].Line < 0 {
				t.Errorf("a fault says nothing: %+v", faults[i])
			}
		}
		for _, a := range set.Agents {
			_ = specfile.Literals(&a.Spec)
			_ = a.Spec.References()
		}
		_ = specfile.Warnings(set)
		if len(faults) > 0 {
			return
		}
		for _, a := range set.Agents {
			b, err := spec.Canonical(a.Spec)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := spec.DecodeAgent(b); err != nil {
				t.Errorf("what was read can't be decoded: %v", err)
			}
		}
		text, err := specfile.Manifest(set)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) == 0 || len(text) > spec.MaxFileBytes {
			return
		}
		if _, faults := specfile.Parse(files("out.yaml", string(text))); len(faults) > 0 {
			t.Errorf("the export is refused: %v\n%s", faults, text)
		}
	})
}
