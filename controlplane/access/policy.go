package access

import (
	"slices"
	"strings"
	"unicode"
)

// Scope bounds a token to what a role holds in a namespace.
type Scope struct {
	Namespace string `json:"namespace,omitempty"` // empty or AllNamespaces: all
	Role      string `json:"role"`
}

// Bound is what a token leaves of what its owner holds: what one of the scopes holds, or one of the bindings of the token itself.
// Without scopes it leaves everything.
type Bound struct {
	Token  string  `json:"token"` // the token's id
	Scopes []Scope `json:"scopes,omitempty"`
}

// Holder is whom a Policy decides for.
type Holder struct {
	// Owner is whose bindings count.
	Owner Principal
	// Caller is who speaks for the owner, such as a token; nil: the owner itself. A binding's condition must hold for both.
	Caller *Principal
	// Bounds must all leave what is asked for: a token's own, and those of the tokens that it was made with.
	Bounds []Bound
}

// Decision is what a Policy says to a question.
type Decision struct {
	Allowed bool
	// By is the binding that allows it; nil for an administrator by other means than a binding, or where nothing does.
	By *Binding
	// Bounded is true where the owner holds it, but its token doesn't.
	Bounded bool
}

// Policy is the roles and bindings of one moment. It is immutable and safe for concurrent use.
type Policy struct {
	roles    map[string]Role
	sets     map[string]*permissions
	users    map[string][]entry // by "user:NAME"
	groups   map[string][]entry // by NAME
	tokens   map[string][]entry // by ID
	bindings []Binding
}

// entry is a grant with what its role holds.
type entry struct {
	*Grant

	set *permissions
}

// NewPolicy makes a Policy of the built-in roles, the given ones and the grants. A grant of a role that doesn't exist gives nothing.
func NewPolicy(custom []Role, grants []*Grant) *Policy {
	p := &Policy{
		roles: map[string]Role{}, sets: map[string]*permissions{},
		users: map[string][]entry{}, groups: map[string][]entry{}, tokens: map[string][]entry{},
	}
	for _, r := range slices.Concat(custom, BuiltIn()) { // built-in ones last: they can't be replaced
		p.roles[r.Name], p.sets[r.Name] = r, permissionsOf(r)
	}
	grants = slices.Clone(grants)
	slices.SortFunc(grants, func(a, b *Grant) int { return strings.Compare(a.String(), b.String()) })
	for _, g := range grants {
		p.bindings = append(p.bindings, g.Binding)
		set := p.sets[g.Role]
		if set == nil {
			continue
		}
		for _, s := range slices.Compact(slices.Sorted(slices.Values(g.Subjects))) {
			e := entry{Grant: g, set: set}
			kind, name, _ := strings.Cut(s, ":")
			switch kind {
			case "user":
				p.users[s] = append(p.users[s], e)
			case "group":
				p.groups[name] = append(p.groups[name], e)
			case "token":
				p.tokens[name] = append(p.tokens[name], e)
			}
		}
	}
	return p
}

// Role gives a role by its name.
func (p *Policy) Role(name string) (Role, bool) {
	r, ok := p.roles[name]
	return r, ok
}

// Roles gives the built-in roles in their order, then the others by name.
func (p *Policy) Roles() []Role {
	out := BuiltIn()
	own := make([]Role, 0, len(p.roles))
	for _, r := range p.roles {
		if !r.BuiltIn {
			own = append(own, r)
		}
	}
	slices.SortFunc(own, func(a, b Role) int { return strings.Compare(a.Name, b.Name) })
	return append(out, own...)
}

// Bindings gives every binding by namespace and name. They belong to the policy.
func (p *Policy) Bindings() []Binding { return p.bindings }

// Of gives the bindings that count for a principal, by namespace and name.
func (p *Policy) Of(who Principal) []Binding {
	var out []Binding
	p.each(&who, func(e entry) bool {
		out = append(out, e.Binding)
		return true
	})
	slices.SortFunc(out, func(a, b Binding) int { return strings.Compare(a.String(), b.String()) })
	return slices.CompactFunc(out, func(a, b Binding) bool { return a.String() == b.String() })
}

// each calls f with what is bound to a principal until f answers false.
func (p *Policy) each(who *Principal, f func(entry) bool) {
	switch who.Kind {
	case User:
		for _, e := range p.users[who.Name] {
			if !f(e) {
				return
			}
		}
		for _, g := range who.Groups {
			for _, e := range p.groups[g] {
				if !f(e) {
					return
				}
			}
		}
	case Token:
		for _, e := range p.tokens[who.TokenID] {
			if !f(e) {
				return
			}
		}
	case Dev, Agent: // the one holds everything, the other nothing by bindings
	}
}

// Allowed says whether a principal holds a permission on an object, as Decide does for it alone.
func (p *Policy) Allowed(who Principal, permission string, o Object) bool {
	return p.Decide(Holder{Owner: who}, permission, o).Allowed
}

// Somewhere says whether a principal holds a permission on anything of a namespace; "": of any.
func (p *Policy) Somewhere(who Principal, permission, namespace string) bool {
	return p.HoldsSomewhere(Holder{Owner: who}, permission, namespace)
}

