package access

import (
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
)

// AllNamespaces is the namespace of a binding that counts everywhere.
const AllNamespaces = "*"

const (
	maxSubjects    = 1000
	maxSubjectName = 256
	maxSelector    = 16
)

// Binding gives a role to subjects on a namespace, or on objects of it.
type Binding struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"` // AllNamespaces: everywhere
	Role      string `json:"role"`
	// Subjects are "user:NAME", "group:NAME" or "token:ID".
	Subjects []string `json:"subjects"`
	// Kind is agent, prompt, mcp or credential; empty: everything in the namespace.
	Kind string `json:"kind,omitempty"`
	// Object is a name, or "team-*" for every name that begins so; empty: every object of the kind.
	Object string `json:"object,omitempty"`
	// Selector is key=value pairs that the object's labels must have. Only agents have labels.
	Selector []string `json:"selector,omitempty"`
	// Condition is a CEL expression that must be true; empty: always.
	Condition string `json:"condition,omitempty"`
}

// String names the binding as people do.
func (b Binding) String() string { return b.Namespace + "/" + b.Name }

// Everywhere says whether the binding counts for the whole installation, always.
func (b Binding) Everywhere() bool {
	return b.Namespace == AllNamespaces && b.Kind == "" && b.Object == "" && len(b.Selector) == 0 && b.Condition == ""
}

// Grant is a binding that is checked and compiled. It is immutable.
type Grant struct {
	Binding

	pattern   pattern
	labels    []label
	condition *condition
}

type label struct{ key, value string }

// pattern is a name or the beginning of names, in lower case, as names are unique without case. The empty prefix is every name.
type pattern struct {
	text   string
	prefix bool
}

func patternOf(object string) pattern {
	if object == "" {
		return pattern{prefix: true}
	}
	text, isPrefix := strings.CutSuffix(strings.ToLower(object), "*")
	return pattern{text: text, prefix: isPrefix}
}

// all says whether it is every name, also of a question that asks for all of them.
func (p pattern) all() bool { return p.prefix && p.text == "" }

func (p pattern) matches(name string) bool {
	switch {
	case p.all():
		return true
	case name == "":
		return false
	case p.prefix:
		return len(name) >= len(p.text) && strings.EqualFold(name[:len(p.text)], p.text)
	}
	return strings.EqualFold(name, p.text)
}

func (p pattern) covers(o pattern) bool {
	if p.prefix {
		return strings.HasPrefix(o.text, p.text)
	}
	return p == o
}

// Grant checks and compiles a binding: errs.Invalid says all that is wrong with it. It doesn't know which roles there are.
func (c *Compiler) Grant(b Binding) (*Grant, error) {
	if err := checkBinding(b); err != nil {
		return nil, err
	}
	g := &Grant{Binding: b, pattern: patternOf(b.Object)}
	for _, s := range b.Selector {
		key, value, _ := strings.Cut(s, "=")
		g.labels = append(g.labels, label{key: key, value: value})
	}
	var err error
	g.condition, err = c.condition(b.Condition)
	return g, err
}

func checkBinding(b Binding) error {
	var faults []string
	fault := func(text string) { faults = append(faults, text) }
	if !spec.ValidName(b.Name) {
		fault("name: not a name")
	}
	if b.Namespace != AllNamespaces && !spec.ValidName(b.Namespace) {
		fault("namespace: a name, or * for all")
	}
	if !spec.ValidName(b.Role) {
		fault("role: not a name")
	}
	if len(b.Subjects) == 0 || len(b.Subjects) > maxSubjects {
		fault("subjects: one at least, 1000 at most")
	}
	for _, s := range b.Subjects {
		if err := CheckSubject(s); err != nil {
			fault(err.Error())
		}
	}
	checkPlace(b, fault)
	if len(b.Condition) > maxCondition {
		fault("condition: longer than 1024 bytes")
	}
	if len(faults) == 0 {
		return nil
	}
	return errs.New(errs.Invalid, "binding %q: %s", b.Name, strings.Join(faults, "; "))
}

// checkPlace looks at the objects that a binding is for.
func checkPlace(b Binding, fault func(string)) {
	if b.Kind != "" && !slices.Contains(kinds(), b.Kind) {
		fault("kind: one of " + strings.Join(kinds(), ", ") + ", or empty for all")
	}
	if b.Object != "" {
		if b.Kind == "" {
			fault("object: needs a kind")
		}
		if name := strings.TrimSuffix(b.Object, "*"); name != "" && !spec.ValidPromptKey(strings.TrimRight(name, "-_./")) {
			fault("object: a name, or the beginning of names with a star")
		}
	}
	if len(b.Selector) > 0 && b.Kind != "agent" {
		fault("selector: only agents have labels, so kind must be agent")
	}
	if len(b.Selector) > maxSelector {
		fault("selector: 16 pairs at most")
	}
	for _, s := range b.Selector {
		if key, _, ok := strings.Cut(s, "="); !ok || !spec.ValidName(key) {
			fault("selector: pairs of key=value")
		}
	}
}

// CheckSubject answers errs.Invalid for what is no subject of a binding.
func CheckSubject(s string) error {
	kind, name, _ := strings.Cut(s, ":")
	if kind != "user" && kind != "group" && kind != "token" {
		return errs.New(errs.Invalid, "subject %q: user:NAME, group:NAME or token:ID", s)
	}
	return CheckSubjectName(name)
}

// CheckSubjectName answers errs.Invalid for what can't be the name of a user or a group: nothing, more than 256 bytes, or text
// with characters that don't print.
func CheckSubjectName(name string) error {
	if name == "" || len(name) > maxSubjectName || strings.TrimSpace(name) != name || !printable(name) {
		return errs.New(errs.Invalid, "subject %q: a printable name of at most 256 bytes", name)
	}
	return nil
}

// matches says whether the grant's place holds an object. A place that an unspecific question leaves open doesn't.
func (g *Grant) matches(o *Object) bool {
	if g.Namespace != AllNamespaces && g.Namespace != o.Namespace {
		return false
	}
	if g.Kind != "" && g.Kind != o.Kind {
		return false
	}
	if !g.pattern.matches(o.Name) {
		return false
	}
	for _, l := range g.labels {
		if v, ok := o.Labels[l.key]; !ok || v != l.value || o.Name == "" {
			return false
		}
	}
	return !g.condition.open(o)
}

// Region is where a binding gives what it gives.
type Region struct {
	Namespace, Kind, Object string // as in Binding
	Selector                []string
}

// Region gives the binding's.
func (b Binding) Region() Region {
	return Region{Namespace: b.Namespace, Kind: b.Kind, Object: b.Object, Selector: b.Selector}
}

// covers says whether the grant's place holds a whole region.
func (g *Grant) covers(r Region) bool {
	if g.Namespace != AllNamespaces && g.Namespace != r.Namespace {
		return false
	}
	if g.Kind != "" && g.Kind != r.Kind {
		return false
	}
	if !g.pattern.covers(patternOf(r.Object)) {
		return false
	}
	for _, s := range g.Selector {
		if !slices.Contains(r.Selector, s) {
			return false
		}
	}
	return true
}
