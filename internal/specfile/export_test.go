package specfile_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// gen draws documents with awkward texts: what YAML likes to misread, Chinese, quotes, control characters.
type gen struct{ t *rapid.T }

func (g gen) text(label string) string {
	return rapid.OneOf(
		rapid.SampledFrom([]string{
			"null", "true", "no", "012", "1e3", "0x1F", "~", "a: b", "- a", "# a", "a #b", " a ", "\t", "a\nb", "a\nb\n", "\n", "a\n\nb\n\n",
			"你好\n世界\n", "'", `"`, `\`, "{}", "[", "---", "...", "%x", "&a", "*a", "!a", "|", ">", "@", "`", "a\r\nb", "\u2028", "\u0085", "\ufeff", "\x7f", "a\n  b\n c\n", "1.0", "2024-01-01", "a:", "?", "<<", "=",
		}),
		rapid.StringN(1, 20, -1),
		rapid.StringMatching(`[ -~\n]{1,30}`),
	).Draw(g.t, label)
}

func (g gen) filled(label string) string { return "x" + g.text(label) }

// line is filled without control characters.
func (g gen) line(label string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, g.filled(label))
}

func (g gen) name(label string) string {
	return rapid.StringMatching(`[A-Za-z0-9]([-A-Za-z0-9_.]{0,6}[A-Za-z0-9])?`).Draw(g.t, label)
}

func (g gen) flag(label string) bool { return rapid.Bool().Draw(g.t, label) }

func (g gen) value(label string) spec.Value {
	if g.flag(label + " is a reference") {
		return spec.Value{Ref: g.name(label)}
	}
	return spec.Value{Literal: "v" + strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(g.text(label))}
}