// Decide says whether a holder has a permission on an object. Everything is denied that no binding allows.
func (p *Policy) Decide(h Holder, permission string, o Object) Decision {
	if o.Namespace == AllNamespaces {
		o.Namespace = ""
	}
	d, left := Decision{Allowed: h.Owner.Admin}, newBudget()
	if !d.Allowed {
		p.each(&h.Owner, func(e entry) bool {
			if e.set.holds(permission, o.Kind) && e.matches(&o) && h.meets(e.condition, permission, &o, left) {
				d = Decision{Allowed: true, By: &e.Binding}
			}
			return !d.Allowed
		})
	}
	if !d.Allowed {
		return d
	}
	for i := range h.Bounds {
		if !p.leaves(h, &h.Bounds[i], permission, &o, left) {
			return Decision{Bounded: true}
		}
	}
	return d
}

// meets says whether a condition holds for everybody who takes part in a call.
func (h *Holder) meets(c *condition, permission string, o *Object, left *budget) bool {
	if c == nil {
		return true
	}
	owner, on := h.Owner, *o // copies: what CEL sees goes to the heap, and most bindings have no condition
	q := &question{principal: &owner, permission: permission, object: &on}
	if !c.holds(q, left) {
		return false
	}
	q.principal = h.Caller
	return h.Caller == nil || c.holds(q, left)
}

// leaves says whether a bound leaves a permission on an object.
func (p *Policy) leaves(h Holder, b *Bound, permission string, o *Object, left *budget) bool {
	if len(b.Scopes) == 0 {
		return true
	}
	for _, s := range b.Scopes {
		if set := p.sets[s.Role]; set != nil && s.in(o.Namespace) && set.holds(permission, o.Kind) {
			return true
		}
	}
	return slices.ContainsFunc(p.tokens[b.Token], func(e entry) bool {
		return e.set.holds(permission, o.Kind) && e.matches(o) && h.meets(e.condition, permission, o, left)
	})
}

// in says whether the scope holds a namespace; "": all of them.
func (s Scope) in(namespace string) bool {
	return s.Namespace == "" || s.Namespace == AllNamespaces || s.Namespace == namespace
}

// HoldsSomewhere says whether a holder has a permission on anything of a namespace ("": of any), as far as that can be said without
// an object: it is the check before the one that counts.
func (p *Policy) HoldsSomewhere(h Holder, permission, namespace string) bool {
	if namespace == AllNamespaces {
		namespace = ""
	}
	left := newBudget()
	reaches := func(e entry) bool {
		if !e.set.any(permission) || (namespace != "" && e.Namespace != AllNamespaces && e.Namespace != namespace) {
			return false
		}
		o := Object{Namespace: namespace}
		// Conditions of other namespaces may have used the budget up: then the check that counts decides.
		return e.condition.open(&o) || h.meets(e.condition, permission, &o, left) || left.spent()
	}
	yes := h.Owner.Admin
	if !yes {
		p.each(&h.Owner, func(e entry) bool {
			yes = reaches(e)
			return !yes
		})
	}
	for i := 0; i < len(h.Bounds) && yes; i++ {
		b := &h.Bounds[i]
		yes = len(b.Scopes) == 0 || slices.ContainsFunc(p.tokens[b.Token], reaches) || slices.ContainsFunc(b.Scopes, func(s Scope) bool {
			set := p.sets[s.Role]
			return set != nil && (namespace == "" || s.in(namespace)) && set.any(permission)
		})
	}
	return yes
}

// Lacks gives those of a role's permissions that a holder doesn't have on the whole of a region: who makes a binding must have all
// that it gives, where it gives it. A binding with a condition that looks at the object covers nothing here.
func (p *Policy) Lacks(h Holder, r Role, in Region) []string {
	return slices.DeleteFunc(slices.Clone(r.Permissions), func(pattern string) bool { return p.covers(h, pattern, in) })
}

func (p *Policy) covers(h Holder, pattern string, in Region) bool {
	namespace := in.Namespace
	if namespace == AllNamespaces {
		namespace = ""
	}
	left := newBudget()
	covers := func(e entry) bool {
		if !e.set.covers(bounded(pattern, in.Kind)) || !e.covers(in) {
			return false
		}
		o := Object{Namespace: namespace, Kind: in.Kind}
		permission, _, _ := strings.Cut(pattern, "@")
		if e.condition.open(&o) || (e.condition != nil && e.condition.permission && strings.HasSuffix(permission, "*")) {
			return false
		}
		return h.meets(e.condition, permission, &o, left)
	}
	yes := h.Owner.Admin
	if !yes {
		p.each(&h.Owner, func(e entry) bool {
			yes = covers(e)
			return !yes
		})
	}
	for i := 0; i < len(h.Bounds) && yes; i++ {
		b := &h.Bounds[i]
		yes = len(b.Scopes) == 0 || slices.ContainsFunc(p.tokens[b.Token], covers) || slices.ContainsFunc(b.Scopes, func(s Scope) bool {
			set := p.sets[s.Role]
			return set != nil && s.in(namespace) && set.covers(bounded(pattern, in.Kind))
		})
	}
	return yes
}

// bounded gives a pattern as it counts in a region of one kind: there, "spec.read" is no more than "spec.read@agent".
func bounded(pattern, kind string) string {
	if kind == "" || strings.Contains(pattern, "@") {
		return pattern
	}
	return pattern + "@" + kind
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
}

var _ Rules = (*Policy)(nil)
