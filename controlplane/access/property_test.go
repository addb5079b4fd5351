package access

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world draws policies and questions from so few names that they meet.
type world struct {
	c     *Compiler
	known []Permission
}

func (w world) binding(t *rapid.T, i int) Binding {
	b := Binding{
		Name:      fmt.Sprintf("b%d", i),
		Namespace: rapid.SampledFrom([]string{"*", "n1", "n2"}).Draw(t, "namespace"),
		Role:      rapid.SampledFrom([]string{"viewer", "editor", "secret-writer", "operator", "admin", "own"}).Draw(t, "role"),
		Subjects:  rapid.SliceOfN(rapid.SampledFrom([]string{"user:ada", "user:bob", "group:dev", "token:t1", "token:t2"}), 1, 3).Draw(t, "subjects"),
		Kind:      rapid.SampledFrom([]string{"", "agent", "prompt"}).Draw(t, "kind"),
	}
	if b.Kind != "" {
		b.Object = rapid.SampledFrom([]string{"", "*", "a", "A*", "team-*", "team-a"}).Draw(t, "object")
	}
	if b.Kind == "agent" {
		b.Selector = rapid.SampledFrom([][]string{nil, nil, {"team=a"}, {"team=a", "tier=1"}}).Draw(t, "selector")
	}
	b.Condition = rapid.SampledFrom([]string{
		"", "", "", `principal.kind == "user"`, `object.name != "a"`, `request.namespace != "n2"`, `request.permission != "spec.read"`, `object.labels.team == "a"`,
	}).Draw(t, "condition")
	return b
}

func (w world) policy(t *rapid.T) ([]Role, []*Grant) {
	own := Role{Name: "own", Permissions: rapid.SliceOfN(rapid.SampledFrom([]string{"spec.*", "spec.read@agent", "*@prompt", "release.write"}), 1, 3).Draw(t, "own role")}
	var grants []*Grant
	for i := range rapid.IntRange(0, 6).Draw(t, "bindings") {
		g, err := w.c.Grant(w.binding(t, i))
		if err != nil {
			t.Fatal(err)
		}
		grants = append(grants, g)
	}
	return []Role{own}, grants
}

func (w world) object(t *rapid.T) Object {
	o := Object{
		Namespace: rapid.SampledFrom([]string{"", "n1", "n2"}).Draw(t, "on namespace"),
		Kind:      rapid.SampledFrom([]string{"", "agent", "prompt", "credential"}).Draw(t, "on kind"),
	}
	if o.Kind != "" {
		o.Name = rapid.SampledFrom([]string{"", "a", "ab", "team-a", "Team-B"}).Draw(t, "on name")
	}
	if o.Kind == "agent" {
		o.Labels = rapid.SampledFrom([]map[string]string{nil, {"team": "a"}, {"team": "a", "tier": "1"}}).Draw(t, "on labels")
	}
	return o
}

func (w world) permission(t *rapid.T) string {
	return rapid.SampledFrom(w.known).Draw(t, "permission").Name
}

// holder draws a user, or a token of one.
func (w world) holder(t *rapid.T) Holder {
	h := Holder{Owner: Principal{Name: rapid.SampledFrom([]string{"user:ada", "user:bob"}).Draw(t, "owner"), Kind: User}}
	if rapid.Bool().Draw(t, "in group") {
		h.Owner.Groups = []string{"dev"}
	}
	if rapid.Bool().Draw(t, "by token") {
		h.Caller = &Principal{Name: "token:ci", Kind: Token, TokenID: "t1"}
		scopes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Scope {
			return Scope{Namespace: rapid.SampledFrom([]string{"", "n1"}).Draw(t, "scope namespace"), Role: rapid.SampledFrom([]string{"viewer", "own", "admin", "gone"}).Draw(t, "scope role")}
		}), 0, 2)
		h.Bounds = []Bound{{Token: "t1", Scopes: scopes.Draw(t, "scopes")}, {Token: "t2", Scopes: scopes.Draw(t, "scopes above")}}
	}
	return h
}

func newWorld(t *testing.T) world {
	t.Helper()
	return world{c: compiler(t), known: Permissions()}
}

