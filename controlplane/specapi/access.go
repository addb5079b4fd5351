package specapi

import (
	"context"
	"strings"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/audit"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// The permissions that only a handler can ask for: it alone knows the objects. The last two are about credentials.
const (
	permRead  = "spec.read"
	permWrite = "spec.write"
	permUse   = access.CredentialUse
	permPut   = "credential.write"
)

// caller is who calls, as handlers ask about single objects.
type caller struct {
	svc *Service
	who access.Principal
	all bool // it may everything: an administrator, or no call at all
}

func (s *Service) caller(ctx context.Context) caller {
	who, _ := access.From(ctx)
	return caller{svc: s, who: who, all: who.Admin}
}

// itself is the caller of what the service asks itself.
func (s *Service) itself() caller { return caller{svc: s, all: true} }

// may reports whether the caller holds a permission on a stored object, or on one that doesn't exist.
func (c caller) may(permission, kind, namespace, name string) bool {
	return c.all || c.who.Allowed(permission, c.svc.objectOf(kind, namespace, name))
}

func (c caller) sees(kind, namespace, name string) bool {
	return c.may(permRead, kind, namespace, name)
}

// hold is errs.Denied where the caller doesn't hold a permission on an object, whether or not that exists.
func (c caller) hold(permission string, o access.Object) error {
	if c.all || c.who.Allowed(permission, o) {
		return nil
	}
	return errs.New(errs.Denied, "%s needs %s on %s", c.who.Name, permission, o)
}

// objectOf names an object, with its labels where it is an agent that exists.
func (s *Service) objectOf(kind, namespace, name string) access.Object {
	o := access.Object{Namespace: namespace, Kind: kind, Name: name}
	if kind == kindAgent {
		o.Labels = s.view.AgentLabels(namespace, name)
	}
	return o
}

// authorize asks for every object of the set: that the caller may write it, and with the labels that an agent has and would have.
// Where nothing is meant to be written, the caller must be able to read what there is.
func (p *plan) authorize() error {
	if p.readOnly {
		return p.readable()
	}
	for _, x := range p.set.Credentials {
		if err := p.caller.hold(permPut, p.svc.objectOf(kindCredential, p.namespace, x.Name)); err != nil {
			return err
		}
	}
	for _, x := range p.set.Prompts {
		if err := p.caller.hold(permWrite, p.svc.objectOf(kindPrompt, p.namespace, x.Spec.PromptKey)); err != nil {
			return err
		}
	}
	for _, x := range p.set.MCPServers {
		if err := p.caller.hold(permWrite, p.svc.objectOf(kindMCP, p.namespace, x.Spec.Name)); err != nil {
			return err
		}
	}
	for _, x := range p.set.Agents {
		o := access.Object{Namespace: p.namespace, Kind: kindAgent, Name: x.Spec.AgentName, Labels: x.Spec.Labels}
		if err := p.caller.hold(permWrite, o); err != nil {
			return err
		}
		if _, exists := p.svc.livingName(kindAgent, p.namespace, o.Name); !exists {
			continue
		}
		if err := p.caller.hold(permWrite, p.svc.objectOf(kindAgent, p.namespace, o.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *plan) readable() error {
	for ref := range p.own {
		o := p.svc.objectOf(ref.kind, p.namespace, ref.name)
		if _, exists := p.svc.livingName(ref.kind, p.namespace, ref.name); !exists && ref.kind == kindAgent {
			o.Labels = p.labelsOf(ref.name)
		}
		if !p.caller.all && !p.caller.who.Allowed(permRead, o) {
			return access.Missing(o)
		}
	}
	return nil
}

func (p *plan) labelsOf(agent string) map[string]string {
	for _, x := range p.set.Agents {
		if x.Spec.AgentName == agent {
			return x.Spec.Labels
		}
	}
	return nil
}

// ownOf lists the objects that a set brings.
func ownOf(set *specfile.Set) map[headRef]bool {
	out := map[headRef]bool{}
	if set == nil {
		return out
	}
	for _, x := range set.Credentials {
		out[headRef{kindCredential, x.Name}] = true
	}
	for _, x := range set.Prompts {
		out[headRef{kindPrompt, x.Spec.PromptKey}] = true
	}
	for _, x := range set.MCPServers {
		out[headRef{kindMCP, x.Spec.Name}] = true
	}
	for _, x := range set.Agents {
		out[headRef{kindAgent, x.Spec.AgentName}] = true
	}
	return out
}

// visible reports whether a reference finds an object: the set brings it, the agent that is planned named it before, or the caller may
// read it, or use it. Anything else looks as if it weren't there.
func (p *plan) visible(kind, name string) bool {
	ref := headRef{kind, name}
	return p.caller.all || p.own[ref] || p.before.refs[ref] || p.caller.sees(kind, p.namespace, name) ||
		(kind == kindCredential && p.caller.may(permUse, kind, p.namespace, name))
}

// named is what an agent's revision names.
type named struct {
	refs   map[headRef]bool
	places map[string]bool // the places of credentials, see placeOf
	// reached are the origins to which the credentials at the places go.
	reached map[string][]string
}

// namedBy reads what the content of an agent names; "" names nothing.
func namedBy(content string) named {
	out := named{refs: map[headRef]bool{}, places: map[string]bool{}}
	a, err := spec.DecodeAgent([]byte(content))
	if content == "" || err != nil {
		return out
	}
	for _, r := range a.References() {
		out.refs[headRef{r.Kind, r.Name}] = true
	}
	for _, place := range a.Places() {
		out.places[placeOf(place)] = true
	}
	return out
}

// placeOf names a place with the credential that stands there, whatever the order of an agent's servers.
func placeOf(place spec.Place) string {
	return strings.Join(place.Parts(), "\x00") + "\x00\x00" + place.Get().Ref
}

// uses asks for the use of every credential that stands where it didn't stand before, or that would go to where it didn't go before.
// Who brings a value in the same set may use it.
func (p *plan) uses(a *spec.Agent) error {
	if p.readOnly {
		return nil
	}
	reached := p.itself().reached(a)
	for _, place := range a.Places() {
		name, at := place.Get().Ref, placeOf(place)
		if name == "" || (p.before.places[at] && !widens(p.before.reached[at], reached[at])) {
			continue
		}
		if !p.own[headRef{kindCredential, name}] {
			if err := p.caller.hold(permUse, p.svc.objectOf(kindCredential, p.namespace, name)); err != nil {
				return err
			}
		}
		p.used = append(p.used, kindCredential+"/"+name)
	}
	return nil
}

// tell completes the audit entry of a change with what a plan would write.
func (p *plan) tell(ctx context.Context, message string) {
	d := audit.From(ctx)
	d.Because(message)
	for _, r := range p.results {
		if r.GetAction() == actionCreated || r.GetAction() == actionUpdated {
			d.On(r.GetKind() + "/" + r.GetName())
		}
	}
	d.On(p.used...)
	d.Changed(true, changesOf(p.diffs)...)
}

// changesOf gives the changed paths of some objects. Specs hold no credential's value, only its name.
func changesOf(diffs []*specv1.ObjectDiff) []audit.Change {
	var out []audit.Change
	for _, d := range diffs {
		for _, c := range d.GetChanges() {
			out = append(out, audit.Change{Object: d.GetKind() + "/" + d.GetName(), Path: c.GetPath(), Before: c.GetBefore(), After: c.GetAfter()})
		}
	}
	return out
}

// splitable asks whether the caller may write the credential that a secret at a place becomes.
func (p *plan) splitable(name, path string) error {
	if !p.readOnly {
		if err := p.caller.hold(permPut, p.svc.objectOf(kindCredential, p.namespace, name)); err != nil {
			return errs.New(errs.Denied, "the secret at %s would become a credential: %w", path, err)
		}
	}
	p.own[headRef{kindCredential, name}] = true
	return nil
}
