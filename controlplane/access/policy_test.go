package access

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agentry/agentry/internal/errs"
)

func compiler(tb testing.TB) *Compiler {
	tb.Helper()
	c, err := NewCompiler()
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// policyOf makes a policy; bindings get names where they have none.
func policyOf(tb testing.TB, roles []Role, bindings ...Binding) *Policy {
	tb.Helper()
	c := compiler(tb)
	var grants []*Grant
	for i, b := range bindings {
		if b.Name == "" {
			b.Name = fmt.Sprintf("b%d", i)
		}
		g, err := c.Grant(b)
		if err != nil {
			tb.Fatal(err)
		}
		grants = append(grants, g)
	}
	return NewPolicy(roles, grants)
}

var (
	ada   = Principal{Name: "user:ada", Kind: User, Groups: []string{"dev", "ops"}}
	bob   = Principal{Name: "user:bob", Kind: User}
	robot = Principal{Name: "token:ci", Kind: Token, TokenID: "t1"}
)

func to(subjects ...string) []string { return subjects }

func TestDecide(t *testing.T) {
	helper := Object{Namespace: "default", Kind: "agent", Name: "team-a-helper", Labels: map[string]string{"team": "a", "tier": "1"}}
	cases := map[string]struct {
		bindings   []Binding
		roles      []Role
		who        Principal
		permission string
		on         Object
		want       string // the binding's name; "": denied
	}{
		"nothing allows nothing": {who: ada, permission: "spec.read", on: helper},
		"a user on a namespace": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: helper, want: "b0",
		},
		"not what the role lacks": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"not in another namespace": {
			bindings: []Binding{{Namespace: "other", Role: "viewer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: helper,
		},
		"not another user": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("user:ada")}}, who: bob, permission: "spec.read", on: helper,
		},
		"a group": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("group:ops")}}, who: ada, permission: "spec.read", on: helper, want: "b0",
		},
		"a group's name isn't a user's": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("user:dev", "token:dev")}}, who: ada, permission: "spec.read", on: helper,
		},
		"a user's name isn't a group's": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("group:user:ada", "group:ada")}}, who: ada, permission: "spec.read", on: helper,
		},
		"a token": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("token:t1")}}, who: robot, permission: "spec.read", on: helper, want: "b0",
		},
		"a token by its name isn't": {
			bindings: []Binding{{Namespace: "default", Role: "viewer", Subjects: to("token:ci")}}, who: robot, permission: "spec.read", on: helper,
		},
		"an agent never": {
			bindings: []Binding{{Namespace: "*", Role: "admin", Subjects: to("user:agent:default/a", "group:dev")}},
			who:      Principal{Name: "agent:default/a", Kind: Agent, Groups: []string{"dev"}}, permission: "spec.read", on: helper,
		},
		"all namespaces": {
			bindings: []Binding{{Namespace: "*", Role: "viewer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: helper, want: "b0",
		},
		"the installation needs all namespaces": {
			bindings: []Binding{{Namespace: "default", Role: "admin", Subjects: to("user:ada")}}, who: ada, permission: "access.write", on: Object{},
		},
		"the installation": {
			bindings: []Binding{{Namespace: "*", Role: "admin", Subjects: to("user:ada")}}, who: ada, permission: "access.write", on: Object{}, want: "b0",
		},
		"the installation by its star": {
			bindings: []Binding{{Namespace: "*", Role: "admin", Subjects: to("user:ada")}}, who: ada, permission: "access.write", on: Object{Namespace: "*"}, want: "b0",
		},
		"a kind": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper, want: "b0",
		},
		"not another kind": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "prompt", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"a kind isn't the namespace": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: Object{Namespace: "default"},
		},
		"a name": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "Team-A-helper", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper, want: "b0",
		},
		"not another name": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-a", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"the beginning of a name": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "TEAM-a-*", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper, want: "b0",
		},
		"not another beginning": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-b-*", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"a star alone is every object": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "*", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: Object{Namespace: "default", Kind: "agent"}, want: "b0",
		},
		"a beginning isn't every object": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-*", Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: Object{Namespace: "default", Kind: "agent"},
		},
		"a selector": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("team=a", "tier=1"), Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper, want: "b0",
		},
		"a selector of which one is missing": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("team=a", "tier=2"), Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"a selector isn't every object": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("team=a"), Subjects: to("user:ada")}}, who: ada, permission: "spec.write",
			on: Object{Namespace: "default", Kind: "agent", Labels: map[string]string{"team": "a"}},
		},
		"an empty value isn't a label that is missing": {
			bindings: []Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("owner="), Subjects: to("user:ada")}}, who: ada, permission: "spec.write", on: helper,
		},
		"a role of one's own": {
			roles: []Role{{Name: "labeller", Permissions: to("prompt.*")}}, who: ada, permission: "prompt.label", on: Object{Namespace: "default", Kind: "prompt", Name: "a/b"},
			bindings: []Binding{{Namespace: "default", Role: "labeller", Kind: "prompt", Object: "a/*", Subjects: to("user:ada")}}, want: "b0",
		},
		"a role that isn't there": {
			bindings: []Binding{{Namespace: "*", Role: "labeller", Subjects: to("user:ada")}}, who: ada, permission: "prompt.label", on: helper,
		},
		"a built-in role can't be replaced": {
			roles: []Role{{Name: "viewer", Permissions: to("*")}}, who: ada, permission: "spec.write", on: helper,
			bindings: []Binding{{Namespace: "*", Role: "viewer", Subjects: to("user:ada")}},
		},
		"a permission bounded to a kind": {
			bindings: []Binding{{Namespace: "default", Role: "secret-writer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: Object{Namespace: "default", Kind: "credential", Name: "k"}, want: "b0",
		},
		"not on other kinds": {
			bindings: []Binding{{Namespace: "default", Role: "secret-writer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: helper,
		},
		"not on the namespace": {
			bindings: []Binding{{Namespace: "default", Role: "secret-writer", Subjects: to("user:ada")}}, who: ada, permission: "spec.read", on: Object{Namespace: "default"},
		},
		"of several the one that allows": {
			bindings: []Binding{
				{Namespace: "default", Role: "viewer", Subjects: to("user:ada")},
				{Namespace: "default", Role: "editor", Kind: "prompt", Subjects: to("group:dev")},
				{Namespace: "default", Role: "editor", Subjects: to("group:ops")},
			}, who: ada, permission: "spec.write", on: helper, want: "b2",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			d := policyOf(t, c.roles, c.bindings...).Decide(Holder{Owner: c.who}, c.permission, c.on)
			by := ""
			if d.By != nil {
				by = d.By.Name
			}
			if d.Allowed != (c.want != "") || by != c.want {
				t.Errorf("got %v by %q, want %q", d.Allowed, by, c.want)
			}
		})
	}
}

func TestConditions(t *testing.T) {
	helper := Object{Namespace: "default", Kind: "agent", Name: "helper", Labels: map[string]string{"team": "a"}}
	cases := map[string]struct {
		condition string
		who       Principal
		on        Object
		want      bool
	}{
		"true":                        {"true", ada, helper, true},
		"false":                       {"false", ada, helper, false},
		"the name of the caller":      {`principal.name == "user:ada"`, ada, helper, true},
		"a group":                     {`"ops" in principal.groups && principal.kind == "user"`, ada, helper, true},
		"a permission":                {`request.permission in ["spec.write", "spec.delete"]`, ada, helper, true},
		"a label":                     {`object.labels.team == "a"`, ada, helper, true},
		"a label that isn't there":    {`object.labels.owner == "a"`, ada, helper, false},
		"whether a label is there":    {`!has(object.labels.owner) && has(object.labels.team)`, ada, helper, true},
		"no labels at all":            {`object.labels.team == "a"`, ada, Object{Namespace: "default", Kind: "agent", Name: "helper"}, false},
		"a name's beginning":          {`object.name.startsWith("help")`, ada, helper, true},
		"not every object":            {`!object.name.startsWith("prod-")`, ada, Object{Namespace: "default", Kind: "agent"}, false},
		"not the namespace":           {`object.kind != "mcp"`, ada, Object{Namespace: "default"}, false},
		"not the installation":        {`request.namespace != "prod"`, ada, Object{}, false},
		"a namespace":                 {`request.namespace != "prod"`, ada, Object{Namespace: "default"}, true},
		"that costs too much":         {expensive(), ada, helper, false},
		"that ends in an error":       {`principal.groups[7] == "x"`, ada, helper, false},
		"an error that doesn't count": {`principal.groups[7] == "x" || true`, ada, helper, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := policyOf(t, nil, Binding{Namespace: "*", Role: "admin", Subjects: to("user:ada"), Condition: c.condition})
			if got := p.Allowed(c.who, "spec.write", c.on); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// expensive is a condition whose cost is above the limit although it is short.
func expensive() string {
	list := "[" + strings.Repeat("1,", 29) + "1]"
	return list + `.all(a, ` + list + `.all(b, ` + list + `.all(c, a + b + c > 0)))`
}

func TestGrantRefuses(t *testing.T) {
	good := Binding{Name: "b", Namespace: "default", Role: "viewer", Subjects: to("user:ada")}
	with := func(f func(*Binding)) Binding {
		b := good
		f(&b)
		return b
	}
	cases := map[string]struct {
		binding Binding
		want    string
	}{
		"no name":                     {with(func(b *Binding) { b.Name = "" }), "name"},
		"a name with a slash":         {with(func(b *Binding) { b.Name = "a/b" }), "name"},
		"no namespace":                {with(func(b *Binding) { b.Namespace = "" }), "namespace"},
		"no role":                     {with(func(b *Binding) { b.Role = "" }), "role"},
		"no subjects":                 {with(func(b *Binding) { b.Subjects = nil }), "subjects"},
		"a subject without kind":      {with(func(b *Binding) { b.Subjects = to("ada") }), "subject"},
		"a subject without name":      {with(func(b *Binding) { b.Subjects = to("user:") }), "subject"},
		"a subject of another kind":   {with(func(b *Binding) { b.Subjects = to("agent:x") }), "subject"},
		"a subject that hides":        {with(func(b *Binding) { b.Subjects = to("user:ada\u200b") }), "subject"},
		"a kind that isn't":           {with(func(b *Binding) { b.Kind = "agents" }), "kind"},
		"an object without kind":      {with(func(b *Binding) { b.Object = "x" }), "object"},
		"a star in the middle":        {with(func(b *Binding) { b.Kind, b.Object = "agent", "a*b" }), "object"},
		"a selector of prompts":       {with(func(b *Binding) { b.Kind, b.Selector = "prompt", to("a=b") }), "selector"},
		"a selector without kind":     {with(func(b *Binding) { b.Selector = to("a=b") }), "selector"},
		"a selector that is no pair":  {with(func(b *Binding) { b.Kind, b.Selector = "agent", to("a") }), "selector"},
		"a condition of nothing":      {with(func(b *Binding) { b.Condition = "principal.nmae == ''" }), "condition"},
		"a condition that is a text":  {with(func(b *Binding) { b.Condition = "principal.name" }), "condition"},
		"a condition that ends early": {with(func(b *Binding) { b.Condition = "principal.name ==" }), "condition"},
		"a condition without end":     {with(func(b *Binding) { b.Condition = strings.Repeat("true || ", 200) + "true" }), "condition"},
	}
	c := compiler(t)
	if _, err := c.Grant(good); err != nil {
		t.Fatal(err)
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := c.Grant(tc.binding); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s named", err, tc.want)
			}
		})
	}
}

func TestTokensLeaveOfTheirOwners(t *testing.T) {
	helper := Object{Namespace: "default", Kind: "agent", Name: "helper"}
	owner := []Binding{{Namespace: "default", Role: "editor", Subjects: to("user:ada")}}
	bound := func(scopes ...Scope) Bound { return Bound{Token: "t1", Scopes: scopes} }
	cases := map[string]struct {
		bindings   []Binding
		owner      Principal
		bounds     []Bound
		permission string
		on         Object
		want       bool
	}{
		"without scopes all":            {owner, ada, []Bound{bound()}, "spec.write", helper, true},
		"never more":                    {owner, ada, []Bound{bound()}, "release.write", helper, false},
		"a scope leaves its role":       {owner, ada, []Bound{bound(Scope{Namespace: "default", Role: "viewer"})}, "spec.read", helper, true},
		"and not the rest":              {owner, ada, []Bound{bound(Scope{Namespace: "default", Role: "viewer"})}, "spec.write", helper, false},
		"a scope gives nothing":         {owner, ada, []Bound{bound(Scope{Role: "admin"})}, "release.write", helper, false},
		"in its namespace":              {owner, ada, []Bound{bound(Scope{Namespace: "other", Role: "editor"})}, "spec.write", helper, false},
		"a scope of all namespaces":     {owner, ada, []Bound{bound(Scope{Namespace: "*", Role: "editor"})}, "spec.write", helper, true},
		"one of several scopes":         {owner, ada, []Bound{bound(Scope{Role: "viewer"}, Scope{Namespace: "default", Role: "editor"})}, "spec.write", helper, true},
		"a role that isn't there":       {owner, ada, []Bound{bound(Scope{Role: "gone"})}, "spec.read", helper, false},
		"all bounds count":              {owner, ada, []Bound{bound(), {Token: "t0", Scopes: []Scope{{Role: "viewer"}}}}, "spec.write", helper, false},
		"a binding widens the scopes":   {append(owner, Binding{Namespace: "default", Role: "editor", Kind: "agent", Object: "helper", Subjects: to("token:t1")}), ada, []Bound{bound(Scope{Role: "viewer"})}, "spec.write", helper, true},
		"as far as the owner holds it":  {append(owner, Binding{Namespace: "default", Role: "operator", Subjects: to("token:t1")}), ada, []Bound{bound(Scope{Role: "viewer"})}, "release.write", helper, false},
		"another's binding doesn't":     {append(owner, Binding{Namespace: "default", Role: "editor", Subjects: to("token:t2")}), ada, []Bound{bound(Scope{Role: "viewer"})}, "spec.write", helper, false},
		"the dev token's holds all":     {nil, Principal{Name: "dev", Kind: Dev, Admin: true}, []Bound{bound()}, "access.write", Object{}, true},
		"and is bounded all the same":   {nil, Principal{Name: "dev", Kind: Dev, Admin: true}, []Bound{bound(Scope{Role: "viewer"})}, "access.write", Object{}, false},
		"without the door it is nobody": {nil, Principal{Name: "dev", Kind: Dev}, []Bound{bound()}, "spec.read", helper, false},
		"a scope of a namespace":        {nil, Principal{Name: "dev", Kind: Dev, Admin: true}, []Bound{bound(Scope{Namespace: "default", Role: "admin"})}, "access.write", Object{}, false},
		"a token that is its own owner": {[]Binding{{Namespace: "*", Role: "admin", Subjects: to("token:t1")}}, Principal{Name: "token:t1", Kind: Token, TokenID: "t1"}, []Bound{bound()}, "access.write", Object{}, true},
		"a condition holds for both":    {[]Binding{{Namespace: "default", Role: "editor", Subjects: to("user:ada"), Condition: `principal.kind == "user"`}}, ada, []Bound{bound()}, "spec.write", helper, false},
		"a condition that both satisfy": {[]Binding{{Namespace: "default", Role: "editor", Subjects: to("user:ada"), Condition: `principal.kind != "dev"`}}, ada, []Bound{bound()}, "spec.write", helper, true},
		"the token alone doesn't do":    {[]Binding{{Namespace: "default", Role: "editor", Subjects: to("user:ada"), Condition: `principal.kind == "token"`}}, ada, []Bound{bound()}, "spec.write", helper, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := Holder{Owner: c.owner, Caller: &Principal{Name: "token:ci", Kind: Token, TokenID: "t1"}, Bounds: c.bounds}
			if got := policyOf(t, nil, c.bindings...).Decide(h, c.permission, c.on).Allowed; got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestNobodyGivesAwayMoreThanTheyHold(t *testing.T) {
	everywhere := Region{Namespace: "*"}
	inDefault := Region{Namespace: "default"}
	editor := Role{Permissions: to("spec.write")}
	cases := map[string]struct {
		has  []Binding
		role Role
		in   Region
		want bool // holds all of it
	}{
		"nothing":                          {nil, editor, inDefault, false},
		"the same":                         {[]Binding{{Namespace: "default", Role: "editor"}}, editor, inDefault, true},
		"from all namespaces one":          {[]Binding{{Namespace: "*", Role: "editor"}}, editor, inDefault, true},
		"from one namespace not all":       {[]Binding{{Namespace: "default", Role: "editor"}}, editor, everywhere, false},
		"from the namespace an object":     {[]Binding{{Namespace: "default", Role: "editor"}}, editor, Region{Namespace: "default", Kind: "agent", Object: "a"}, true},
		"from an object not the namespace": {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "a"}}, editor, inDefault, false},
		"from a beginning a longer one":    {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-*"}}, editor, Region{Namespace: "default", Kind: "agent", Object: "Team-a-*"}, true},
		"from a beginning a name":          {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-*"}}, editor, Region{Namespace: "default", Kind: "agent", Object: "team-a"}, true},
		"not a shorter one":                {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-*"}}, editor, Region{Namespace: "default", Kind: "agent", Object: "te*"}, false},
		"from a name not what begins so":   {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Object: "team"}}, editor, Region{Namespace: "default", Kind: "agent", Object: "team*"}, false},
		"from a selector a narrower one":   {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("team=a")}}, editor, Region{Namespace: "default", Kind: "agent", Selector: to("tier=1", "team=a")}, true},
		"not a wider one":                  {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent", Selector: to("team=a")}}, editor, Region{Namespace: "default", Kind: "agent"}, false},
		"another kind":                     {[]Binding{{Namespace: "default", Role: "editor", Kind: "agent"}}, editor, Region{Namespace: "default", Kind: "mcp"}, false},
		"of several bindings together": {
			[]Binding{{Namespace: "default", Role: "editor"}, {Namespace: "default", Role: "approver"}}, Role{Permissions: to("spec.write", "mcp.approve")}, inDefault, true,
		},
		"everything": {[]Binding{{Namespace: "*", Role: "admin"}}, Role{Permissions: to("*")}, everywhere, true},
		"everything there is today isn't everything": {[]Binding{{Namespace: "*", Role: "all"}}, Role{Permissions: to("*")}, everywhere, false},
		"in one kind, what is bounded to it": {
			[]Binding{{Namespace: "default", Role: "secret-writer"}}, Role{Permissions: to("spec.read")}, Region{Namespace: "default", Kind: "credential"}, true,
		},
		"a condition that holds":       {[]Binding{{Namespace: "default", Role: "editor", Condition: `principal.name == "user:ada"`}}, editor, inDefault, true},
		"a condition that doesn't":     {[]Binding{{Namespace: "default", Role: "editor", Condition: `principal.name == "user:bob"`}}, editor, inDefault, false},
		"a condition on objects":       {[]Binding{{Namespace: "default", Role: "editor", Condition: `object.name != "x"`}}, editor, inDefault, false},
		"a condition on the namespace": {[]Binding{{Namespace: "*", Role: "editor", Condition: `request.namespace != "prod"`}}, editor, everywhere, false},
		"a condition on one permission of many": {
			[]Binding{{Namespace: "default", Role: "admin", Condition: `request.permission != "spec.delete"`}}, Role{Permissions: to("spec.*")}, inDefault, false,
		},
		"a condition on the permission": {
			[]Binding{{Namespace: "default", Role: "admin", Condition: `request.permission != "spec.delete"`}}, Role{Permissions: to("spec.read")}, inDefault, true,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for i := range c.has {
				c.has[i].Subjects = to("user:ada")
			}
			p := policyOf(t, []Role{{Name: "all", Permissions: all()}}, c.has...)
			if lacks := p.Lacks(Holder{Owner: ada}, c.role, c.in); (len(lacks) == 0) != c.want {
				t.Errorf("lacks %v", lacks)
			}
		})
	}
}

func TestDecideDoesNotAllocate(t *testing.T) {
	p := policyOf(t, nil, Binding{Namespace: "default", Role: "viewer", Subjects: to("group:ops")}, Binding{Namespace: "default", Role: "editor", Kind: "agent", Object: "team-*", Subjects: to("user:ada")})
	on := Object{Namespace: "default", Kind: "agent", Name: "Team-a"}
	if n := testing.AllocsPerRun(100, func() {
		if !p.Allowed(ada, "spec.write", on) || p.Allowed(ada, "release.write", on) || !p.Somewhere(ada, "spec.read", "default") {
			t.Error("wrong answer")
		}
	}); n > 0 {
		t.Errorf("%v allocations for three questions", n)
	}
}