func (g gen) values(label string) map[string]spec.Value {
	m := map[string]spec.Value{}
	for range rapid.IntRange(0, 3).Draw(g.t, label+" count") {
		m[g.name(label)] = g.value(label)
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

func some[T any](g gen, label string, draw func() T) []T {
	var out []T
	for range rapid.IntRange(0, 3).Draw(g.t, label+" count") {
		out = append(out, draw())
	}
	return out
}

func ptr[T any](g gen, label string, v T) *T {
	if !g.flag(label + " is given") {
		return nil
	}
	return &v
}

func (g gen) model(depth int) spec.Model {
	m := spec.Model{
		Model: g.line("model"), APIKey: g.value("apiKey"), Headers: g.values("model header"),
		Temperature: ptr(g, "temperature", rapid.Float64Range(0, 2).Draw(g.t, "temperature")), Seed: ptr(g, "seed", rapid.Int64Range(-1<<53, 1<<53).Draw(g.t, "seed")),
		MaxTokens: ptr(g, "maxTokens", rapid.IntRange(1, 1e6).Draw(g.t, "maxTokens")), Stop: some(g, "stop", func() string { return g.filled("stop") }),
		SendMetadata: g.flag("sendMetadata"),
	}
	if g.flag("extraBody") {
		raw, _ := json.Marshal(map[string]any{g.text("extra"): []any{g.text("extra"), nil, 1.5, true, map[string]any{}}})
		m.ExtraBody = raw
	}
	if depth == 0 {
		m.Fallbacks = some(g, "fallback", func() spec.Model { return g.model(1) })
	}
	return m
}

func (g gen) agent(name string) spec.Agent {
	a := spec.Agent{
		AgentName: name, DisplayName: g.text("displayName"), Description: g.text("description"), PromptKey: g.name("promptKey"),
		MaxIterations: rapid.IntRange(1, 99).Draw(g.t, "maxIterations"), Model: g.model(0),
		Skills: some(g, "skill", func() spec.Skill {
			return spec.Skill{ID: g.name("skill id"), Description: g.text("skill"), Tags: some(g, "tag", func() string { return g.filled("tag") })}
		}),
		Memory: spec.Memory{
			StorageType: "redis", Address: rapid.SampledFrom([]string{"h:1", "rediss://h.example:6380", "redis://[::1]:6379/2"}).Draw(g.t, "address"), Credential: g.value("credential"),
			MaxTurns: rapid.IntRange(0, 9).Draw(g.t, "maxTurns"), EmbeddingModel: g.line("embeddingModel"), ToolPayloadBytes: rapid.IntRange(0, 1<<20).Draw(g.t, "toolPayloadBytes"),
		},
		Expose: g.expose(),
		Limits: &spec.Limits{SameCall: rapid.IntRange(0, 9).Draw(g.t, "sameCall"), CostUSD: rapid.Float64Range(0, 9).Draw(g.t, "costUsd")},
	}
	if g.flag("fixed version") {
		a.PromptVersion = "1.2.3"
	}
	a.MCPServers = some(g, "server", func() spec.MCPServerRef {
		return spec.MCPServerRef{
			MCPServerName: g.name("server"), Headers: g.values("header"), QueryParams: g.values("query"), Required: g.flag("required"),
			Tools: ptr(g, "tools", spec.ToolFilter{Allow: []string{g.filled("tool")}}),
		}
	})
	a.PartnerAgents = some(g, "partner", func() spec.PartnerRef {
		return spec.PartnerRef{AgentName: g.name("partner"), Headers: g.values("header"), Description: g.text("partner")}
	})
	if len(a.MCPServers) > 0 && g.flag("approval") {
		a.Approval = &spec.Approval{Timeout: spec.Duration(rapid.Int64Range(1, 1e15).Draw(g.t, "timeout")), Tools: []spec.ApprovalTool{
			{Tool: a.MCPServers[0].MCPServerName, When: rapid.SampledFrom([]string{"", `args["a: b"] == "# \"'\n"`, "tool\n  != \"x\""}).Draw(g.t, "when")},
		}}
	}
	a.KnowledgeBases = some(g, "base", func() spec.KnowledgeRef { return spec.KnowledgeRef{Name: g.name("base")} })
	a.FillDefaults()
	return a
}

func (g gen) expose() *spec.Expose {
	e := &spec.Expose{OpenAI: ptr(g, "openai", true), MCP: ptr(g, "mcp", false), MaxBodyBytes: rapid.SampledFrom([]int64{0, 1024, spec.MaxBodyBytes}).Draw(g.t, "maxBodyBytes")}
	e.A2A = json.RawMessage(rapid.SampledFrom([]string{
		"", "true", "false", `{"push":false,"signingKey":{"credentialRef":"k"},"streaming":true,"tools":["ask_user","attach"],"v03":true}`,
	}).Draw(g.t, "a2a"))
	if g.flag("auth") {
		e.Auth = &spec.InboundAuth{}
		for i := range rapid.IntRange(1, 3).Draw(g.t, "keys") {
			key := g.value("inbound key")
			key.Literal += map[bool]string{true: fmt.Sprint(i)}[key.Ref == ""]
			e.Auth.Keys = append(e.Auth.Keys, spec.InboundKey{Name: g.name("caller") + fmt.Sprint(i), Key: key, Approver: g.flag("approver")})
		}
	}
	if g.flag("rateLimit") {
		e.RateLimit = &spec.RateLimit{RequestsPerMinute: rapid.IntRange(1, 1e6).Draw(g.t, "requestsPerMinute"), Burst: rapid.IntRange(0, 9).Draw(g.t, "burst")}
	}
	if g.flag("cors") {
		e.CORS = &spec.CORS{Origins: rapid.SampledFrom([][]string{{"*"}, {"https://a.example", "http://b:81"}}).Draw(g.t, "origins")}
	}
	return e
}

func (g gen) set() *specfile.Set {
	s := &specfile.Set{}
	for i := range rapid.IntRange(0, 2).Draw(g.t, "agents") {
		name := rapid.SampledFrom([]string{g.name("agent"), "mcp", "prompts"}).Draw(g.t, "agent name") + fmt.Sprint(i)
		if i == 1 && g.flag("taken name") {
			name = "mcp"
		}
		s.Agents = append(s.Agents, &specfile.Agent{Spec: g.agent(name)})
	}
	def := g.text("default")
	s.Prompts = append(s.Prompts, &specfile.Prompt{Spec: spec.Prompt{
		PromptKey: "team/" + g.name("key"), Version: "1.0.0", Template: "{{a}}" + strings.ReplaceAll(g.text("template"), "{{", ""), Description: g.text("description"),
		Variables: map[string]spec.PromptVariable{"a": {Type: "string", Default: &def}},
	}})
	entry := spec.MCPServer{
		Name: g.name("entry"), Endpoints: []spec.Endpoint{{URL: "http://h/" + g.name("path"), Weight: rapid.IntRange(0, 9).Draw(g.t, "weight")}},
		Parameters: &spec.MCPParameters{Headers: map[string]spec.Parameter{g.name("parameter"): {Secret: g.flag("secret"), Description: g.text("parameter")}}},
	}
	entry.FillDefaults()
	s.MCPServers = append(s.MCPServers, &specfile.MCPServer{Spec: entry, Head: spec.MCPHead{
		Enabled: ptr(g, "enabled", false),
		Tools:   map[string]spec.ToolSwitch{g.filled("tool"): {Enabled: ptr(g, "tool enabled", true), Description: g.text("tool"), Approved: []string{strings.Repeat("0a", 32)}}},
	}})
	return s
}

// Folder -> manifest -> folder loses nothing (S1).
func TestExportRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := gen{t}.set()
		folder, err := specfile.Files(want)
		if err != nil {
			t.Fatal(err)
		}
		fromFolder := reparse(t, folder)
		compare(t, want, fromFolder)
		text, err := specfile.Manifest(fromFolder)
		if err != nil {
			t.Fatal(err)
		}
		fromManifest := reparse(t, []specfile.File{{Path: "set.yaml", Content: text}})
		compare(t, want, fromManifest)
		again, err := specfile.Files(fromManifest)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(folder, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func reparse(t *rapid.T, f []specfile.File) *specfile.Set {
	set, faults := specfile.Parse(f)
	// Drawn names may clash within a list, which is a fault and still no loss.
	faults = slices.DeleteFunc(faults, func(f spec.Fault) bool {
		return strings.HasPrefix(f.Message, "is there already") || strings.HasPrefix(f.Message, "is that of number")
	})
	if len(faults) > 0 {
		t.Fatalf("%s\n%s", spec.FaultsError(faults), f[0].Content)
	}
	return set
}

func compare(t *rapid.T, want, got *specfile.Set) {
	if diff := cmp.Diff(plain(t, want), plain(t, got)); diff != "" {
		t.Fatal(diff)
	}
}

// plain gives a set's content without origins, by name.
func plain(t *rapid.T, s *specfile.Set) map[string]string {
	out := map[string]string{}
	put := func(name string, v any) {
		b, err := spec.Canonical(v)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(b)
	}
	for _, a := range s.Agents {
		put("agent "+a.Spec.AgentName, a.Spec)
	}
	for _, p := range s.Prompts {
		put("prompt "+p.Spec.PromptKey, p.Spec)
	}
	for _, m := range s.MCPServers {
		put("mcp "+m.Spec.Name, []any{m.Spec, m.Head})
	}
	return out
}
