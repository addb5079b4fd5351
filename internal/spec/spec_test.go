package spec_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/agentry/agentry/internal/spec"
)

var update = flag.Bool("update", false, "rewrite docs/field-effects.md")

func minimal() spec.Agent {
	a := spec.Agent{AgentName: "a", PromptKey: "p", Model: spec.Model{Model: "m"}}
	a.FillDefaults()
	return a
}

func TestDecodeAgent(t *testing.T) {
	good, err := spec.Canonical(minimal())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"agentName":"a","limits":{"wallTime":"10m0s"},"maxIterations":10,"memory":{"compressionStrategy":"token-budget","onUnavailable":"fail","searchStrategy":"recency","storageType":"in-process"},` +
		`"model":{"api":"chat-completions","model":"m","retry":{"attempts":3,"backoff":"500ms"},"timeout":"2m0s"},"promptKey":"p","promptLabel":"latest","release":{"onReject":"rollback","progressDeadline":"1m0s","strategy":"immediate"}}`
	if diff := cmp.Diff(want, string(good)); diff != "" {
		t.Error(diff)
	}
	cases := map[string]struct{ in, want string }{
		"unknown field":  {strings.Replace(want, `"maxIterations"`, `"maxIteration"`, 1), "decode agent: maxIteration: unknown field, did you mean maxIterations?"},
		"case counts":    {strings.Replace(want, `"promptKey"`, `"promptkey"`, 1), "decode agent: promptkey: unknown field, did you mean promptKey?\npromptKey: is missing (" + string(spec.RulePromptKey) + ")"},
		"nested":         {strings.Replace(want, `"api"`, `"apy"`, 1), "decode agent: model.apy: unknown field, did you mean api?"},
		"wrong type":     {strings.Replace(want, `10,`, `"10",`, 1), "decode agent: maxIterations: is a string, must be a whole number from 1"},
		"more than one":  {want + "{}", "decode agent: something follows the object"},
		"not an object":  {"null", "decode agent: null is no object"},
		"truncated":      {want[:20], "decode agent: unexpected EOF"},
		"literal object": {strings.Replace(want, `"api":`, `"apiKey":{"key":"planted"},"api":`, 1), "decode agent: model.apiKey.key: unknown field, known here: credentialRef"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := spec.DecodeAgent([]byte(c.in)); err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	got, err := spec.DecodeAgent(good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(minimal(), *got); diff != "" {
		t.Error(diff)
	}
}

func TestDecodeShared(t *testing.T) {
	if _, err := spec.DecodePrompt([]byte(`{"promptKey":"p","version":"1.0.0","template":"x"}`)); err != nil {
		t.Error(err)
	}
	if _, err := spec.DecodeMCPServer([]byte(`{"name":"m","version":"1","transport":"sse","endpoints":[],"requires":[{"capability":"mcp.sse","field":"transport"}]}`)); err != nil {
		t.Error(err)
	}
	if _, err := spec.DecodePolicy([]byte(`{"server":"m","tools":{"t":{"description":"d","approved":[]}}}`)); err != nil {
		t.Error(err)
	}
	if _, err := spec.DecodeMCPServer([]byte(`{"name":"m","version":"1","transport":"sse","endpoints":[],"endpoint":"x"}`)); err == nil {
		t.Error("a file's field passed as canonical")
	}
}

func TestCanonicalRefusesGreatIntegers(t *testing.T) {
	a := minimal()
	a.Model.Seed = new(int64(1<<53 + 1))
	if _, err := spec.Canonical(a); err == nil {
		t.Error("2^53+1 passed")
	}
	a.Model.Seed = new(int64(1 << 53))
	if _, err := spec.Canonical(a); err != nil {
		t.Error(err)
	}
}

func TestValidate(t *testing.T) {
	a := minimal()
	if faults := a.Validate(); len(faults) > 0 {
		t.Fatal(faults)
	}
	a.AgentName, a.PromptVersion, a.MaxIterations = "-x", "1.0.0", 0
	a.Model.TopP = new(1.5)
	a.Memory.StorageType = "redis"
	a.PartnerAgents = []spec.PartnerRef{{AgentName: "x", Version: "1", Label: "l"}, {AgentName: "y", Alias: "X"}}
	a.MCPServers = make([]spec.MCPServerRef, 65)
	var got []string
	for _, f := range a.Validate() {
		got = append(got, f.String())
	}
	want := []string{
		`agentName: "-x" is not allowed (allowed: ` + string(spec.RuleName) + ")",
		"maxIterations: 0 is out of range (allowed: a whole number from 1)",
		"mcpServers: has 65 entries (at most 64 are allowed)",
		"model.topP: 1.5 is out of range (allowed: a number from 0 to 1)",
		"promptLabel: stands beside promptVersion (only one of them is allowed)",
		"partnerAgents[1].alias: is there already, as number 1 of the list (partner names and aliases must differ, without regard to case)",
		"partnerAgents[0].label: stands beside version (only one of them is allowed)",
		"memory.address: is missing (storageType redis needs host:port)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEffectiveBaseURL(t *testing.T) {
	for in, want := range map[string]string{
		"https://h/compatible-mode":     "https://h/compatible-mode/v1",
		"https://h/compatible-mode/v1":  "https://h/compatible-mode/v1",
		"https://h/compatible-mode/v1/": "https://h/compatible-mode/v1",
		"http://h:80":                   "http://h:80/v1",
		"http://h/":                     "http://h/v1",
		"http://h/v2beta":               "http://h/v2beta/v1",
		"http://h/v10?x=1":              "http://h/v10?x=1",
		"":                              "",
	} {
		if got := spec.EffectiveBaseURL(in); got != want {
			t.Errorf("%q -> %q, want %q", in, got, want)
		}
	}
}

// An address with a password in it was taken, and stored in clear.
func TestAddresses(t *testing.T) {
	for url, want := range map[string]int{"http://h": 0, "https://h:1/v1?x=1": 0, "http://user:pw@h": 1, "http://user@h": 1, "http://h/ v1": 1, "http://": 1, "h": 1, "ftp://h": 1} {
		_, faults := spec.ReadAgent(map[string]any{"agentName": "a", "promptKey": "p", "model": map[string]any{"model": "m", "baseUrl": url}})
		if len(faults) != want {
			t.Errorf("%s: %v", url, faults)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	ordered := []string{"no version", "0.9.9", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.9", "1.0.10", "3.0.11"}
	for i, a := range ordered {
		for j, b := range ordered {
			got := spec.CompareVersions(a, b)
			if (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s against %s: %d", a, b, got)
			}
		}
	}
	if spec.CompareVersions("1.0.0+a", "1.0.0+b") != 0 {
		t.Error("build metadata counts")
	}
}

func TestNames(t *testing.T) {
	for in, want := range map[string]bool{
		"a": true, "A.b-c_d": true, "": false, "-a": false, "a-": false, "a b": false, "中": false, "a/b": false,
		strings.Repeat("a", 64): true, strings.Repeat("a", 65): false,
	} {
		if got := spec.ValidName(in); got != want {
			t.Errorf("name %q: %v", in, got)
		}
	}
	for in, want := range map[string]bool{"a/b/c": true, "a//b": false, "/a": false, "a/": false, "a/../b": false} {
		if got := spec.ValidPromptKey(in); got != want {
			t.Errorf("prompt key %q: %v", in, got)
		}
	}
}

func TestPaths(t *testing.T) {
	path := spec.Child(spec.Child(spec.Index(spec.Child("", "mcpServers"), 3), "headers"), `a.b"]`)
	if want := `mcpServers[3].headers["a.b\"]"]`; path != want {
		t.Fatalf("%s, want %s", path, want)
	}
	want := []spec.Step{{Name: "mcpServers"}, {Index: 3, IsIndex: true}, {Name: "headers"}, {Name: `a.b"]`}}
	if diff := cmp.Diff(want, spec.SplitPath(path)); diff != "" {
		t.Error(diff)
	}
}

