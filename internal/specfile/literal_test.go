package specfile_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

func TestLiterals(t *testing.T) {
	set, faults := specfile.Parse(published())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	a := set.Agents[0].Spec
	type place struct{ Path, Credential, Server, Parameter string }
	var got []place
	for _, l := range specfile.Literals(&a) {
		got = append(got, place{l.Path, l.CredentialName, l.Server, l.Parameter})
		l.Set(spec.Value{Ref: l.CredentialName})
	}
	want := []place{
		{"model.apiKey", "mse-nacos-helper.model.apiKey", "", ""},
		{"mcpServers[0].headers.key", "mse-nacos-helper.mcp.gaode.headers.key", "gaode", "key"},
		{"mcpServers[0].queryParams.key", "mse-nacos-helper.mcp.gaode.queryParams.key", "gaode", "key"},
		{"partnerAgents[0].headers.key", "mse-nacos-helper.partner.mse-gateway-assistant.headers.key", "", ""},
		{"memory.credential", "mse-nacos-helper.memory.credential", "", ""},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, planted := range []string{"-secret", "sk-abc", "user001"} {
		if strings.Contains(string(raw), planted) {
			t.Errorf("%q is still in %s", planted, raw)
		}
	}
	if len(specfile.Literals(&a)) != 0 {
		t.Error("literals are left")
	}
}

func TestCredentialName(t *testing.T) {
	long := strings.Repeat("a", 60)
	names := map[string]bool{}
	for _, parts := range [][]string{{"mcp", "x", "headers", "$k"}, {"mcp", "x", "headers", "!k"}, {"mcp", "x", "headers", "k"}, {long, "k"}, {long, "l"}} {
		n := specfile.CredentialName("agent", parts...)
		if !spec.ValidName(n) || names[n] {
			t.Errorf("%v -> %q", parts, n)
		}
		names[n] = true
	}
	a := &spec.Agent{AgentName: "a", MCPServers: []spec.MCPServerRef{{MCPServerName: "s", QueryParams: map[string]spec.Value{"k": {Literal: "1"}, "K": {Literal: "2"}}}}}
	l := specfile.Literals(a)
	if len(l) != 2 || strings.EqualFold(l[0].CredentialName, l[1].CredentialName) {
		t.Errorf("names that differ by case alone: %v", l)
	}
}

func TestWarnings(t *testing.T) {
	set, faults := specfile.Parse(files(
		"a/agent-base.json", `{"promptKey": "p", "description": "use sk-1234567890abcdef"}`, "a/model.json", `{"model": "m", "apiKey": "planted"}`,
		"mcp/x.json", `{"endpoint": "https://h/mcp?key=AKIAIOSFODNN7EXAMPLE"}`,
	))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	var got []string
	for _, n := range specfile.Warnings(set) {
		got = append(got, n.String())
	}
	want := []string{
		"a/model.json:1: apiKey: a literal value stands here; apply keeps it as credential a.model.apiKey",
		"a/agent-base.json:1: description: something here looks like a key or token; name a credential instead",
		"mcp/x.json:1: endpoint: something here looks like a key or token; name a credential instead",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// A secret is never in a fault, note or snippet, however the file is broken.
func TestNoSecretInFaults(t *testing.T) {
	const planted = "Pl4nted-53cret"
	whole := []string{
		`{"model": "m", "apiKey": "` + planted + `", "headers": {"X-Key": "` + planted + `", "description": "` + planted + `"}, "temperature": 9}`,
		"{\n\"model\": \"m\",\n\"apiKey\": \"" + planted + "\",\n\"headers\": {\n\"version\": \"" + planted + "\",\n\"k\":\n\"" + planted + "\"\n}\n}",
		`{"mcpServers": [{"mcpServerName": "x", "queryParams": {"key": "` + planted + `"}, "headers": {"credentialRef": {"a": "` + planted + `"}}}]}`,
		`{"credential": "{'username': 'u', 'password': '` + planted + `'}"}`,
		`{"credential": {"username": "u", "password": "` + planted + `"}}`,
		`{"credential": '{"password": "` + planted + `"}'}`,
	}
	names := []string{"a/model.json", "a/model.yaml", "a/mcp-servers.json", "a/mcp-servers.yaml", "a/memory.json", "a/memory.yaml"}
	for i, w := range whole {
		for j, name := range names {
			for cut := (i + j) % 2; cut <= len(w); cut += 2 {
				for _, broken := range []string{w[:cut], w[:cut] + w[min(cut+1, len(w)):], w[:cut] + `"` + w[cut:], w[:cut] + ",]" + w[cut:]} {
					set, faults := specfile.Parse(files(name, broken))
					out, err := json.Marshal([]any{faults, set.Notes, spec.FaultsError(faults).Error()})
					if err != nil {
						t.Fatal(err)
					}
					if strings.Contains(string(out), planted[:8]) {
						t.Fatalf("%s\n%s\n%s", name, broken, out)
					}
				}
			}
		}
	}
}
