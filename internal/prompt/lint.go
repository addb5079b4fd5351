package prompt

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/agentry/agentry/internal/spec"
)

// Lint answers every fault between a prompt's template and its declared variables: syntax, an undeclared variable, an unused one, a
// default of the wrong type. Paths are those of the prompt's document.
func Lint(p spec.Prompt) []spec.Fault {
	var faults []spec.Fault
	declared := slices.Sorted(maps.Keys(p.Variables))
	for _, name := range declared {
		if d := p.Variables[name]; d.Default != nil && !fits(d.Type, *d.Default) {
			faults = append(faults, spec.Fault{
				Path:    spec.Child("variables", name) + ".default",
				Message: fmt.Sprintf("is no %s (type is %s)", d.Type, d.Type),
			})
		}
	}
	t, err := Parse(p.Template)
	if err != nil {
		f := spec.Fault{Path: "template", Message: err.Error()}
		if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
			f.Message = fmt.Sprintf("line %d, column %d of the template: %s", syntax.Line, syntax.Column, syntax.Message)
		}
		return append(faults, f)
	}
	used := t.Variables()
	for _, name := range used {
		if _, ok := p.Variables[name]; ok {
			continue
		}
		f := spec.Fault{Path: "template", Message: fmt.Sprintf("{{%s}} is not declared in variables", name)}
		if near, ok := spec.Nearest(name, declared); ok {
			f.Hint = "did you mean {{" + near + "}}?"
		}
		faults = append(faults, f)
	}
	for _, name := range declared {
		if !slices.Contains(used, name) {
			faults = append(faults, spec.Fault{
				Path: spec.Child("variables", name), AtKey: true,
				Message: "is not used in the template",
			})
		}
	}
	return faults
}
