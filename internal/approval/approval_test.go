package approval_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/agentry/agentry/internal/approval"
	"github.com/agentry/agentry/internal/spec"
)

func TestNeeds(t *testing.T) {
	policy, faults := approval.Compile([]spec.ApprovalTool{
		{Tool: "shop/refund", When: `args.amount > 100`},
		{Tool: "shop/refund", When: `!(principal in ["alice", "bob"]) && args.amount > 10.5`},
		{Tool: "shop/close"},
		{Tool: "db"},
		{Tool: "mail", When: `tool.startsWith("send") && args.to.exists(t, !t.endsWith("@example.com"))`},
		{Tool: "any/cast", When: `args.sure`},
		{Tool: "any/session", When: `session == "" || server != "any"`},
		{Tool: "any/slow", When: `args.a.all(x, args.a.all(y, args.a.all(z, x + y + z >= 0)))`},
		{Tool: "any/id", When: `args.id == 9007199254740993`},
	})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	cases := map[string]struct {
		server, tool, args, session, principal string
		want                                   string // "": no consent
	}{
		"below":                    {"shop", "refund", `{"amount": 100}`, "s", "alice", ""},
		"above":                    {"shop", "refund", `{"amount": 100.5}`, "s", "alice", "shop/refund needs consent: args.amount > 100"},
		"the second rule":          {"shop", "refund", `{"amount": 11}`, "s", "eve", `shop/refund needs consent: !(principal in ["alice", "bob"]) && args.amount > 10.5`},
		"missing argument":         {"shop", "refund", `{}`, "s", "alice", "shop/refund needs consent: args.amount > 100 can't be evaluated (no such key: amount)"},
		"another type":             {"shop", "refund", `{"amount": "7"}`, "s", "alice", "shop/refund needs consent: args.amount > 100 can't be evaluated (no such overload)"},
		"null":                     {"shop", "refund", `{"amount": null}`, "s", "alice", "shop/refund needs consent: args.amount > 100 can't be evaluated (no such overload: _>_)"},
		"no object":                {"shop", "refund", `null`, "s", "alice", "shop/refund needs consent: the arguments are no object"},
		"always":                   {"shop", "close", `null`, "", "", "shop/close always needs consent"},
		"another tool":             {"shop", "open", `{}`, "", "", ""},
		"another server":           {"shop2", "refund", `{"amount": 1000}`, "", "", ""},
		"case counts":              {"shop", "Refund", `{"amount": 1000}`, "", "", ""},
		"a whole server":           {"db", "drop", `{}`, "", "", "db always needs consent"},
		"a server's condition":     {"mail", "send_all", `{"to": ["a@example.com", "b@example.org"]}`, "", "", `mail needs consent: tool.startsWith("send") && args.to.exists(t, !t.endsWith("@example.com"))`},
		"a server's other tool":    {"mail", "list", `{"to": 1}`, "", "", ""},
		"no boolean":               {"any", "cast", `{"sure": "yes"}`, "", "", "any/cast needs consent: args.sure is neither true nor false"},
		"a boolean":                {"any", "cast", `{"sure": false}`, "", "", ""},
		"session":                  {"any", "session", `{}`, "s", "", ""},
		"no session":               {"any", "session", `{}`, "", "", `any/session needs consent: session == "" || server != "any"`},
		"too much work":            {"any", "slow", `{"a": [` + strings.Repeat("1,", 200) + `1]}`, "", "", "any/slow needs consent: args.a.all(x, args.a.all(y, args.a.all(z, x + y + z >= 0))) can't be evaluated (operation cancelled: actual cost limit exceeded)"},
		"a tool without its rules": {"any", "other", `{}`, "", "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var args map[string]any
			if err := json.Unmarshal([]byte(c.args), &args); err != nil {
				t.Fatal(err)
			}
			why, needed := policy.Needs(c.server, c.tool, args, c.session, c.principal)
			if why != c.want || needed != (c.want != "") {
				t.Errorf("%v %q, want %q", needed, why, c.want)
			}
		})
	}
	var none *approval.Policy
	if why, needed := none.Needs("shop", "refund", nil, "", ""); needed || why != "" {
		t.Error("no policy asks for consent")
	}
}

