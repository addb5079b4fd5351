package specapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/headwrite"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/specfile"
)

// The actions of a Result.
const (
	actionCreated   = "created"
	actionUpdated   = "updated"
	actionUnchanged = "unchanged"
	actionRefused   = "refused"
)

// planned is a head as a plan leaves it, and as it was read.
type planned[H any] struct {
	head H
	mod  int64
}

// plan is one set of files on its way to a change: the heads as they will be, every fault, and what to answer. It is
// made anew for each attempt.
type plan struct {
	svc       *Service
	namespace string
	who       string
	caller    caller
	readOnly  bool // nothing is meant to be written, and not as a rehearsal either
	now       time.Time
	set       *specfile.Set
	change    *headwrite.Change

	prompts     map[string]planned[view.PromptHead]     // by name in lower case, read or changed
	mcp         map[string]planned[view.MCPHead]        // the same
	credentials map[string]planned[view.CredentialHead] // the same
	agents      map[string]bool                         // in the set, in lower case
	stored      map[string][]string                     // names in the store by kind, once asked for
	own         map[headRef]bool                        // what the set brings
	before      named                                   // what the agent that is planned named before
	bound       []*specfile.Credential                  // those that may be sent to other places than before
	used        []string                                // credentials that are used where they weren't

	faults  []spec.Fault
	results []*specv1.Result
	notes   []string
	diffs   []*specv1.ObjectDiff
	notices []Notice
}

func (s *Service) newPlan(namespace string, who caller, set *specfile.Set) *plan {
	return &plan{
		svc: s, namespace: namespace, who: who.actor(), caller: who, own: ownOf(set), now: s.now().UTC(), set: set, change: headwrite.NewChange(namespace),
		prompts: map[string]planned[view.PromptHead]{}, mcp: map[string]planned[view.MCPHead]{},
		credentials: map[string]planned[view.CredentialHead]{}, agents: map[string]bool{}, stored: map[string][]string{},
	}
}

// build works through the set, shared things first, so that references find what the same set brings.
func (p *plan) build() error {
	for _, a := range p.set.Agents {
		p.agents[strings.ToLower(a.Spec.AgentName)] = true
	}
	for _, x := range p.set.Credentials {
		if p.admit(x.Object, kindCredential, x.Name, "name") {
			if err := p.credentialFile(x); err != nil {
				return err
			}
		}
	}
	for _, x := range p.set.Prompts {
		if p.admit(x.Object, kindPrompt, x.Spec.PromptKey, "promptKey") {
			if err := p.prompt(x); err != nil {
				return err
			}
		}
	}
	for _, x := range p.set.MCPServers {
		if p.admit(x.Object, kindMCP, x.Spec.Name, "name") {
			if err := p.mcpServer(x); err != nil {
				return err
			}
		}
	}
	for _, x := range p.set.Agents {
		if p.admit(x.Object, kindAgent, x.Spec.AgentName, "agentName") {
			if err := p.agent(x); err != nil {
				return err
			}
		}
	}
	return p.others()
}

// admit checks what any object must hold to: a namespace that is the request's, and a name that no stored object has in
// another spelling. The reader has found doubles within the set.
func (p *plan) admit(o specfile.Object, kind, name, path string) bool {
	if name == "" {
		return false // the reader found that fault already
	}
	if o.Namespace != "" && o.Namespace != p.namespace {
		p.fault(o, "metadata.namespace", fmt.Sprintf("is %s, but this set goes to namespace %s", o.Namespace, p.namespace), "apply it with -n "+o.Namespace)
		return false
	}
	if other, ok := p.svc.livingName(kind, p.namespace, name); ok && other != name {
		if !p.visible(kind, other) {
			p.fault(o, path, fmt.Sprintf("%s %s differs from another name by case only (names must differ, without regard to case)", kind, name), "choose another name")
			return false
		}
		p.fault(o, path, fmt.Sprintf("%s %s exists as %s (names must differ, without regard to case)", kind, name, other), "write it "+other)
		return false
	}
	return true
}

// livingName gives the spelling under which a name is taken.
func (s *Service) livingName(kind, namespace, name string) (string, bool) {
	switch kind {
	case kindAgent:
		h, _, ok := s.view.Agent(namespace, name)
		return h.Name, ok && !h.Deleted
	case kindPrompt:
		h, _, ok := s.view.Prompt(namespace, name)
		return h.Name, ok && !h.Deleted
	case kindMCP:
		h, _, ok := s.view.MCP(namespace, name)
		return h.Name, ok && !h.Deleted
	default:
		h, _, ok := s.view.Credential(namespace, name)
		return h.Name, ok && !h.Deleted
	}
}

