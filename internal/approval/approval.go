// Package approval says which tool calls need a person's consent. The control plane and agentctl compile an agent's approval.tools to find
// faults, agentd evaluates them before a call runs. It does no I/O, keeps no state between calls and never decides in place of the person.
package approval

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/agentry/agentry/internal/spec"
)

// The bounds of a condition. An evaluation at the cost limit takes about a millisecond.
const (
	maxCondition = 1024 // code points
	maxNesting   = 32
	maxCost      = 100_000
	maxWhy       = 300 // bytes
)

// Policy is a compiled approval.tools. It never changes; any number of goroutines may use it. A nil Policy asks for no consent.
type Policy struct {
	rules map[string][]rule // by server
}

type rule struct {
	tool      string // "": every tool of the server
	when      string
	condition cel.Program // nil: always
}

// Compile makes a Policy of an agent's approval.tools. The faults' paths begin at the agent's document ("approval.tools[0].when"); a rule
// with a fault asks for consent always.
func Compile(tools []spec.ApprovalTool) (*Policy, []spec.Fault) {
	p := &Policy{rules: make(map[string][]rule, len(tools))}
	var faults []spec.Fault
	var c compiler
	for i, t := range tools {
		server, tool, _ := strings.Cut(t.Tool, "/")
		r := rule{tool: tool, when: t.When}
		if t.When != "" {
			var err error
			if r.condition, err = c.compile(t.When); err != nil {
				faults = append(faults, spec.Fault{Path: spec.Index("approval.tools", i) + ".when", Message: err.Error()})
			}
		}
		p.rules[server] = append(p.rules[server], r)
	}
	return p, faults
}

// Needs reports whether a call needs consent, and why: one line for the person who decides. args are the call's arguments as encoding/json
// decodes an object; nil means that they are no object. A condition that can't be evaluated, or is neither true nor false, needs consent.
func (p *Policy) Needs(server, tool string, args map[string]any, session, principal string) (why string, needed bool) {
	if p == nil {
		return "", false
	}
	var vars map[string]any
	for _, r := range p.rules[server] {
		if r.tool != "" && r.tool != tool {
			continue
		}
		if r.when == "" {
			return r.subject(server) + " always needs consent", true
		}
		if r.condition == nil {
			return r.subject(server) + " needs consent: its condition is faulty", true
		}
		if args == nil {
			return r.subject(server) + " needs consent: the arguments are no object", true
		}
		if vars == nil {
			vars = map[string]any{"args": args, "tool": tool, "server": server, "session": session, "principal": principal}
		}
		if why, needed := r.evaluate(vars); needed {
			return clip(r.subject(server) + " needs consent: " + why), true
		}
	}
	return "", false
}

func (r rule) subject(server string) string {
	if r.tool == "" {
		return server
	}
	return server + "/" + r.tool
}

func (r rule) evaluate(vars map[string]any) (why string, needed bool) {
	out, _, err := r.condition.Eval(vars)
	if err != nil {
		return fmt.Sprintf("%s can't be evaluated (%v)", r.when, err), true
	}
	is, ok := out.Value().(bool)
	if !ok {
		return r.when + " is neither true nor false", true
	}
	return r.when, is
}

// clip makes one short line of s.
func clip(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "")), " ")
	if len(s) <= maxWhy {
		return s
	}
	return strings.ToValidUTF8(s[:maxWhy], "") + "..."
}