func TestDiff(t *testing.T) {
	got, err := spec.Diff([]byte(`{"a":1,"b":{"c":[1,2]},"d":"<x>"}`), []byte(`{"a":1,"b":{"c":[1,3,4]},"e":null}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []spec.Change{{"b.c[1]", "2", "3"}, {"b.c[2]", "", "4"}, {"d", `"<x>"`, ""}, {"e", "", "null"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := spec.Diff(nil, []byte(`{"a":{"b":1}}`)); err != nil || len(got) != 1 || got[0].After != `{"b":1}` {
		t.Errorf("%v %v", got, err)
	}
}

func TestRequirements(t *testing.T) {
	a := minimal()
	a.Skills = []spec.Skill{{ID: "s"}}
	a.Limits.CostUSD = 1
	a.Limits.Tokens, a.Limits.SameCall = 5, 2
	a.Approval = &spec.Approval{Tools: []spec.ApprovalTool{{Tool: "x"}}}
	a.Expose = &spec.Expose{A2A: json.RawMessage("false"), REST: new(false), MCP: new(true), Auth: &spec.InboundAuth{}, RateLimit: &spec.RateLimit{}, MaxBodyBytes: 1, CORS: &spec.CORS{}}
	a.Model.API, a.Model.SendMetadata, a.Model.Price = "responses", true, &spec.Price{}
	a.Model.Stop, a.Model.Seed = []string{"END"}, new(int64(1))
	a.Model.Fallbacks = []spec.Model{{Model: "b", Stop: []string{"END"}}, {Model: "c", API: "responses", Seed: new(int64(1))}}
	a.PartnerAgents = []spec.PartnerRef{{AgentName: "b"}}
	a.Memory = spec.Memory{StorageType: "redis", Address: "h:1", Credential: spec.Value{Ref: "c"}, CompressionStrategy: "summarize", SearchStrategy: "vector", EmbeddingModel: "e", ToolPayloadBytes: 1}
	a.KnowledgeBases = []spec.KnowledgeRef{{Name: "k"}}
	var got []string
	for _, r := range spec.Requirements(a) {
		must := map[bool]string{true: "!"}[r.Refuse]
		got = append(got, r.Capability+" "+r.Field+must)
	}
	want := []string{
		"a2a.card skills", "limits.tokens limits.tokens", "limits.cost limits.costUsd", "limits.sameCall limits.sameCall", "approval approval!", "expose.mcp expose.mcp",
		"expose.auth expose.auth!", "expose.rateLimit expose.rateLimit", "expose.maxBodyBytes expose.maxBodyBytes", "expose.cors expose.cors",
		"model.responses model.api", "model.responses.stop model.stop", "model.responses.seed model.seed",
		"model.price model.price", "model.metadata model.sendMetadata", "model.fallbacks model.fallbacks[0]", "model.fallbacks model.fallbacks[1]",
		"model.responses model.fallbacks[1].api", "model.responses.seed model.fallbacks[1].seed",
		"partners partnerAgents", "memory.redis memory.storageType", "memory.redis memory.address", "memory.redis memory.credential", "memory.summarize memory.compressionStrategy", "memory.search memory.searchStrategy",
		"memory.search memory.embeddingModel", "memory.toolPayload memory.toolPayloadBytes", "knowledge knowledgeBases",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	m := spec.MCPServer{Transport: "stdio", Endpoints: make([]spec.Endpoint, 2)}
	if got := spec.MCPRequirements(m); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

func TestLooksSecret(t *testing.T) {
	for in, want := range map[string]bool{
		"sk-1234567890": true, "ghp_abcdefghij": true, "AKIAIOSFODNN7EXAMPLE": true, "0123456789abcdef0123456789ABCDEF": true,
		"aGVsbG8gV29ybGQhMTIzNDU2Nzg5": true, "mse-nacos-helper": false, "qwen-plus-latest": false, "https://h/x": false, "你好世界你好世界你好世界": false, "": false,
		"task": false, "sk-": false, "streamable-http-server-for-everything": false,
	} {
		if got := spec.LooksSecret(in); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func TestSchemas(t *testing.T) {
	accept := map[string]string{
		spec.KindAgentBase:     `{"$schema": "x", "promptKey": "a/b", "maxIterations": 10, "limits": {"wallTime": "10m"}}`,
		spec.KindModel:         `{"model": "m", "apiKey": {"credentialRef": "k"}, "headers": {"X-A": "b"}, "fallbacks": [{"model": "n"}]}`,
		spec.KindMCPServers:    `{"mcpServers": [{"mcpServerName": "x", "tools": {"allow": ["a"]}}]}`,
		spec.KindPartnerAgents: `{"agents": [{"agentName": "x"}]}`,
		spec.KindMemory:        `{"storageType": "redis", "credential": {"username": "u", "password": "p"}}`,
		spec.KindKnowledge:     `{"knowledgeBases": [{"name": "k", "as": "tool"}]}`,
		spec.KindPrompt:        `{"promptKey": "p", "version": "1.0.0", "template": "x", "variables": {"a": 1, "中": {"required": true}}}`,
		spec.KindMCP:           `{"name": "x", "endpoint": "http://h", "tools": {"t": {"enabled": false}}}`,
		spec.KindCredential:    `{"value": "x"}`,
		spec.KindAgent:         `{"agentName": "a", "promptKey": "p", "model": {"model": "m"}}`,
	}
	for _, kind := range spec.Kinds() {
		t.Run(kind, func(t *testing.T) {
			raw, err := spec.Schema(kind)
			if err != nil {
				t.Fatal(err)
			}
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
			if err != nil {
				t.Fatal(err)
			}
			c := jsonschema.NewCompiler()
			if err := c.AddResource("s.json", doc); err != nil {
				t.Fatal(err)
			}
			schema, err := c.Compile("s.json")
			if err != nil {
				t.Fatal(err)
			}
			for in, good := range map[string]bool{accept[kind]: true, `{"nonsense": 1}`: false} {
				v, err := jsonschema.UnmarshalJSON(strings.NewReader(in))
				if err != nil {
					t.Fatal(err)
				}
				if err := schema.Validate(v); (err == nil) != good {
					t.Errorf("%s: %v", in, err)
				}
			}
		})
	}
	if _, err := spec.Schema("nonsense"); err == nil {
		t.Error("an unknown kind has a schema")
	}
}

// The canonical document of every type holds no field that the table doesn't know, and the other way round.
func TestTableMatchesTypes(t *testing.T) {
	full := minimal()
	full.Limits = &spec.Limits{ToolCalls: 1, Tokens: 1, CostUSD: 1, WallTime: 1, PartnerDepth: 1, Concurrency: 1}
	raw, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := spec.DecodeAgent(raw); err != nil {
		t.Error(err)
	}
}

func TestEffectsPage(t *testing.T) {
	name := filepath.Join("..", "..", "docs", "field-effects.md")
	want := spec.EffectsPage()
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run the test with -update:\n%s", diff)
	}
}

func FuzzDecodeAgent(f *testing.F) {
	good, err := spec.Canonical(minimal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	whole := minimal()
	whole.MCPServers = []spec.MCPServerRef{{MCPServerName: "s"}}
	whole.Approval = &spec.Approval{Tools: []spec.ApprovalTool{{Tool: "s"}, {Tool: "s/t", When: "args.a < 1"}}}
	whole.Expose = &spec.Expose{
		A2A: json.RawMessage(`{"signingKey":{"credentialRef":"k"},"tools":["reply"]}`), Auth: &spec.InboundAuth{Keys: []spec.InboundKey{{Name: "n", Key: spec.Value{Ref: "c"}}}},
		RateLimit: &spec.RateLimit{RequestsPerMinute: 6}, MaxBodyBytes: 1024, CORS: &spec.CORS{Origins: []string{"https://A.example:443"}},
	}
	whole.FillDefaults()
	if good, err = spec.Canonical(whole); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, s := range []string{"", "null", "{}", `{"model":null}`, `{"mcpServers":[{"headers":{"k":{"credentialRef":1}}}]}`, `{"requires":[{}]}`, `{"expose":{"a2a":[[]]}}`, `{"maxIterations":1e400}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := spec.DecodeAgent(b)
		if err != nil {
			return
		}
		a.FillDefaults()
		one, err := spec.Canonical(a)
		if err != nil {
			t.Fatal(err)
		}
		again, err := spec.DecodeAgent(one)
		if err != nil {
			t.Fatalf("canonical bytes are refused: %v\n%s", err, one)
		}
		two, err := spec.Canonical(again)
		if err != nil || string(one) != string(two) {
			t.Errorf("not stable: %v\n%s\n%s", err, one, two)
		}
		_ = a.Validate()
		_ = a.References()
	})
}
