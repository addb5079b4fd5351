package view

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/agentry/agentry/controlplane/release"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// index is the decoded content of the store. Values are replaced, never changed in place, so that what was handed
// out stays as it was.
type index struct {
	mods        map[string]int64 // key -> ModRevision of what doesn't hold it itself: refusals, settings, the cluster
	cluster     Cluster
	began       time.Time // when its epoch was first seen
	agents      map[headID]*agentNode
	prompts     map[headID]*node[PromptHead, snapshot.PromptHead]
	mcp         map[headID]*node[MCPHead, snapshot.MCPHead]
	credentials map[headID]*node[CredentialHead, snapshot.CredentialHead]
	alike       alike // of prompts, mcp and credentials as they are
	lastRefs    refs  // see one
	order       order
	blobs       blobs
	applied     map[headID]*appliedSet
	// appliedCount is how many configs the sets hold.
	appliedCount int
	refusals     map[headID]map[manifest.Hash]Refusal
	moves        moveLog
	settings     map[string][]byte
	dependents   map[headID]map[headID]struct{}        // head -> agents whose specs in play refer to it
	waiting      map[manifest.Hash]map[headID]struct{} // missing blob -> heads that name it
}

// node is a head with what snapshots read of it.
type node[H, S any] struct {
	head   H
	built  S
	create int64
	mod    int64
	seen   time.Time // when this write was first seen, by this machine's clock; of a shared head only
}

// agentNode is an agent's head with the references of its revisions in play.
type agentNode struct {
	node[AgentHead, snapshot.AgentHead]
	active map[manifest.Hash]*specFacts // specs of stable, candidate and hold
	refs   refs                         // their union, with the heads that pins and vetoes name
	pins   map[string]manifest.Line
	vetoes map[string]snapshot.Veto
	// moved is the store revision of the last change of what its configs are built from, sharing what is shared until the next.
	moved   int64
	sharing sharing
	seen    Seen
}

func newIndex() index {
	return index{
		mods:        map[string]int64{},
		agents:      map[headID]*agentNode{},
		prompts:     map[headID]*node[PromptHead, snapshot.PromptHead]{},
		mcp:         map[headID]*node[MCPHead, snapshot.MCPHead]{},
		credentials: map[headID]*node[CredentialHead, snapshot.CredentialHead]{},
		lastRefs:    refs{}, // never nil: who adds to a copy of it gets a map
		order:       order{},
		blobs:       newBlobs(),
		applied:     map[headID]*appliedSet{},
		refusals:    map[headID]map[manifest.Hash]Refusal{},
		moves:       newMoveLog(),
		settings:    map[string][]byte{},
		dependents:  map[headID]map[headID]struct{}{},
		waiting:     map[manifest.Hash]map[headID]struct{}{},
	}
}

func agentFacts(h AgentHead, mod int64) snapshot.AgentHead {
	a := snapshot.AgentHead{
		ModRevision: mod,
		Exists:      true,
		Deleted:     h.Deleted,
		Stable:      h.State.Stable,
		Returned:    h.State.Returned(),
		MovedAt:     h.lastMove(mod),
	}
	if c := h.State.Candidate; c != nil {
		a.Candidate = c.Revision
	}
	if hold := h.State.Hold; hold != nil && hold.Served {
		a.Held = hold.Revision
	}
	return a
}

// inPlay gives the spec blobs of the revisions from which instances may be served.
func inPlay(s release.State) []manifest.Hash {
	want := []int64{s.Stable}
	if s.Candidate != nil {
		want = append(want, s.Candidate.Revision)
	}
	if s.Hold != nil {
		want = append(want, s.Hold.Revision)
	}
	var out []manifest.Hash
	for _, r := range s.Revisions {
		if slices.Contains(want, r.N) {
			out = append(out, r.Spec)
		}
	}
	return out
}

func promptNode(h PromptHead, kv store.KV) *node[PromptHead, snapshot.PromptHead] {
	versions := map[string]manifest.Hash{}
	for _, r := range h.Versions {
		if r.Online {
			versions[r.Version] = r.Hash
		}
	}
	built := snapshot.PromptHead{ModRevision: kv.ModRevision, Deleted: h.Deleted, Labels: h.Labels, Versions: versions}
	return &node[PromptHead, snapshot.PromptHead]{head: h, built: built, create: kv.CreateRevision, mod: kv.ModRevision}
}

func mcpNode(h MCPHead, kv store.KV) (*node[MCPHead, snapshot.MCPHead], error) {
	built := snapshot.MCPHead{
		ModRevision: kv.ModRevision,
		Deleted:     h.Deleted,
		Current:     h.Current,
		Versions:    map[string]manifest.Hash{},
		Denied:      denied(h),
	}
	for _, r := range h.Versions {
		built.Versions[r.Version] = r.Hash
	}
	var err error
	built.Policy, err = renderPolicy(h)
	return &node[MCPHead, snapshot.MCPHead]{head: h, built: built, create: kv.CreateRevision, mod: kv.ModRevision}, err
}

func credentialNode(h CredentialHead, kv store.KV) *node[CredentialHead, snapshot.CredentialHead] {
	built := snapshot.CredentialHead{
		ModRevision: kv.ModRevision, Deleted: h.Deleted, Version: h.Version, Kept: slices.Sorted(maps.Keys(h.Sealed)), Origins: h.AllowedOrigins,
	}
	return &node[CredentialHead, snapshot.CredentialHead]{head: h, built: built, create: kv.CreateRevision, mod: kv.ModRevision}
}

func denied(h MCPHead) []string {
	if h.Enabled != nil && !*h.Enabled {
		return []string{"*"}
	}
	var out []string
	for name, t := range h.Tools {
		if t.Enabled != nil && !*t.Enabled {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// renderPolicy gives the canonical JSON of a person's decisions on an entry's tools; nil when there are none.
func renderPolicy(h MCPHead) ([]byte, error) {
	p := spec.Policy{Server: h.Name, Tools: map[string]spec.ToolPolicy{}}
	for name, t := range h.Tools {
		if t.Description == "" && len(t.Approved) == 0 {
			continue
		}
		approved := slices.Compact(slices.Sorted(slices.Values(t.Approved)))
		p.Tools[name] = spec.ToolPolicy{Description: t.Description, Approved: approved}
	}
	if len(p.Tools) == 0 {
		return nil, nil
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(raw)
}

// parseHead reads head/<kind>/<namespace>/<name>; the name may hold "/".
func parseHead(key string) (headID, bool) {
	kind, rest, ok := strings.Cut(strings.TrimPrefix(key, headPrefix), "/")
	namespace, name, ok2 := strings.Cut(rest, "/")
	return headID{kind: kind, namespace: namespace, name: name}, ok && ok2 && namespace != "" && name != ""
}

// parseConfig reads <namespace>/<agent>/<hash> below prefix.
func parseConfig(key, prefix string) (headID, manifest.Hash, bool) {
	parts := strings.Split(strings.TrimPrefix(key, prefix), "/")
	if len(parts) != 3 {
		return headID{}, manifest.Hash{}, false
	}
	h, ok := parseHash(parts[2])
	return headID{kind: manifest.KindAgent, namespace: parts[0], name: parts[1]}, h, ok
}

func parseHash(s string) (manifest.Hash, bool) {
	var h manifest.Hash
	err := h.UnmarshalText([]byte(s))
	return h, err == nil
}
