package access

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/agentry/agentry/internal/errs"
)

const (
	maxCondition = 1024   // bytes of an expression
	maxNodes     = 200    // of its syntax tree
	maxCost      = 2_000  // of one evaluation, in CEL's units: about a comparison each
	maxCosts     = 10_000 // of all evaluations of one decision, so that many bindings aren't a way around maxCost
	attributes   = "principal.name, principal.kind, principal.groups, request.permission, request.namespace, object.kind, object.name, object.labels"
)

// Compiler makes bindings ready to be asked. It is safe for concurrent use.
type Compiler struct {
	env   *cel.Env
	known []Permission
}

// NewCompiler makes a Compiler.
func NewCompiler() (*Compiler, error) {
	env, err := cel.NewEnv(
		// Each attribute is a variable of its own, so that a misspelt one is found when a binding is written.
		cel.Variable("principal.name", cel.StringType),
		cel.Variable("principal.kind", cel.StringType),
		cel.Variable("principal.groups", cel.ListType(cel.StringType)),
		cel.Variable("request.permission", cel.StringType),
		cel.Variable("request.namespace", cel.StringType),
		cel.Variable("object.kind", cel.StringType),
		cel.Variable("object.name", cel.StringType),
		cel.Variable("object.labels", cel.MapType(cel.StringType, cel.StringType)),
		cel.ParserExpressionSizeLimit(maxCondition),
		cel.ExpressionNodeLimit(maxNodes),
	)
	if err != nil {
		return nil, fmt.Errorf("conditions: %w", err)
	}
	return &Compiler{env: env, known: Permissions()}, nil
}

// condition is a compiled expression. A nil one always holds.
type condition struct {
	program cel.Program
	// Which parts of a question it looks at. What a question leaves open can't be judged, and so isn't allowed.
	object, namespace, permission bool
}

func (c *Compiler) condition(text string) (*condition, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no condition is a condition that always holds
	}
	ast, issues := c.env.Compile(text)
	if issues.Err() != nil {
		return nil, errs.New(errs.Invalid, "condition: %s (there are %s)", faultsOf(issues), attributes)
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return nil, errs.New(errs.Invalid, "condition: it gives a %s, not true or false", ast.OutputType())
	}
	out := &condition{}
	for _, ref := range ast.NativeRep().ReferenceMap() {
		switch ref.Name {
		case "object.kind", "object.name", "object.labels":
			out.object = true
		case "request.namespace":
			out.namespace = true
		case "request.permission":
			out.permission = true
		}
	}
	var err error
	out.program, err = c.env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, errs.New(errs.Invalid, "condition: %w", err)
	}
	return out, nil
}

// faultsOf gives on one line what CEL has to say, three faults at most.
func faultsOf(issues *cel.Issues) string {
	var out []string
	for _, e := range issues.Errors() {
		out = append(out, fmt.Sprintf("at %d:%d %s", e.Location.Line(), e.Location.Column()+1, e.Message))
	}
	return strings.Join(out[:min(3, len(out))], "; ")
}

// question is what a condition sees of a check.
type question struct {
	principal  *Principal
	permission string
	object     *Object
}

// ResolveName gives an attribute to CEL.
func (q *question) ResolveName(name string) (any, bool) {
	switch name {
	case "principal.name":
		return q.principal.Name, true
	case "principal.kind":
		return string(q.principal.Kind), true
	case "principal.groups":
		return q.principal.Groups, true
	case "request.permission":
		return q.permission, true
	case "request.namespace":
		return q.object.Namespace, true
	case "object.kind":
		return q.object.Kind, true
	case "object.name":
		return q.object.Name, true
	case "object.labels":
		return q.object.Labels, true
	}
	return nil, false
}

// Parent is none.
func (*question) Parent() cel.Activation { return nil }

// open says whether the question leaves open what the condition looks at.
func (c *condition) open(o *Object) bool {
	return c != nil && ((c.object && o.Name == "") || (c.namespace && o.Namespace == ""))
}

// budget is what the conditions of one decision may still cost.
type budget struct{ left uint64 }

func newBudget() *budget { return &budget{left: maxCosts} }

// spent says whether nothing is left: a condition that would be evaluated now doesn't hold.
func (b *budget) spent() bool { return b.left == 0 }

// holds says whether the condition is true, and takes what that costs. An error, such as a cost that is too high or a label that isn't
// there, is no.
func (c *condition) holds(q *question, b *budget) bool {
	if c == nil {
		return true
	}
	if b.spent() {
		return false
	}
	out, details, err := c.program.Eval(q)
	cost := uint64(maxCost) // of what was broken off
	if actual := details.ActualCost(); err == nil && actual != nil {
		cost = *actual
	}
	b.left -= min(b.left, max(cost, 1))
	if err != nil {
		return false
	}
	yes, ok := out.Value().(bool)
	return ok && yes
}

var _ cel.Activation = (*question)(nil)