func (p *plan) fault(o specfile.Object, path, message, hint string) {
	p.faults = append(p.faults, o.Fault(path, message, hint))
}

func (p *plan) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(p.notes, n) {
		p.notes = append(p.notes, n)
	}
}

func (p *plan) result(kind, name string, revision int64, action, reason string) {
	p.results = append(p.results, &specv1.Result{
		Kind: kind, Name: name, Namespace: p.namespace, Revision: revision, Action: action, Reason: reason,
	})
}

func (p *plan) diff(kind, name, before, after string) error {
	d, err := objectDiff(kind, name, before, after)
	if err == nil && d != nil {
		p.diffs = append(p.diffs, d)
	}
	return err
}

// The heads as the plan sees them: its own, else the store's. Reading one makes the change depend on it.

func (p *plan) promptHead(name string) (planned[view.PromptHead], bool) {
	return readHead(p, p.prompts, kindPrompt, name, p.svc.view.Prompt)
}

func (p *plan) mcpHead(name string) (planned[view.MCPHead], bool) {
	return readHead(p, p.mcp, kindMCP, name, p.svc.view.MCP)
}

func (p *plan) credentialHead(name string) (planned[view.CredentialHead], bool) {
	return readHead(p, p.credentials, kindCredential, name, p.svc.view.Credential)
}

func readHead[H any](p *plan, known map[string]planned[H], kind, name string, read func(namespace, name string) (H, int64, bool)) (planned[H], bool) {
	key := strings.ToLower(name)
	if h, ok := known[key]; ok {
		return h, true
	}
	h, mod, ok := read(p.namespace, name)
	if !ok {
		return planned[H]{}, false
	}
	known[key] = planned[H]{head: h, mod: mod}
	p.change.Read(kind, name, mod)
	return known[key], true
}

// heads gives what an agent's spec resolves from, as the plan leaves it.
func (p *plan) heads(a *spec.Agent) (snapshot.Heads, error) {
	h := snapshot.Heads{
		Epoch:   p.svc.view.Cluster().Epoch,
		Prompts: map[string]snapshot.PromptHead{}, MCP: map[string]snapshot.MCPHead{}, Credentials: map[string]snapshot.CredentialHead{},
	}
	for _, r := range a.References() {
		switch r.Kind {
		case kindPrompt:
			if x, ok := p.promptHead(r.Name); ok {
				h.Prompts[x.head.Name] = x.head.Facts()
			}
		case kindMCP:
			if x, ok := p.mcpHead(r.Name); ok {
				facts, err := x.head.Facts()
				if err != nil {
					return h, err
				}
				h.MCP[x.head.Name] = facts
			}
		case kindCredential:
			if x, ok := p.credentialHead(r.Name); ok {
				h.Credentials[x.head.Name] = x.head.Facts()
			}
		}
	}
	return h, nil
}

// blob reads immutable bytes, those that the plan is about to write included.
func (p *plan) blob(h manifest.Hash) ([]byte, bool) {
	if b, ok := p.change.Kept(h); ok {
		return b, true
	}
	return p.svc.view.Blob(h)
}

// manifest gives the hash of the config that a spec resolves to once the plan is written; zero when it doesn't resolve.
func (p *plan) manifest(a *spec.Agent, raw []byte, sum manifest.Hash) (manifest.Hash, error) {
	heads, err := p.heads(a)
	if err != nil {
		return manifest.Hash{}, err
	}
	resources, err := snapshot.Resolve(heads, planBlobs{p}, a.AgentName, raw, sum)
	if err != nil { // a dangling reference is a fault of the set, listed as such
		return manifest.Hash{}, nil //nolint:nilerr // zero says that it doesn't resolve
	}
	return manifest.Of(snapshot.Snapshot{Resources: resources}.Lines()), nil
}

// planBlobs lets snapshot.Resolve read what isn't written yet; the rest of snapshot.Immutables isn't asked for by it.
type planBlobs struct{ p *plan }

// Spec is never asked for: Resolve is given the spec.
func (planBlobs) Spec(int64) (json.RawMessage, manifest.Hash, bool) {
	return nil, manifest.Hash{}, false
}

// Blob gives the bytes of a version.
func (b planBlobs) Blob(h manifest.Hash) ([]byte, bool) { return b.p.blob(h) }

// Applied is never asked for.
func (planBlobs) Applied(manifest.Line) bool { return false }
