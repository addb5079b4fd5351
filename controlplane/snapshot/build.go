package snapshot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// DanglingError says that a spec refers to something that isn't there: deleted with force, taken offline, or a label that
// points nowhere; or sends a credential to where that may not go. Build then gives no snapshot, on every replica alike. The caller sends nothing: an instance
// keeps what it runs (absence is never inferred), and shows the error as the reason why it isn't on its desired config.
type DanglingError struct {
	Resource string // kind/name of what is missing
	Field    string // JSON path of the reference in the agent's spec
	Reason   string
}

// Error gives resource, reason and field.
func (e *DanglingError) Error() string {
	return fmt.Sprintf("%s %s (%s of the agent's spec)", e.Resource, e.Reason, e.Field)
}

// MissingError says that immutable bytes are not in the store (yet): a fault of the store, or a view that waits for a blob.
type MissingError struct {
	Resource string // kind/name
	Version  string
}

// Error gives the resource and its version.
func (e *MissingError) Error() string {
	return fmt.Sprintf("bytes of %s %s are not in the store", e.Resource, e.Version)
}

// Key is all that Build takes from the instance. Instances with the same Heads and an equal Key get the same
// Snapshot, so callers build once per Key.
type Key struct {
	Namespace string
	Agent     string
	Target    int64 // revision; 0: nothing
	// Returning is true for an instance that a rollback takes back: it isn't on the target's own-spec line yet.
	Returning bool
}

// Choose gives the Key of an instance.
func Choose(h Heads, im Immutables, in Instance) Key {
	k := Key{Namespace: in.ID.Namespace, Agent: in.ID.Agent, Target: h.Agent.target(in)}
	if h.Agent.Returned && k.Target != 0 && k.Target == h.Agent.Stable {
		k.Returning = !sameSpec(im, in.RunsRevision, k.Target)
	}
	return k
}

// target is semantics.md 8: an instance that runs nothing is offered stable first, and the candidate after it serves
// stable or has refused it. A hold without anything proven stays what instances get (7.4).
func (a AgentHead) target(in Instance) int64 {
	switch {
	case !a.Exists || a.Deleted:
		return 0
	case a.Candidate != 0 && a.Stable != 0 && in.RunsRevision == 0 && !in.RefusedStable:
		return a.Stable
	case a.Candidate != 0:
		return a.Candidate
	case a.Held != 0:
		return a.Held
	default:
		return a.Stable
	}
}

func sameSpec(im Immutables, runs, target int64) bool {
	if runs == target {
		return true
	}
	if runs == 0 {
		return false
	}
	_, a, ok := im.Spec(runs)
	_, b, ok2 := im.Spec(target)
	return ok && ok2 && a == b
}

// Build gives what one instance must run. Errors are *DanglingError, *MissingError, or a spec that can't be decoded.
func Build(h Heads, im Immutables, in Instance) (Snapshot, error) {
	return BuildFor(h, im, Choose(h, im, in))
}

// BuildFor is Build for every instance with this Key.
func BuildFor(h Heads, im Immutables, k Key) (Snapshot, error) {
	s, err := resolved(h, im, k)
	if err == nil && s.Absent == Present {
		s.Proven = provenOf(h, im, k, s.Resources)
	}
	return s, err
}

// Unproven is BuildFor without the proven lines, for who judges a config and sends it to nobody.
func Unproven(h Heads, im Immutables, k Key) (Snapshot, error) { return resolved(h, im, k) }

// build gives a snapshot without its proven lines: all that depends on nothing but h, the immutables' bytes and the target.
func build(h Heads, im Immutables, k Key) (Snapshot, error) {
	s := Snapshot{Token: manifest.Token{Epoch: h.Epoch, Generation: h.Agent.ModRevision}}
	switch {
	case !h.Agent.Exists:
		s.Absent = Unknown
		return s, nil
	case h.Agent.Deleted:
		// The tombstone's own write is above every head that the agent ever reached.
		s.Absent = Deleted
		return s, nil
	case k.Target == 0:
		s.Absent = Unknown
		return s, nil
	}
	s.Token.Generation = max(h.Agent.ModRevision, h.newestHeld())
	var refs []reference
	for _, n := range h.Agent.inPlay() {
		all, err := referencesOf(im, k.Agent, n)
		if err != nil {
			return Snapshot{}, err
		}
		s.Token.Generation = max(s.Token.Generation, h.newest(all))
		if n == k.Target {
			refs = all
		}
	}
	raw, sum, ok := im.Spec(k.Target)
	if !ok {
		return Snapshot{}, missingSpec(k.Agent, k.Target)
	}
	var err error
	if refs == nil { // a revision that nobody is offered now, asked for to be shown
		if refs, err = referencesOf(im, k.Agent, k.Target); err != nil {
			return Snapshot{}, err
		}
	}
	out, err := h.resolve(im, k.Agent, raw, sum, refs)
	if err != nil {
		return Snapshot{}, err
	}
	s.Resources, s.Vetoed, s.Pinned = out.resources, out.vetoed, out.pinned
	s.Revision = k.Target
	for _, r := range s.Resources {
		if r.Line.Kind == manifest.KindCredential {
			s.Credentials = append(s.Credentials, r.Line.Name)
		}
	}
	for _, names := range [][]string{s.Credentials, s.Vetoed, s.Pinned} {
		slices.Sort(names)
	}
	s.Manifest, s.Token.Hash = s.Lines(), out.hash
	return s, nil
}