// Numbers read with UseNumber are numbers too.
func TestNumbers(t *testing.T) {
	policy, faults := approval.Compile([]spec.ApprovalTool{{Tool: "s/t", When: `args.n > 5 && args.deep[0].n > 5`}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for in, want := range map[string]bool{
		`{"n": 6, "deep": [{"n": 6}]}`: true, `{"n": 6.5, "deep": [{"n": 5e1}]}`: true, `{"n": 4, "deep": [{"n": 6}]}`: false,
		`{"n": 123456789012345678901234567890, "deep": [{"n": 6}]}`: true,
	} {
		d := json.NewDecoder(strings.NewReader(in))
		d.UseNumber()
		var args map[string]any
		if err := d.Decode(&args); err != nil {
			t.Fatal(err)
		}
		if why, needed := policy.Needs("s", "t", args, "", ""); needed != want {
			t.Errorf("%s: %v %q", in, needed, why)
		}
		if _, ok := args["n"].(json.Number); !ok {
			t.Error("the caller's arguments were changed")
		}
	}
}

func TestFaults(t *testing.T) {
	const no = "is no CEL condition over args, tool, server, session and principal: "
	cases := map[string]string{
		"args.amount >":            no + "at column 14: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
		"amount > 5":               no + "at column 1: undeclared reference to 'amount' (in container '')",
		"args.amount + 5":          "gives int (a CEL condition is true or false)",
		`"yes"`:                    "gives string (a CEL condition is true or false)",
		"5 + true == 1":            no + "at column 3: found no matching overload for '_+_' applied to '(int, bool)'",
		`tool.matches("(")`:        "",
		strings.Repeat("a", 1025):  "has 1025 characters (at most 1024 are allowed)",
		strings.Repeat("(", 500):   "",
		"now() > args.then":        no + "at column 4: undeclared reference to 'now' (in container '')",
		"args.amount > 5":          "ok",
		"\"中\" == args[\"中\"]":     "ok",
		"args.a ? args.b : args.c": "ok",
	}
	for when, want := range cases {
		t.Run(when[:min(len(when), 30)], func(t *testing.T) {
			policy, faults := approval.Compile([]spec.ApprovalTool{{Tool: "x"}, {Tool: "s/t", When: when}})
			if want == "ok" {
				if len(faults) > 0 {
					t.Error(faults)
				}
				return
			}
			if len(faults) != 1 || faults[0].Path != "approval.tools[1].when" || (want != "" && faults[0].Message != want) {
				t.Errorf("%v", faults)
			}
			if _, needed := policy.Needs("s", "t", map[string]any{}, "", ""); !needed {
				t.Error("a faulty condition asks for no consent")
			}
		})
	}
}

func TestRulesKeepOrder(t *testing.T) {
	policy, _ := approval.Compile([]spec.ApprovalTool{{Tool: "s", When: "false"}, {Tool: "s/t", When: "true"}, {Tool: "s"}})
	why, _ := policy.Needs("s", "t", map[string]any{}, "", "")
	if diff := cmp.Diff("s/t needs consent: true", why); diff != "" {
		t.Error(diff)
	}
}

// FuzzCondition: no text and no arguments crash the policy, and why is one short line.
func FuzzCondition(f *testing.F) {
	f.Add("args.amount > 100", `{"amount": 5}`)
	f.Add("args.a.all(x, x.b == 1)", `{"a": [{"b": 1}]}`)
	f.Add(`tool.matches("(a+)+$") || args["\u0000"]`, `{"a": [[[[1e400]]]]}`)
	f.Add("1/0 == 1 || [1][5] > 2 || args == null", `null`)
	f.Fuzz(func(t *testing.T, when, text string) {
		policy, faults := approval.Compile([]spec.ApprovalTool{{Tool: "s/t", When: when}})
		var args map[string]any
		if json.Unmarshal([]byte(text), &args) != nil {
			args = nil
		}
		why, needed := policy.Needs("s", "t", args, "x", "y")
		if needed != (why != "") || len(why) > 400 || strings.Contains(why, "\n") || !utf8.ValidString(why) {
			t.Errorf("%v %q", needed, why)
		}
		if len(faults) > 0 && !needed {
			t.Error("a faulty condition asks for no consent")
		}
	})
}

func BenchmarkNeeds(b *testing.B) {
	policy, _ := approval.Compile([]spec.ApprovalTool{{Tool: "s/t", When: `args.amount > 100 && principal != "root"`}})
	args := map[string]any{"amount": 5.0}
	for b.Loop() {
		policy.Needs("s", "t", args, "x", "y")
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		approval.Compile([]spec.ApprovalTool{{Tool: "s/t", When: `args.amount > 100 && principal != "root"`}})
	}
}