func TestRemovingABindingNeverAdds(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		roles, grants := w.policy(t)
		h, permission, on := w.holder(t), w.permission(t), w.object(t)
		before := NewPolicy(roles, grants)
		for i := range grants {
			after := NewPolicy(roles, slices.Delete(slices.Clone(grants), i, i+1))
			if after.Decide(h, permission, on).Allowed && !before.Decide(h, permission, on).Allowed {
				t.Fatalf("without %s %s is allowed on %s", grants[i], permission, on)
			}
			if after.HoldsSomewhere(h, permission, on.Namespace) && !before.HoldsSomewhere(h, permission, on.Namespace) {
				t.Fatalf("without %s %s is held somewhere in %q", grants[i], permission, on.Namespace)
			}
		}
	})
}

func TestATokenNeverExceedsItsOwner(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		roles, grants := w.policy(t)
		h, permission, on := w.holder(t), w.permission(t), w.object(t)
		p := NewPolicy(roles, grants)
		owner := Holder{Owner: h.Owner}
		if p.Decide(h, permission, on).Allowed && !p.Decide(owner, permission, on).Allowed {
			t.Fatalf("the token holds %s on %s, its owner doesn't", permission, on)
		}
		for i := range h.Bounds { // and each bound takes away only
			less := h
			less.Bounds = h.Bounds[:i]
			if p.Decide(h, permission, on).Allowed && !p.Decide(less, permission, on).Allowed {
				t.Fatalf("a bound added %s on %s", permission, on)
			}
		}
	})
}

// The gate asks Somewhere before a handler asks for its objects: it must never shut out who holds something.
func TestWhoIsAllowedIsAllowedSomewhere(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		roles, grants := w.policy(t)
		h, permission, on := w.holder(t), w.permission(t), w.object(t)
		p := NewPolicy(roles, grants)
		if !p.Decide(h, permission, on).Allowed {
			return
		}
		for _, namespace := range []string{on.Namespace, ""} {
			if !p.HoldsSomewhere(h, permission, namespace) {
				t.Fatalf("%s is held on %s, but nowhere in %q", permission, on, namespace)
			}
		}
	})
}

// A binding that its maker may make gives nobody anything that the maker doesn't hold.
func TestWhatOneMayGiveOneHolds(t *testing.T) {
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		roles, grants := w.policy(t)
		h, permission, on := w.holder(t), w.permission(t), w.object(t)
		p := NewPolicy(roles, grants)
		b := w.binding(t, 99)
		b.Subjects, b.Condition = []string{"user:eve"}, ""
		role, ok := p.Role(b.Role)
		if !ok || len(p.Lacks(h, role, b.Region())) > 0 {
			return
		}
		g, err := w.c.Grant(b)
		if err != nil {
			t.Fatal(err)
		}
		given := NewPolicy(roles, []*Grant{g}).Allowed(Principal{Name: "user:eve", Kind: User}, permission, on)
		if given && !p.Decide(h, permission, on).Allowed {
			t.Fatalf("the binding gives %s on %s, which its maker doesn't hold", permission, on)
		}
	})
}

func FuzzGrant(f *testing.F) {
	f.Add("name", "*", "viewer", "user:ada", "agent", "team-*", "a=b", "true")
	f.Add("n", "default", "r", "group:x", "", "", "", `object.labels["a"] == principal.name`)
	c, err := NewCompiler()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, name, namespace, role, subject, kind, object, selector, condition string) {
		b := Binding{Name: name, Namespace: namespace, Role: role, Subjects: []string{subject}, Kind: kind, Object: object, Condition: condition}
		if selector != "" {
			b.Selector = []string{selector}
		}
		g, err := c.Grant(b)
		if err != nil {
			return
		}
		p := NewPolicy(nil, []*Grant{g})
		p.Allowed(ada, "spec.read", Object{Namespace: namespace, Kind: kind, Name: object})
		p.Somewhere(ada, "spec.read", "")
		p.Lacks(Holder{Owner: ada}, BuiltIn()[0], b.Region())
	})
}
