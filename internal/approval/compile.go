package approval

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
)

// compiler makes its CEL environment with the first condition: an agent without any pays nothing.
type compiler struct{ env *cel.Env }

func (c *compiler) compile(when string) (cel.Program, error) {
	if n := utf8.RuneCountInString(when); n > maxCondition {
		return nil, fmt.Errorf("has %d characters (at most %d are allowed)", n, maxCondition)
	}
	if c.env == nil {
		env, err := cel.NewEnv(
			cel.Variable("args", cel.MapType(cel.StringType, cel.DynType)),
			cel.Variable("tool", cel.StringType), cel.Variable("server", cel.StringType),
			cel.Variable("session", cel.StringType), cel.Variable("principal", cel.StringType),
			cel.CrossTypeNumericComparisons(true), // JSON knows one kind of number
			cel.ParserRecursionLimit(maxNesting), cel.ParserExpressionSizeLimit(maxCondition),
			cel.ASTValidators(cel.ValidateRegexLiterals()),
		)
		if err != nil {
			return nil, fmt.Errorf("CEL environment: %w", err)
		}
		c.env = env
	}
	ast, issues := c.env.Compile(when)
	if issues.Err() != nil {
		return nil, refused(issues)
	}
	if t := ast.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("gives %s (a CEL condition is true or false)", t)
	}
	program, err := c.env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err != nil {
		return nil, fmt.Errorf("is no CEL condition: %w", err)
	}
	return program, nil
}

// refused gives the first issue on one line.
func refused(issues *cel.Issues) error {
	first := "it can't be read"
	if all := issues.Errors(); len(all) > 0 {
		e := all[0]
		first, _, _ = strings.Cut(e.Message, "\n")
		if e.Location.Line() == 1 {
			first = fmt.Sprintf("at column %d: %s", e.Location.Column()+1, first)
		}
	}
	return errors.New("is no CEL condition over args, tool, server, session and principal: " + clip(first))
}
