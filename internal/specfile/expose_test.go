package specfile_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

const deskModel = `{"model": "m"}`

// desk gives a folder whose agent-base.json also says extra.
func desk(extra string) []specfile.File {
	return files("desk/agent-base.json", `{"promptKey": "p", `+extra+`}`, "desk/model.json", deskModel,
		"desk/mcp-servers.json", `{"mcpServers": [{"mcpServerName": "tickets", "tools": {"allow": ["find", "refund"]}}, {"mcpServerName": "mail"}]}`)
}

func TestApprovalAndExposeFaults(t *testing.T) {
	const at = "desk/agent-base.json:1:"
	cases := map[string]struct {
		extra string
		want  []string // after the column; none: accepted
	}{
		"both forms": {`"approval": {"tools": ["mail", "tickets/find", {"tool": "tickets/refund", "when": "args.amount > 100"}]}`, nil},
		"a slip in a server": {`"approval": {"tools": ["ticket/refund"]}`, []string{
			`approval.tools[0]: names server "ticket", which isn't in mcpServers, did you mean tickets?`,
		}},
		"a slip in a tool": {`"approval": {"tools": ["tickets/refnd"]}`, []string{
			`approval.tools[0]: names tool "refnd", which tools.allow of the server doesn't, did you mean refund?`,
		}},
		"no rule": {`"approval": {"tools": []}`, []string{"approval.tools: is empty (leave approval out where no call needs consent)"}},
		"twice":   {`"approval": {"tools": ["mail", {"tool": "mail"}]}`, []string{"approval.tools[1]: is there already, as number 1 of the list"}},
		"condition": {`"approval": {"tools": [{"tool": "mail", "when": "amount > 5"}]}`, []string{
			"approval.tools[0].when: is no CEL condition over args, tool, server, session and principal: at column 1: undeclared reference to 'amount' (in container '')",
		}},
		"shapes": {`"approval": {"tools": [5, {"tool": "mail", "whne": "true"}, {"when": "true"}, "a b"], "timeout": "0s"}`, []string{
			"approval.timeout: is no duration above zero (allowed: such as \"30s\", \"2m\")",
			"approval.tools[0]: is a number, must be a string, or an object",
			"approval.tools[1].whne: unknown field, did you mean when?",
			"approval.tools[2].tool: is missing (" + string(spec.RuleTool) + ")",
			`approval.tools[3]: "a b" is not allowed (allowed: ` + string(spec.RuleTool) + ")",
		}},
		"a2a": {`"expose": {"a2a": {"tools": ["ask_user", "ask"], "streming": true}}`, []string{
			"expose.a2a.streming: unknown field, did you mean streaming?",
			`expose.a2a.tools[1]: "ask" is not allowed (allowed: ask_user, request_auth, reject, give_up, attach, reply)`,
		}},
		"a2a of another type": {`"expose": {"a2a": "yes"}`, []string{"expose.a2a: is a string, must be true or false, or an object"}},
		"a literal signing key": {`"expose": {"a2a": {"signingKey": "abc"}}`, []string{
			`expose.a2a.signingKey: must be {"credentialRef": "name"}: a PEM key has more than one line`,
		}},
		"keys": {`"expose": {"auth": {"keys": [{"name": "a", "key": "k"}, {"name": "A", "key": "k"}, {"name": "c", "key": ""}, {"name": "d"}]}}`, []string{
			"expose.auth.keys[3].key: is missing (a string or {\"credentialRef\": \"name\"})",
			"expose.auth.keys[1].name: is there already, as number 1 of the list (callers' names must differ, without regard to case)",
			"expose.auth.keys[1].key: is that of number 1 of the list (callers are told apart by their keys)",
			"expose.auth.keys[2].key: is empty",
		}},
		"nobody": {`"expose": {"auth": {"keys": []}}`, []string{"expose.auth.keys: is empty (leave auth out for callers on loopback addresses only)"}},
		"bounds": {`"expose": {"rateLimit": {"requestsPerMinute": 0}, "maxBodyBytes": 67108865, "cors": {"origins": ["*", "https://a.example", "https://b/x"]}}`, []string{
			`expose.cors.origins[2]: "https://b/x" is not allowed (allowed: ` + string(spec.RulePages) + ")",
			"expose.maxBodyBytes: 67108865 is out of range (allowed: a whole number from 1024 to 67108864)",
			"expose.rateLimit.requestsPerMinute: 0 is out of range (allowed: a whole number from 1 to 1000000)",
			`expose.cors.origins[0]: stands beside other origins ("*" is every one)`,
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, faults := specfile.Parse(desk(c.extra))
			var got []string
			for _, f := range faults {
				_, text, ok := strings.Cut(strings.TrimPrefix(f.String(), at), ": ")
				if !ok || !strings.HasPrefix(f.String(), at) {
					t.Errorf("no place: %s", f)
				}
				got = append(got, text)
			}
			slices.Sort(got) // they come in the order of the file
			slices.Sort(c.want)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMemoryFaults(t *testing.T) {
	for memory, want := range map[string]string{
		`{"storageType": "redis", "address": "127.0.0.1:6379"}`:               "",
		`{"storageType": "redis", "address": "rediss://r.example:6380"}`:      "",
		`{"storageType": "redis"}`:                                            "memory.json:1:1: address: is missing (storageType redis needs host:port)",
		`{"storageType": "redis", "address": "redis://u:planted@h:1"}`:        "memory.json:1:37: address: is not allowed (allowed: " + string(spec.RuleRedis) + ")",
		`{"storageType": "redis", "address": "redis:/h"}`:                     "memory.json:1:37: address: is not allowed (allowed: " + string(spec.RuleRedis) + ")",
		`{"searchStrategy": "vector"}`:                                        "memory.json:1:1: embeddingModel: is missing (searchStrategy vector needs an embedding model of the agent's model endpoint)",
		`{"searchStrategy": "hybrid", "embeddingModel": "text-embedding-v4"}`: "",
		`{"searchStrategy": "keyword", "toolPayloadBytes": 1048577}`:          "memory.json:1:51: toolPayloadBytes: 1048577 is out of range (allowed: a whole number from 0 to 1048576)",
	} {
		_, faults := specfile.Parse(append(desk(`"version": "1"`), files("desk/memory.json", memory)...))
		got := strings.TrimPrefix(strings.TrimSpace(spec.FaultsError(faults).Error()), "desk/")
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", memory, got, want)
		}
	}
}

// Inbound keys are secrets like all others: split out, named after the caller, readable as references.
func TestInboundKeys(t *testing.T) {
	set, faults := specfile.Parse(desk(`"expose": {"a2a": {"v03": true, "signingKey": "${credential:card}"}, "rateLimit": {"requestsPerMinute": 30}, "cors": {"origins": ["HTTPS://A.example:443"]},
		"auth": {"keys": [{"name": "web", "key": "planted-key"}, {"name": "ops", "key": "${credential:ops-key}", "approver": true}]}}`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	a := set.Agents[0].Spec
	literals := specfile.Literals(&a)
	if len(literals) != 1 || literals[0].Path != "expose.auth.keys[0].key" || literals[0].CredentialName != "desk.expose.auth.web" {
		t.Fatalf("%+v", literals)
	}
	literals[0].Set(spec.Value{Ref: literals[0].CredentialName})
	var refs []string
	for _, r := range a.Credentials() {
		refs = append(refs, r.Path+" "+r.Name)
	}
	want := []string{"expose.a2a.signingKey card", "expose.auth.keys[0].key desk.expose.auth.web", "expose.auth.keys[1].key ops-key"}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Error(diff)
	}
	if d := a.Destinations(); len(d) > 0 {
		t.Errorf("an inbound key is sent somewhere: %v", d)
	}
	for _, p := range a.Places() {
		if p.Path == "expose.a2a.signingKey" {
			p.Set(spec.Value{Ref: "other"})
		}
	}
	raw, err := json.Marshal(a.Expose)
	if err != nil {
		t.Fatal(err)
	}
	const whole = `{"a2a":{"push":true,"signingKey":{"credentialRef":"other"},"streaming":true,"v03":true},` +
		`"auth":{"keys":[{"name":"web","key":{"credentialRef":"desk.expose.auth.web"}},{"name":"ops","key":{"credentialRef":"ops-key"},"approver":true}]},` +
		`"rateLimit":{"requestsPerMinute":30,"burst":5},"cors":{"origins":["https://a.example"]}}`
	if diff := cmp.Diff(whole, string(raw)); diff != "" {
		t.Error(diff)
	}
	if s, open := a.Expose.A2ASettings(); !open || !s.V03 || !*s.Streaming || s.SigningKey.Ref != "other" {
		t.Errorf("%v %+v", open, s)
	}
}
