package register

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// Check tells whether a chunk of one register's history, which began in state first, can be put into one order that respects who came
// after whom. Operations that are unknown count as never ended. limit bounds the search; ok false with timedOut true means that no
// verdict was reached.
func Check(first State, ops []Op, limit time.Duration) (ok, timedOut bool) {
	return verdict(porcupine.CheckOperationsTimeout(model(first), operations(ops), limit))
}

// Explain writes porcupine's picture of a chunk to a file, as HTML.
func Explain(first State, ops []Op, limit time.Duration, path string) error {
	m := model(first)
	_, info := porcupine.CheckOperationsVerbose(m, operations(ops), limit)
	return porcupine.VisualizePath(m, info, path)
}

func verdict(r porcupine.CheckResult) (ok, timedOut bool) {
	return r == porcupine.Ok, r == porcupine.Unknown
}

func operations(ops []Op) []porcupine.Operation {
	out := make([]porcupine.Operation, 0, len(ops))
	for _, op := range ops {
		end := int64(op.Return)
		if op.Outcome == Unknown {
			if op.Kind == Read {
				continue // it tells nothing
			}
			end = math.MaxInt64
		}
		out = append(out, porcupine.Operation{ClientId: op.Client, Input: op, Call: int64(op.Call), Output: op, Return: end})
	}
	return out
}

func model(first State) porcupine.Model {
	return porcupine.Model{
		Init:              func() any { return first },
		Step:              func(state, input, _ any) (bool, any) { return step(state.(State), input.(Op)) }, //nolint:errcheck,forcetypeassert // only these are put in
		DescribeOperation: func(input, _ any) string { return input.(Op).String() },                         //nolint:errcheck,forcetypeassert // only these are put in
	}
}

// step is the sequential register. A CAS whose outcome is unknown is always possible: where it doesn't fit it does nothing, which
// includes having never been carried out, since it may stand at the end of everything.
func step(s State, op Op) (bool, any) {
	fits := s.Version == op.Expect || (s.Version == Any && op.Kind == CAS)
	switch {
	case op.Kind == Read:
		seen := State{op.Version, op.Value}
		return (s.Version == Any || s.Version == seen.Version) && s.Value == seen.Value, seen
	case op.Outcome == Unknown:
		if s.Version != op.Expect {
			return true, s
		}
		return true, State{Any, op.Write}
	case op.Outcome == Stale:
		return s.Version != op.Expect, s
	case op.Version == 0:
		return fits, State{op.Expect, s.Value}
	default:
		return fits, State{op.Version, op.Write}
	}
}

// String describes an operation in porcupine's picture.
func (op Op) String() string {
	switch {
	case op.Kind == Read:
		return fmt.Sprintf("read: %d %s (%s)", op.Version, op.Value, op.Node)
	case op.Outcome == OK:
		return fmt.Sprintf("cas %d: %s -> %d (%s)", op.Expect, op.Write, op.Version, op.Node)
	default:
		return fmt.Sprintf("cas %d: %s -> %s %s (%s)", op.Expect, op.Write, op.Outcome, op.Error, op.Node)
	}
}
