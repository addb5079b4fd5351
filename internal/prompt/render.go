package prompt

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/agentry/agentry/internal/spec"
)

// Render fills in the variables. For each the first that exists counts: values (an agent's promptVariables), the default beside the name
// in the template, the declared default, the empty text. The error is a spec.FaultsError: a required variable without a value, or a value of
// the wrong type, at the path promptVariables.NAME. Names in values that the prompt doesn't declare are left alone (see CheckValues).
func (t *Template) Render(values map[string]string, declared map[string]spec.PromptVariable) (string, error) {
	if faults := wrongValues(values, declared); len(faults) > 0 {
		return "", spec.FaultsError(faults)
	}
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		value, given := values[p.name]
		d := declared[p.name]
		switch {
		case given:
			b.WriteString(value)
		case p.hasDefault:
			b.WriteString(p.fallback)
		case d.Default != nil:
			b.WriteString(*d.Default)
		}
	}
	return b.String(), nil
}

// CheckValues answers what is wrong with an agent's promptVariables for prompt p: a required variable without a value, a value of
// the wrong type, a name that p doesn't declare. Paths are those of the agent's document.
func CheckValues(p spec.Prompt, values map[string]string) []spec.Fault {
	faults := wrongValues(values, p.Variables)
	known := slices.Sorted(maps.Keys(p.Variables))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if _, ok := p.Variables[name]; ok {
			continue
		}
		f := spec.Fault{
			Path: spec.Child("promptVariables", name), AtKey: true,
			Message: fmt.Sprintf("prompt %s %s has no such variable", p.PromptKey, p.Version),
		}
		if near, ok := spec.Nearest(name, known); ok {
			f.Hint = "did you mean " + near + "?"
		}
		faults = append(faults, f)
	}
	return faults
}

func wrongValues(values map[string]string, declared map[string]spec.PromptVariable) []spec.Fault {
	var faults []spec.Fault
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		d, path := declared[name], spec.Child("promptVariables", name)
		value, given := values[name]
		switch {
		case !given && d.Required:
			faults = append(faults, spec.Fault{Path: path, Message: "is missing (the prompt requires it)"})
		case given && !fits(d.Type, value):
			faults = append(faults, spec.Fault{Path: path, Message: "is no " + d.Type + " (the prompt wants one)"})
		}
	}
	return faults
}

// fits reports whether value is written as typ says.
func fits(typ, value string) bool {
	switch typ {
	case "number":
		_, err := strconv.ParseFloat(value, 64)
		return err == nil
	case "boolean":
		return value == "true" || value == "false"
	default:
		return true
	}
}
