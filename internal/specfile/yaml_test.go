package specfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

func TestYAMLFaults(t *testing.T) {
	cases := map[string]struct{ content, want string }{
		"missing comma in flow":  {"template: {a: 1 b: 2}\n", "x.yaml:1:15: a text without quotes can't hold \": \" (expected \",\", \"}\" or a new line), put the text in quotes, or add what is missing\ntemplate: {*: * *: *}\n              ^"},
		"octal":                  {"version: 012\n", "x.yaml:1:10: this number is read in different ways by different readers (expected a decimal without leading zeros), put it in quotes if it is meant as a text\nversion: 012\n         ^"},
		"infinity":               {"maxTokens: .inf\n", "x.yaml:1:12: infinity and not-a-number are not allowed\nmaxTokens: .inf\n           ^"},
		"anchor":                 {"model: &m x\n", "x.yaml:1:8: anchors and aliases are not supported, put the text in quotes if it is meant as a text\nmodel: &m x\n       ^"},
		"tag":                    {"model: !!str x\n", "x.yaml:1:8: tags are not supported, put the text in quotes if it is meant as a text\nmodel: !!str x\n       ^"},
		"merge key":              {"<<: x\n", "x.yaml:1:1: merge keys are not supported, put the text in quotes if it is meant as a text\n**: *\n^"},
		"tab":                    {"model:\n\tmodel: x\n", "x.yaml:2:1: found character '\t' that cannot start any token\n model: x\n^"},
		"colon in text":          {"description: 你好: b\n", "x.yaml:1:14: mapping value is not allowed in this context, put a text that holds \": \" in quotes, and check the indentation\ndescription: 你好: b\n             ^"},
		"secret is not repeated": {"apiKey: sk-planted: b\n", "x.yaml:1:9: mapping value is not allowed in this context, put a text that holds \": \" in quotes, and check the indentation\napiKey: **********: *\n        ^"},
		"inside headers":         {"headers:\n  description: planted: b\n", "x.yaml:2:16: mapping value is not allowed in this context, put a text that holds \": \" in quotes, and check the indentation\n  description: *******: *\n               ^"},
		"twice":                  {"model: a\nmodel: b\n", "x.yaml:2:1: model: stands twice in this object (first in line 1)"},
		"deep":                   {strings.Repeat("- ", 40) + "x\n", "x.yaml:1:65: is nested too deep (at most 32)\n..." + strings.TrimSpace(strings.Repeat("- ", 38)[:0]) + "TAIL"},
		"empty":                  {"# nothing\n", "x.yaml:1:1: the file is empty (expected an object)\n* *******\n^"},
		"a list":                 {"- a\n", "x.yaml:1:1: an object must stand here (fields with values)\n* *\n^"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, faults := specfile.Parse(files("x.yaml", c.content))
			got := texts(faults)[0]
			if name == "deep" {
				got, c.want = got[:strings.IndexByte(got, '\n')], c.want[:strings.IndexByte(c.want, '\n')]
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

const manifest = `# a whole set
kind: Prompt
metadata: {name: team/helper}
spec:
  version: 1.0.0
  template: |
    你是专家 {{tone|kind}}。
    第二行
  variables:
    tone: kind
    count: {type: number, default: 3}
---
kind: McpServer
metadata:
  name: gaode
  namespace: dev
spec:
  endpoints:
    - {url: "http://h/mcp", weight: 2}
  parameters: {headers: {key: {required: true}, trace: {secret: false}}}
---
kind: Credential
metadata: {name: gaode-key}
spec: {value: planted}
---
kind: Agent
metadata: {name: helper, namespace: dev, labels: {team: mse}}
spec:
  promptKey: team/helper
  promptVariables: {tone: 3}
  model: {model: m, temperature: 1e0, apiKey: "${credential:model-key}"}
  mcpServers:
    - mcpServerName: gaode
      whiteTools: [a, b]
      required: false
      headers: {key: {credentialRef: gaode-key}}
  knowledge: {knowledgeBases: [{name: docs}]}
`

func TestManifest(t *testing.T) {
	set, faults := specfile.Parse(files("-", strings.Replace(manifest, "    count: {type: number, default: 3}\n", "", 1)))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	a := set.Agents[0]
	if a.Namespace != "dev" || a.Spec.AgentName != "helper" || a.Spec.Labels["team"] != "mse" || a.Spec.PromptVariables["tone"] != "3" {
		t.Errorf("agent: %+v", a.Spec)
	}
	if got := a.Spec.Model.APIKey; got != (spec.Value{Ref: "model-key"}) {
		t.Errorf("apiKey: %+v", got)
	}
	s := a.Spec.MCPServers[0]
	if diff := cmp.Diff(spec.MCPServerRef{
		MCPServerName: "gaode", Tools: &spec.ToolFilter{Allow: []string{"a", "b"}}, Timeout: 30e9,
		Headers: map[string]spec.Value{"key": {Ref: "gaode-key"}},
	}, s); diff != "" {
		t.Error(diff)
	}
	if got, want := set.Prompts[0].Spec.Template, "你是专家 {{tone|kind}}。\n第二行\n"; got != want {
		t.Errorf("template %q, want %q", got, want)
	}
	if got := set.MCPServers[0].Spec.Parameters.Headers; !got["key"].Secret || got["trace"].Secret {
		t.Errorf("parameters: %+v", got)
	}
	if c := set.Credentials[0]; c.Name != "gaode-key" || c.Value.Reveal() != "planted" {
		t.Errorf("credential %s", c.Name)
	}
	wantRefs := []spec.Reference{
		{Kind: "prompt", Name: "team/helper", Label: "latest", Path: "promptKey"},
		{Kind: "mcp", Name: "gaode", Path: "mcpServers[0].mcpServerName"},
		{Kind: "credential", Name: "model-key", Path: "model.apiKey"},
		{Kind: "credential", Name: "gaode-key", Path: "mcpServers[0].headers.key"},
	}
	if diff := cmp.Diff(wantRefs, a.Spec.References()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(specfile.Place{File: "-", Line: 35, Column: 38, Path: "spec.mcpServers[0].headers.key.credentialRef"}, a.Locate("mcpServers[0].headers.key.credentialRef")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(specfile.Place{File: "-", Line: 30, Column: 47, Path: "spec.model.apiKey"}, a.Locate("model.apiKey")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(specfile.Place{File: "-", Line: 36, Column: 39, Path: "spec.knowledge.knowledgeBases[0].name"}, a.Locate("knowledgeBases[0].name")); diff != "" {
		t.Error(diff)
	}
}

func TestManifestFaults(t *testing.T) {
	_, faults := specfile.Parse(files("m.yaml", `kind: Agnet
metadata: {name: a}
spec: {}
---
kind: Route
metadata: {name: a}
spec: {}
---
kind: Prompt
metadata: {name: a b, label: x}
spec: {version: 1.0.0, template: x}
extra: 1
---
kind: Agent
metadata: {name: a}
spec: {agentName: b, promptKey: p, model: {model: m}, mcpServer: []}
---
kind: Credential
metadata: {name: c}
spec: {value: 12345}
`))
	want := []string{
		"m.yaml:1:7: kind: unknown kind (Agent, Prompt, McpServer, Credential), did you mean Agent?",
		"m.yaml:5:7: kind: Route is not supported yet (supported: Agent, Prompt, McpServer, Credential)",
		`m.yaml:10:18: metadata.name: is not allowed (allowed: ` + string(spec.RulePromptKey) + `)`,
		"m.yaml:10:30: metadata.label: unknown field, known here: name, namespace, labels",
		"m.yaml:11:7: spec.promptKey: is missing (" + string(spec.RulePromptKey) + ")",
		"m.yaml:12:1: extra: unknown field, known here: kind, metadata, spec",
		"m.yaml:16:19: spec.agentName: differs from metadata.name",
		"m.yaml:16:55: spec.mcpServer: unknown field, did you mean mcpServers?",
		"m.yaml:20:15: spec.value: is a number, must be a string, write it in quotes",
	}
	if diff := cmp.Diff(want, texts(faults)); diff != "" {
		t.Error(diff)
	}
}

func TestReadings(t *testing.T) {
	set, faults := specfile.Parse(with(
		"mse-nacos-helper/partener-agents.json", `{"agents": [{"agentName": "x"}]}`,
		"mse-nacos-helper/prompt-p.json", `{"version": "1.0.0", "template": "{{a}}{{b}}", "variables": {"a": 3, "b": {"required": true}}}`,
		"mse-nacos-helper/memory.json", `{"credential": "{'username': 'u', 'password': 'it\\'s \"x\"'}"}`,
		"other/agent-base.json", `{"promptKey": "p"}`,
		"other/model.json", `{"model": "m"} // why`,
		"other/sub-agents.json", `{"subAgents": [{"agentName": "y"}]}`,
		"other/memory.yaml", `credential: {username: u}`,
	))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var notes []string
	for _, n := range set.Notes {
		notes = append(notes, n.String())
	}
	want := []string{
		"mse-nacos-helper/partener-agents.json:1: read as partner-agents.json, its canonical name",
		"mse-nacos-helper/prompt-p.json:1: read as prompts/p.json, its canonical name",
		`mse-nacos-helper/memory.json:1: credential: a JSON text in single quotes is read as username and password; its canonical form is {"credentialRef": "mse-nacos-helper.memory.credential"}`,
		"other/sub-agents.json:1: read as partner-agents.json, its canonical name",
		`other/sub-agents.json:1: subAgents: read as "agents", its canonical name`,
		`other/memory.yaml:1: credential: an object is read as username and password; its canonical form is {"credentialRef": "other.memory.credential"}`,
	}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
	if got, want := set.Agents[0].Spec.Memory.Credential.Literal, `{"password":"it's \"x\"","username":"u"}`; got != want {
		t.Errorf("credential %q, want %q", got, want)
	}
	three := "3"
	wantVars := map[string]spec.PromptVariable{"a": {Type: "number", Default: &three}, "b": {Type: "string", Required: true}}
	if diff := cmp.Diff(wantVars, set.Prompts[0].Spec.Variables); diff != "" {
		t.Error(diff)
	}
}
