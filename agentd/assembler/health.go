package assembler

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/spec"
)

// Run watches the health of what is served until ctx ends.
func (a *Assembler) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.kick:
			a.refresh()
		}
	}
}

// Health delivers the running set's verdict whenever it changes after Apply. See configclient.Applier.
func (a *Assembler) Health() <-chan configclient.Verdict { return a.health }

// changed is what server clients call: it only notes that something moved.
func (a *Assembler) changed() {
	a.denied.changes.Add(1)
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

// refresh publishes the running set's verdict if it is another.
func (a *Assembler) refresh() {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.current.Load()
	if l == nil {
		return
	}
	v := verdictOf(l.set)
	if v.Phase == a.published.Phase && slices.Equal(v.Faults, a.published.Faults) {
		return
	}
	a.publishLocked(v, true)
}

// publishLocked makes v the verdict that counts. What is still waiting is older and goes.
func (a *Assembler) publishLocked(v configclient.Verdict, tell bool) {
	a.published = v
	select {
	case <-a.health:
	default:
	}
	if tell {
		a.health <- configclient.Verdict{Phase: v.Phase, Faults: slices.Clone(v.Faults)}
	}
}

// verdictOf judges a set that serves: an error makes it DEGRADED, a warning doesn't.
func verdictOf(s *set) configclient.Verdict {
	v := configclient.Verdict{Phase: phase.Applied, Faults: slices.Concat(s.static, s.persist)}
	for _, f := range s.inspectStorage() {
		v.Faults = append(v.Faults, f.Fault)
	}
	for _, m := range s.members {
		for _, f := range s.inspect(m) {
			v.Faults = append(v.Faults, f.Fault)
		}
	}
	_, clashes := choose(s.members)
	for _, c := range clashes {
		mine, first := c.tool.Tool.Spec(), c.first.tool.Tool.Spec()
		v.Faults = append(v.Faults, phase.Fault{
			Resource: c.member.line.Resource(), Field: spec.Child("tools", mine.Tool), Code: phase.Invalid, Severity: phase.Warning,
			Message: fmt.Sprintf("the model would see it as %s, as it sees tool %q of %s already: it is left out", mine.Name, first.Tool, first.Server),
		})
	}
	for _, f := range v.Faults {
		if f.Severity == phase.Error {
			v.Phase = phase.Degraded
		}
	}
	return v
}

// finding is a fault of a server and whose lines it can be laid to.
type finding struct {
	phase.Fault
	line      manifest.Line // the server's
	ofAgent   bool          // the agent's own spec has a part in it
	ofEntry   bool          // the entry has
	dependent bool          // only a required server refuses for it
}

// inspectStorage tells what is wrong with the storage now.
func (s *set) inspectStorage() []finding {
	st := s.storage.value.State()
	if st.Healthy {
		return nil
	}
	if st.Code == "" {
		st.Code = phase.Unreachable
	}
	if st.Message == "" {
		st.Message = "not connected yet"
	}
	return []finding{{Fault: phase.Fault{
		Resource: s.self, Field: "memory.address", Code: st.Code, Message: st.Message, Severity: phase.Error, Retryable: st.Code.Retryable(),
	}}}
}

// inspect lists what is wrong with a server now.
func (s *set) inspect(m *member) []finding {
	st := m.client.value.State()
	if !st.Healthy {
		code := st.Code
		if code == "" {
			code = phase.Unreachable
		}
		message := st.Message
		if message == "" {
			message = "not connected yet"
		}
		return []finding{{
			Fault: phase.Fault{
				Resource: m.line.Resource(), Field: "endpoints[0].url", Code: code, Message: message, Severity: phase.Error, Retryable: code.Retryable(),
			},
			line: m.line, ofEntry: true, ofAgent: !code.Retryable(), dependent: true,
		}}
	}
	var out []finding
	listed := map[string]bool{}
	for _, t := range st.Tools {
		name := t.Tool.Spec().Tool
		listed[name] = true
		if chosen(m.ref.Tools, name) && m.pin(t) == Changed {
			out = append(out, finding{line: m.line, Fault: phase.Fault{
				Resource: m.line.Resource(), Field: spec.Child("tools", name), Code: phase.ToolChanged, Severity: phase.Error,
				Message: "its definition is not among the approved ones; it is withdrawn until somebody approves it",
			}})
		}
	}
	if m.ref.Tools == nil {
		return out
	}
	for i, name := range m.ref.Tools.Allow {
		if listed[name] {
			continue
		}
		out = append(out, finding{line: m.line, ofAgent: true, ofEntry: true, Fault: phase.Fault{
			Resource: s.self, Field: spec.Index(spec.Index("mcpServers", m.index)+".tools.allow", i), Code: phase.ToolMissing, Severity: phase.Error,
			Message: fmt.Sprintf("the server %s has no tool %q", m.ref.MCPServerName, name),
		}})
	}
	return out
}

func errIsFenced(err error) bool { return errors.Is(err, configclient.ErrFenced) }

// retry is the answer to faults that may pass by themselves.
func retry(faults ...phase.Fault) configclient.Verdict {
	for i := range faults {
		faults[i].Severity, faults[i].Retryable = phase.Error, true
	}
	return configclient.Verdict{Phase: phase.Received, Faults: faults}
}
