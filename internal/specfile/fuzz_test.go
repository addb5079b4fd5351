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
	f.Add("a/agent-base.yaml", `{promptKey: p, approval: {timeout: 1h, tools: [s, s/t, {tool: s, when: "args.a[0] > 1"}]}, limits: {sameCall: 1}}`)
	f.Add("a/agent-base.json", `{"promptKey": "p", "expose": {"a2a": {"tools": ["reply"], "signingKey": "${credential:k}"}, "auth": {"keys": [{"name": "a", "key": "b"}]}, "rateLimit": {"requestsPerMinute": 1}, "cors": {"origins": ["*"]}}}`)
	f.Add("x.yaml", "kind: Agent\nmetadata: {name: a}\nspec: {promptKey: p, model: {model: m}, mcpServers: [{mcpServerName: s}], approval: {tools: [{tool: s/t, when: 'true'}]}, expose: {a2a: {}, maxBodyBytes: 1024}, memory: {storageType: redis, address: \"redis://h/1\", embeddingModel: e, searchStrategy: vector}}")
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