// provenOf gives the kind/name of those resources whose lines are proven, sorted: all that BuildFor takes from what was applied.
func provenOf(h Heads, im Immutables, k Key, resources []Resource) []string {
	out := make([]string, 0, len(resources))
	var text strings.Builder // all names are parts of one text: thousands of agents have their own
	size := 0
	for i := range resources {
		size += len(resources[i].Line.Kind) + 1 + len(resources[i].Line.Name)
	}
	for i := range resources {
		l := &resources[i].Line
		if !im.Applied(*l) && (!k.Returning || h.movedSince(*l)) {
			continue
		}
		if text.Len() == 0 {
			text.Grow(size)
		}
		at := text.Len()
		text.WriteString(l.Kind)
		text.WriteByte('/')
		text.WriteString(l.Name)
		out = append(out, text.String()[at:])
	}
	if len(out) == 0 {
		return nil
	}
	slices.Sort(out)
	return out
}

// Lines gives the manifest, which the caller must not change.
func (s Snapshot) Lines() []manifest.Line {
	if len(s.Manifest) == len(s.Resources) {
		return s.Manifest
	}
	lines := make([]manifest.Line, len(s.Resources))
	for i, r := range s.Resources {
		lines[i] = r.Line
	}
	return lines
}

func missingSpec(agent string, revision int64) error {
	return &MissingError{Resource: manifest.KindAgent + "/" + agent, Version: fmt.Sprintf("revision %d", revision)}
}

// movedSince reports whether the head behind a line was written after the agent head's last own move.
func (h Heads) movedSince(l manifest.Line) bool {
	switch l.Kind {
	case manifest.KindAgent:
		return false // the last own move is that head's
	case manifest.KindPrompt:
		return h.Prompts[l.Name].ModRevision > h.Agent.MovedAt
	case manifest.KindMCP, manifest.KindPolicy:
		return h.MCP[l.Name].ModRevision > h.Agent.MovedAt
	case manifest.KindCredential:
		return h.Credentials[l.Name].ModRevision > h.Agent.MovedAt
	default:
		return true
	}
}

// inPlay lists the revisions that reach heads: stable, candidate and held, each once.
func (a AgentHead) inPlay() []int64 {
	var out []int64
	for _, n := range []int64{a.Stable, a.Candidate, a.Held} {
		if n != 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func referencesOf(im Immutables, agent string, revision int64) ([]reference, error) {
	p, err := ParsedSpec(im, agent, revision)
	if err != nil {
		return nil, err
	}
	return p.refs, nil
}

// newestHeld gives the greatest ModRevision among the heads that pins and vetoes name, whether they count or not.
func (h Heads) newestHeld() int64 {
	var g int64
	for resource := range h.Pins {
		g = max(g, h.modOf(resource))
	}
	for resource := range h.Vetoes {
		g = max(g, h.modOf(resource))
	}
	return g
}

func (h Heads) modOf(resource string) int64 {
	kind, name, _ := strings.Cut(resource, "/")
	switch kind {
	case manifest.KindPrompt:
		return h.Prompts[name].ModRevision
	case manifest.KindMCP, manifest.KindPolicy:
		return h.MCP[name].ModRevision
	case manifest.KindCredential:
		return h.Credentials[name].ModRevision
	default:
		return 0
	}
}

// newest gives the greatest ModRevision among the heads referred to, tombstones included. Over all revisions in play this is
// the generation (semantics.md 3), whatever the instance gets: it can only fall by a write to the agent's head,
// which is greater.
func (h Heads) newest(refs []reference) int64 {
	var g int64
	for _, r := range refs {
		switch r.kind {
		case manifest.KindPrompt:
			g = max(g, h.Prompts[r.name].ModRevision)
		case manifest.KindMCP:
			g = max(g, h.MCP[r.name].ModRevision)
		case manifest.KindCredential:
			g = max(g, h.Credentials[r.name].ModRevision)
		}
	}
	return g
}

// decode reads a stored spec. It was checked at the door; a release that has become stricter since (or is older than what
// wrote it) must not take configs away from instances, so nothing is checked again. agentd's decoding is strict.
func decode(raw json.RawMessage) (spec.Agent, error) {
	var a spec.Agent
	if err := json.Unmarshal(raw, &a); err != nil {
		return spec.Agent{}, fmt.Errorf("decode agent spec: %w", err)
	}
	return a, nil
}

// Resolve gives the resources of an own spec with the heads as they are, in manifest order. raw is canonical JSON, sum its
// hash. Apply uses it too, to know the manifest of what it is about to write.
func Resolve(h Heads, im Immutables, agent string, raw json.RawMessage, sum manifest.Hash) ([]Resource, error) {
	a, err := decode(raw)
	if err != nil {
		return nil, err
	}
	out, err := h.resolve(im, agent, raw, sum, references(a))
	return out.resources, err
}

func (h Heads) resolve(im Immutables, agent string, raw json.RawMessage, sum manifest.Hash, refs []reference) (resolution, error) {
	out := resolution{Heads: h, im: im, resources: make([]Resource, 0, 1+len(refs))}
	out.add(Resource{Line: manifest.Line{Kind: manifest.KindAgent, Name: agent, Version: "-", SHA256: sum}, JSON: raw})
	for _, r := range refs {
		if out.seen(r.kind, r.name) {
			continue
		}
		var err error
		switch r.kind {
		case manifest.KindPrompt:
			err = out.prompt(r)
		case manifest.KindMCP:
			err = out.mcp(r)
		case manifest.KindCredential:
			err = out.credential(r)
		}
		if err != nil {
			return resolution{}, err
		}
	}
	if err := out.bound(raw); err != nil {
		return resolution{}, err
	}
	out.sort()
	return out, nil
}
