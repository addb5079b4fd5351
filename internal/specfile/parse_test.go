package specfile_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// files makes a set of path, content, path, content...
func files(pairs ...string) []specfile.File {
	var out []specfile.File
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, specfile.File{Path: pairs[i], Content: []byte(pairs[i+1])})
	}
	return out
}

const (
	baseJSON  = `{"promptKey": "mse-nacos-helper", "description": "helps with Nacos", "maxIterations": 10}`
	modelJSON = `{"model": "qwen-plus-latest", "baseUrl": "https://models.example/compatible-mode", "apiKey": "sk-abc", "temperature": 0.8, "maxTokens": 8192}`
)

func with(pairs ...string) []specfile.File {
	return append(files("mse-nacos-helper/agent-base.json", baseJSON, "mse-nacos-helper/model.json", modelJSON), files(pairs...)...)
}

// The folder of agent-spec.md, every file of it, as it stands there.
func published() []specfile.File {
	return with(
		"mse-nacos-helper/mcp-servers.json", `{"mcpServers": [{"mcpServerName": "gaode", "queryParams": {"key": "q-secret"}, "headers": {"key": "h-secret"}}, {"mcpServerName": "nacos-mcp-tools"}]}`,
		"mse-nacos-helper/partner-agents.json", `{"agents": [{"agentName": "mse-gateway-assistant", "headers": {"key": "p-secret"}}]}`,
		"mse-nacos-helper/memory.json", `{"storageType": "redis", "address": "127.0.0.1:6379", "credential": "{\"username\":\"user001\",\"password\":\"m-secret\"}", "compressionStrategy": "default", "searchStrategy": "default"}`,
		"prompts/mse-nacos-helper.json", `{"promptKey": "mse-nacos-helper", "version": "3.0.11", "template": "你是一个 Nacos 专家。\n回答要简短。", "variables": "{}", "description": "MSE Nacos 助手", "tags": ["mse"]}`,
		"mcp/nacos-mcp-tools.json", `{"endpoint": "http://127.0.0.1:9000/mcp", "tools": {"delete_config": {"enabled": false}}}`,
	)
}

func TestPublishedExample(t *testing.T) {
	set, faults := specfile.Parse(published())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	off, label := false, "latest"
	want := spec.Agent{
		AgentName: "mse-nacos-helper", Description: "helps with Nacos", PromptKey: "mse-nacos-helper", PromptLabel: label, MaxIterations: 10,
		Release: spec.Release{Strategy: "immediate", OnReject: "rollback", ProgressDeadline: 60e9},
		Limits:  &spec.Limits{WallTime: 600e9},
		Model: spec.Model{
			Model: "qwen-plus-latest", BaseURL: "https://models.example/compatible-mode", APIKey: spec.Value{Literal: "sk-abc"}, API: "chat-completions",
			Temperature: new(0.8), MaxTokens: new(8192), Timeout: 120e9, Retry: &spec.Retry{Attempts: 3, Backoff: 500e6},
		},
		MCPServers: []spec.MCPServerRef{
			{
				MCPServerName: "gaode", QueryParams: map[string]spec.Value{"key": {Literal: "q-secret"}},
				Headers: map[string]spec.Value{"key": {Literal: "h-secret"}}, Timeout: 30e9, Required: true,
			},
			{MCPServerName: "nacos-mcp-tools", Timeout: 30e9, Required: true},
		},
		PartnerAgents: []spec.PartnerRef{{AgentName: "mse-gateway-assistant", Headers: map[string]spec.Value{"key": {Literal: "p-secret"}}, Timeout: 60e9}},
		Memory: spec.Memory{
			StorageType: "redis", Address: "127.0.0.1:6379", Credential: spec.Value{Literal: `{"password":"m-secret","username":"user001"}`},
			CompressionStrategy: "token-budget", SearchStrategy: "recency", OnUnavailable: "fail",
		},
		Requires: []spec.Requirement{
			{Capability: spec.CapPartners, Field: "partnerAgents"},
			{Capability: spec.CapMemoryRedis, Field: "memory.storageType"},
			{Capability: spec.CapMemoryRedis, Field: "memory.address"},
			{Capability: spec.CapMemoryRedis, Field: "memory.credential"},
		},
	}
	if diff := cmp.Diff(want, set.Agents[0].Spec); diff != "" {
		t.Error(diff)
	}
	wantHead := spec.MCPHead{Tools: map[string]spec.ToolSwitch{"delete_config": {Enabled: &off}}}
	if diff := cmp.Diff(wantHead, set.MCPServers[0].Head); diff != "" {
		t.Error(diff)
	}
	wantEntry := spec.MCPServer{
		Name: "nacos-mcp-tools", Version: "1.0.0", Transport: "streamable-http", Endpoints: []spec.Endpoint{{URL: "http://127.0.0.1:9000/mcp", Weight: 1}},
	}
	if diff := cmp.Diff(wantEntry, set.MCPServers[0].Spec); diff != "" {
		t.Error(diff)
	}
	var notes []string
	for _, n := range set.Notes {
		notes = append(notes, n.String())
	}
	wantNotes := []string{
		`mse-nacos-helper/memory.json:1: credential: a JSON text is read as username and password; its canonical form is {"credentialRef": "mse-nacos-helper.memory.credential"}`,
		"prompts/mse-nacos-helper.json:1: variables: a text is read as an object; its canonical form is the object itself",
	}
	if diff := cmp.Diff(wantNotes, notes); diff != "" {
		t.Error(diff)
	}
}

