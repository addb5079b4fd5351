// Package a2a holds every requirement of the A2A specification 1.0.1 against real processes: control plane, agentd, a scripted model.
// A requirement is a row of a table (requirements); TestRequirements runs its test on each binding, and docs/a2a-requirements.md lists them.
// The tests speak raw HTTP and gRPC; of the product they use the wire alone. `make build` makes the binaries.
package a2a

import (
	"fmt"
	"slices"
	"testing"
)

// The levels of RFC 2119. MUST NOT, SHALL and REQUIRED are MUST, and so on.
const (
	must   level = "MUST"
	should level = "SHOULD"
	may    level = "MAY"
)

type level string

// The bindings, as test names have them.
const (
	jsonrpc binding = "jsonrpc"
	rest    binding = "http"
	gRPC    binding = "grpc"
)

type binding string

func bindings() []binding { return []binding{jsonrpc, rest, gRPC} }

// requirement is one row. Either test or once is set, or without says why there is neither.
type requirement struct {
	id      string // such as SEND-1: unique, and part of the test's name
	section string // of the specification
	level   level
	what    string // in our own words, one line
	// test runs on each of on (none: on all three). What it gets talks to the main agent as alice.
	test func(*testing.T, caller)
	on   []binding
	// once runs one time, for requirements that have nothing to do with a binding.
	once func(*testing.T, *world)
	// elsewhere names the tests of other packages that hold the requirement, such as "internal/a2a: TestSign".
	elsewhere string
	// without says why the bindings that are not in on, or all of them, have no test.
	without string
}

// requirements are all rows, in the order of the specification.
func requirements() []requirement {
	return slices.Concat(
		sending(), modes(), streams(), getting(), histories(), listing(), canceling(), subscribing(), extendedCards(),
		services(), errorCategories(), capabilities(), contexts(), turns(), deliveries(), outputs(),
		tasks(), messages(), parts(), artifacts(), events(), cards(), sections5(),
	)
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, r := range requirements() {
		if r.once != nil {
			t.Run(r.id, func(t *testing.T) {
				t.Parallel()
				r.once(t, w)
			})
		}
		if r.test == nil {
			continue
		}
		for _, b := range r.runsOn() {
			t.Run(r.id+"/"+string(b), func(t *testing.T) {
				t.Parallel()
				if w.hung.Load() {
					t.Fatalf("another test's call got no answer within %s", patience)
				}
				r.test(t, w.main.by(b, w.alice))
			})
		}
	}
}

// onClients is a row that this side can't hold.
func onClients(id, section string, l level, what string) requirement {
	return requirement{id: id, section: section, level: l, what: what, without: "on clients"}
}

func (r requirement) runsOn() []binding {
	if len(r.on) == 0 {
		return bindings()
	}
	return r.on
}

// cell is what the page says of the requirement on a binding: a test, or why there is none.
func (r requirement) cell(b binding) string {
	switch {
	case r.test != nil && slices.Contains(r.runsOn(), b):
		return fmt.Sprintf("`%s/%s`", r.id, b)
	case r.once != nil:
		return fmt.Sprintf("`%s`", r.id)
	case r.elsewhere != "":
		return fmt.Sprintf("`%s`", r.elsewhere)
	default:
		return "– " + r.without
	}
}
