package specapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// elsewhere is a place of an agent that sends a credential to where it may not go.
type elsewhere struct {
	spec.Destination

	to      string // the origin
	allowed []string
}

func (e elsewhere) text() string {
	return fmt.Sprintf("credential %s may not be sent to %s, only to %s", e.Credential, e.to, strings.Join(e.allowed, ", "))
}

// elsewhere lists them for an agent, with the heads as the plan leaves them.
func (p *plan) elsewhere(a *spec.Agent) []elsewhere {
	var out []elsewhere
	for _, d := range a.Destinations() {
		h, ok := p.credentialHead(d.Credential)
		if !ok || len(h.head.AllowedOrigins) == 0 {
			continue
		}
		addresses := []string{d.Address}
		if d.Server != "" {
			entry, ok := p.mcpEntry(d.Server, d.Version)
			if !ok {
				continue // a fault of its own
			}
			addresses = entry.Addresses()
		}
		if to := spec.Forbidden(h.head.AllowedOrigins, addresses); to != "" {
			out = append(out, elsewhere{Destination: d, to: to, allowed: h.head.AllowedOrigins})
		}
	}
	return out
}

// bound refuses to go back to a revision that sends a credential to where it may not go (any more). Of a pin the snapshot judges.
func (s *Service) bound(namespace string, head view.AgentHead, revision int64, pin *release.Pin) error {
	if pin != nil || revision == 0 {
		return nil
	}
	a, err := s.decodeAgent(head, revision)
	if err != nil {
		return err
	}
	if all := s.newPlan(namespace, s.itself(), nil).elsewhere(a); len(all) > 0 {
		return errs.New(errs.Precondition, "revision %d can't be delivered: %s (%s)", revision, all[0].text(), all[0].Path)
	}
	return nil
}

// destinations faults the places of an agent that send a credential to where it may not go.
func (p *plan) destinations(x *specfile.Agent) {
	for _, e := range p.elsewhere(&x.Spec) {
		hint := "use another credential or address, or add the origin to the credential's allowedOrigins"
		p.fault(x.Object, e.Path, e.text(), hint)
	}
}

// others does the same for the stored agents that the set doesn't bring: an entry's new endpoints, or a credential's fewer origins,
// count for them too.
func (p *plan) others() error {
	for _, x := range p.set.MCPServers {
		if h, ok := p.mcp[strings.ToLower(x.Spec.Name)]; ok && h.head.Name == x.Spec.Name && p.changes(kindMCP, x.Spec.Name) {
			if err := p.dependents(x.Object, "endpoints", kindMCP, x.Spec.Name); err != nil {
				return err
			}
			if err := p.redirects(x.Spec.Name); err != nil {
				return err
			}
		}
	}
	for _, x := range p.bound {
		if err := p.dependents(x.Object, "allowedOrigins", kindCredential, x.Name); err != nil {
			return err
		}
	}
	return nil
}

// changes reports whether the plan writes something of a name.
func (p *plan) changes(kind, name string) bool {
	for _, r := range p.results {
		if r.GetKind() == kind && r.GetName() == name {
			return r.GetAction() != actionUnchanged
		}
	}
	return false
}

// dependents faults a document for what the agents that use it would do. Every revision in play counts: each may be delivered.
func (p *plan) dependents(o specfile.Object, path, kind, name string) error {
	for _, key := range p.svc.view.Dependents(kind, p.namespace, name) {
		if p.agents[strings.ToLower(key.Name)] {
			continue // the set brings it
		}
		head, _, ok := p.svc.view.Agent(p.namespace, key.Name)
		if !ok {
			continue
		}
		for _, revision := range inPlay(head.State) {
			a, err := p.svc.decodeAgent(head, revision)
			if err != nil {
				return err
			}
			for _, e := range p.itself().elsewhere(a) {
				if (kind == kindMCP && e.Server == name) || (kind == kindCredential && e.Credential == name) {
					p.otherFault(o, path, key.Name, e)
				}
			}
		}
	}
	return nil
}

// redirects asks for the use of the credentials that agents send to an MCP entry whose endpoints lead elsewhere now: who may write the
// entry would else collect them. The set's own agents count, too: a rollback may deliver what they are stored with.
func (p *plan) redirects(server string) error {
	if p.readOnly || p.caller.all {
		return nil
	}
	stands, planned := p.stands(), p.itself()
	for _, key := range p.svc.view.Dependents(kindMCP, p.namespace, server) {
		head, _, ok := p.svc.view.Agent(p.namespace, key.Name)
		if !ok {
			continue
		}
		for _, revision := range inPlay(head.State) {
			a, err := p.svc.decodeAgent(head, revision)
			if err != nil {
				return err
			}
			for _, d := range a.Destinations() {
				on := p.svc.objectOf(kindCredential, p.namespace, d.Credential)
				if d.Server == server && widens(stands.origins(d), planned.origins(d)) && !p.caller.who.Allowed(permUse, on) {
					// Neither the agent nor the credential is named: the caller may see neither.
					return errs.New(errs.Denied, "%s needs %s on the credentials that agents send to mcp %s: its endpoints would change", p.caller.who.Name, permUse, server)
				}
			}
		}
	}
	return nil
}

// stands is a plan that writes nothing: what is stored, as the service sees it.
func (p *plan) stands() *plan { return p.svc.newPlan(p.namespace, p.svc.itself(), nil) }

// reached gives the origins to which an agent sends the credential of each place, see placeOf.
func (p *plan) reached(a *spec.Agent) map[string][]string {
	to := map[string][]string{}
	for _, d := range a.Destinations() {
		to[d.Path] = p.origins(d)
	}
	out := map[string][]string{}
	for _, place := range a.Places() {
		out[placeOf(place)] = to[place.Path]
	}
	return out
}

// origins gives those of a destination, with the heads as the plan leaves them.
func (p *plan) origins(d spec.Destination) []string {
	addresses := []string{d.Address}
	if d.Server != "" {
		entry, ok := p.mcpEntry(d.Server, d.Version)
		if !ok {
			return nil // a fault of its own
		}
		addresses = entry.Addresses()
	}
	var out []string
	for _, address := range addresses {
		if o := spec.Origin(address); o != "" { // none: the process that runs the agent decides
			out = append(out, o)
		}
	}
	return out
}

// widens reports whether there is an origin now that wasn't there before.
func widens(before, now []string) bool {
	return slices.ContainsFunc(now, func(o string) bool { return !slices.Contains(before, o) })
}

// inPlay lists the revisions that instances may get: stable, candidate and held.
func inPlay(s release.State) []int64 {
	var out []int64
	add := func(n int64) {
		if n != 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	add(s.Stable)
	if s.Candidate != nil {
		add(s.Candidate.Revision)
	}
	if s.Hold != nil {
		add(s.Hold.Revision)
	}
	return out
}

// otherFault names the agent if the caller may see it.
func (p *plan) otherFault(o specfile.Object, path, agent string, e elsewhere) {
	who := "an agent that you may not see"
	if p.visible(kindAgent, agent) {
		who = fmt.Sprintf("agent %s (%s)", agent, e.Path)
	}
	f := o.Fault(path, e.text()+", as "+who+" would", "change the agent first, or in the same set")
	for _, g := range p.faults {
		if g.Path == f.Path && g.File == f.File && g.Line == f.Line && g.Message == f.Message {
			return
		}
	}
	p.faults = append(p.faults, f)
}

// itself gives the plan as the service sees it: what the caller may not see counts all the same.
func (p *plan) itself() *plan {
	q := *p
	q.caller = p.svc.itself()
	return &q
}