func TestFaults(t *testing.T) {
	const in = "a/"
	one := func(name, content string) []specfile.File {
		set := map[string]string{in + "agent-base.json": `{"promptKey": "p"}`, in + "model.json": `{"model": "m"}`}
		delete(set, in+name)
		var out []specfile.File
		for _, n := range []string{in + "agent-base.json", in + "model.json"} {
			if c, ok := set[n]; ok {
				out = append(out, specfile.File{Path: n, Content: []byte(c)})
			}
		}
		return append(out, specfile.File{Path: in + name, Content: []byte(content)})
	}
	cases := map[string]struct {
		files []specfile.File
		want  []string
	}{
		"missing comma": {
			one("agent-base.json", "{\n  \"promptKey\": \"p\"\n  \"maxIterations\": 10\n}"),
			[]string{`a/agent-base.json:3:3: '"' can't stand here (expected "," or "}"), is a comma missing in line 2?` + "\n  \"maxIterations\": 10\n  ^"},
		},
		"mismatched quote": {
			one("model.json", "{\n\"model: \"qwen\"\n}"),
			[]string{"a/model.json:2:10: this character can't stand here (expected \":\")\n\"model: \"qwen\"\n         ^"},
		},
		"single quotes": {
			one("model.json", `{"model": 'x'}`),
			[]string{`a/model.json:1:11: '\'' can't stand here (expected a value: a text in double quotes, a number, true, false, null, "{" or "["), texts stand in straight double quotes: "..."` + "\n{\"model\": 'x'}\n          ^"},
		},
		"typographic quotes": {
			one("model.json", `{“model”: "x"}`),
			[]string{`a/model.json:1:2: '“' can't stand here (expected a field name in double quotes), texts stand in straight double quotes: "..."` + "\n{*******: \"*\"}\n ^"},
		},
		"unclosed text hides the key": {
			one("model.json", "{\n  \"model\": \"m\",\n  \"apiKey\": \"sk-very-secret\n}"),
			[]string{"a/model.json:3:28: the end of the line can't stand here (expected '\"', for a text ends on its line)\n  \"apiKey\": \"**************\n                           ^"},
		},
		"trailing comma": {
			one("model.json", "{\"model\": \"m\", // why\n}"),
			[]string{"a/model.json:2:1: '}' can't stand here (expected a field name in double quotes), a comma after the last field is not allowed\n}\n^"},
		},
		"end of file": {
			one("model.json", `{"model": "m"`),
			[]string{"a/model.json:1:14: the file ends here (expected \"}\")\n{\"model\": \"m\"\n             ^"},
		},
		"after BOM and Chinese, columns count bytes": {
			one("agent-base.json", "\ufeff{\"description\": \"中文\" \"promptKey\": \"p\"}"),
			[]string{`a/agent-base.json:1:26: '"' can't stand here (expected "," or "}"), is a comma missing in line 1?` + "\n{\"description\": \"中文\" \"promptKey\": \"p\"}\n                       ^"},
		},
		"open comment": {
			one("model.json", `{"model": "m" /* x }`),
			[]string{"a/model.json:1:15: this comment is not closed (expected */)\n{\"model\": \"m\" /* x }\n              ^"},
		},
		"unknown field": {
			one("agent-base.json", "{\"promptKey\": \"p\",\n \"maxIteration\": 3}"),
			[]string{"a/agent-base.json:2:2: maxIteration: unknown field, did you mean maxIterations?"},
		},
		"all at once": {
			one("model.json", "{\"model\": \"\",\n\"temperature\": 3,\n\"topP\": \"x\",\n\"maxTokens\": 0,\n\"baseUrl\": \"ftp://x\",\n\"api\": \"chat\",\n\"timeout\": 5,\n\"headers\": {\"a b\": \"c\", \"k\": 4}}"),
			[]string{
				"a/model.json:1:11: model: is empty (allowed: not empty, without line breaks and other control characters)",
				"a/model.json:2:16: temperature: 3 is out of range (allowed: a number from 0 to 2)",
				"a/model.json:3:9: topP: is a string, must be a number from 0 to 1",
				"a/model.json:4:14: maxTokens: 0 is out of range (allowed: a whole number from 1)",
				"a/model.json:5:12: baseUrl: is not allowed (allowed: an http or https address without user and password)",
				`a/model.json:6:8: api: "chat" is not allowed (allowed: chat-completions, responses)`,
				`a/model.json:7:12: timeout: is a number, must be a duration such as "30s", write it in quotes`,
				`a/model.json:8:13: headers["a b"]: this name is not allowed (allowed: an HTTP header name)`,
				`a/model.json:8:30: headers.k: is a number, must be a string or {"credentialRef": "name"}, write it in quotes`,
			},
		},
		"twice": {
			one("model.json", "{\"model\": \"a\",\n\"model\": \"b\", \"seed\": 9007199254740993}"),
			[]string{
				"a/model.json:2:1: model: stands twice in this object (first in line 1)",
			},
		},
		"too great a number": {
			one("model.json", `{"model": "a", "seed": 9007199254740993, "extraBody": {"n": [9007199254740993]}}`),
			[]string{
				`a/model.json:1:24: seed: "9007199254740993" is beyond 2^53 = 9007199254740992, where JSON readers differ`,
				`a/model.json:1:62: extraBody.n[0]: "9007199254740993" is beyond 2^53 = 9007199254740992, where JSON readers differ`,
			},
		},
		"misplaced": {
			one("agent-base.json", `{"promptKey": "p", "memory": {}}`),
			[]string{"a/agent-base.json:1:30: memory: unknown field, it belongs into memory.json"},
		},
		"missing files": {
			files("a/memory.json", `{"ttl": "1h"}`),
			[]string{"a/memory.json: agent-base.json is missing in this folder", "a/memory.json: model.json is missing in this folder"},
		},
		"unknown file": {
			append(one("model.json", `{"model": "m"}`), files("a/modle.json", `{}`, "a/notes.txt", "x", "up.yaml", "a: 1")...),
			[]string{"a/modle.json: is no spec file (expected agent-base, model, mcp-servers, partner-agents, memory or knowledge, prompts/KEY, mcp/NAME, or a manifest with kind and spec), did you mean model.json?"},
		},
		"servers twice": {
			one("mcp-servers.json", "{\"mcpServers\": [{\"mcpServerName\": \"x\"},\n{\"mcpServerName\": \"X\", \"tools\": {\"alow\": []}}]}"),
			[]string{
				"a/mcp-servers.json:2:19: mcpServers[1].mcpServerName: is there already, as number 1 of the list (server names must differ, without regard to case)",
				"a/mcp-servers.json:2:34: mcpServers[1].tools.alow: unknown field, did you mean allow?",
			},
		},
		"wrong list name": {
			one("mcp-servers.json", `{"mcpServer": []}`),
			[]string{"a/mcp-servers.json:1:1: mcpServers: is missing (a list)", "a/mcp-servers.json:1:2: mcpServer: unknown field, did you mean mcpServers?"},
		},
		"null": {
			one("memory.json", `{"ttl": null}`),
			[]string{"a/memory.json:1:9: ttl: is null (leave the field out for its default)"},
		},
		"credential of a wrong shape": {
			one("memory.json", `{"credential": {"user": "u", "password": "planted"}}`),
			[]string{`a/memory.json:1:16: credential: must be {"credentialRef": "name"}, or an object of username and password as texts`},
		},
		"prompt": {
			files("prompts/a.json", "{\"version\": \"1.0\",\n\"template\": \"{{tonee}} {{x\",\n\"variables\": {\"tone\": \"n\"}}"),
			[]string{
				`prompts/a.json:1:13: version: "1.0" is not allowed (allowed: a semantic version such as 3.0.11)`,
				`prompts/a.json:2:13: template: line 1, column 11 of the template: "{{" is not closed by "}}" on its line (for a literal "{{" write "\{{")`,
			},
		},
		"undeclared and unused": {
			files("prompts/a.json", "{\"version\": \"1.0.0\",\n\"template\": \"{{tonee}}\",\n\"variables\": {\"tone\": \"n\"}}"),
			[]string{
				"prompts/a.json:2:13: template: {{tonee}} is not declared in variables, did you mean {{tone}}?",
				"prompts/a.json:3:15: variables.tone: is not used in the template",
			},
		},
		"defined twice": {
			files("mcp/a.json", `{"endpoint": "http://h"}`, "mcp/A.json", `{"endpoint": "http://h"}`),
			[]string{"mcp/A.json:1:1: name: mcp A is defined twice (first in mcp/a.json:1)"},
		},
		"deep": {
			one("model.json", `{"model": "m", "extraBody": `+strings.Repeat(`{"a":`, 40)+`1`+strings.Repeat(`}`, 41)),
			[]string{"a/model.json:1:184: extraBody" + strings.Repeat(".a", 31) + ": is nested too deep (at most 32)"},
		},
		"no UTF-8": {
			one("model.json", "{\"model\": \"\xff\"}"),
			[]string{"a/model.json:1:12: this byte is no UTF-8 (expected UTF-8 text)\n{\"model\": \"\n           ^"},
		},
		"nothing": {files("x/readme.md", "x"), []string{"there is no spec file here (expected an agent's folder, prompts/, mcp/ or a manifest)"}},
		"large":   {files("prompts/a.json", strings.Repeat(" ", spec.MaxFileBytes+1)), []string{"prompts/a.json: is larger than 256 KiB"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, faults := specfile.Parse(c.files)
			if diff := cmp.Diff(c.want, texts(faults)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func texts(faults []spec.Fault) []string {
	var out []string
	for _, f := range faults {
		s := f.String()
		if f.Snippet != "" {
			s += "\n" + f.Snippet
		}
		out = append(out, s)
	}
	return out
}
