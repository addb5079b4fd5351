package specapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/agentry/agentry/controlplane/access"
	"github.com/agentry/agentry/controlplane/view"
	specv1 "github.com/agentry/agentry/gen/agentry/spec/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// The kinds of this API are manifest kinds.
const (
	kindAgent      = manifest.KindAgent
	kindPrompt     = manifest.KindPrompt
	kindMCP        = manifest.KindMCP
	kindCredential = manifest.KindCredential
)

const labelLatest = "latest"

func checkKind(kind string) error {
	switch kind {
	case kindAgent, kindPrompt, kindMCP, kindCredential:
		return nil
	}
	return errs.New(errs.Invalid, "kind %q (agent, prompt, mcp or credential)", kind)
}

func notFound(kind, namespace, name string) error {
	return access.Missing(access.Object{Namespace: namespace, Kind: kind, Name: name})
}

// agentObject gives one revision of an agent; revision 0 is the desired one.
func (s *Service) agentObject(namespace string, head view.AgentHead, mod, revision int64) (*specv1.Object, error) {
	o := &specv1.Object{
		Kind: kindAgent, Namespace: namespace, Name: head.Name, Updated: timestamppb.New(head.Updated), UpdatedBy: head.UpdatedBy,
		StoreRevision: mod, Deleted: head.Deleted,
	}
	if revision == 0 {
		revision = head.State.Desired()
	}
	o.Revision = revision
	o.Condition = string(s.fleet.Condition(namespace, head.Name))
	if head.Deleted && revision == 0 {
		return o, nil
	}
	r, ok := head.State.Find(revision)
	if !ok {
		return nil, errs.New(errs.NotFound, "agent %s has no revision %d", head.Name, revision)
	}
	b, err := s.content(r.Spec)
	if err != nil {
		return nil, fmt.Errorf("agent %s revision %d: %w", head.Name, revision, err)
	}
	if o.Labels, err = s.labels(namespace, head.Name, r.Spec); err != nil {
		return nil, err
	}
	o.Json, o.Hash = string(b), r.Spec.String()
	return o, nil
}

// shared is what prompts' and MCP entries' heads have in common.
type shared struct {
	kind, name string
	deleted    bool
	versions   []view.VersionRef
	labels     map[string]string // label -> version; an MCP entry's current version is its "latest"
	object     *specv1.Object
}

func sharedPrompt(namespace string, h view.PromptHead, mod int64) shared {
	return shared{kind: kindPrompt, name: h.Name, deleted: h.Deleted, versions: h.Versions, labels: h.Labels, object: &specv1.Object{
		Kind: kindPrompt, Namespace: namespace, Name: h.Name, Updated: timestamppb.New(h.Updated), UpdatedBy: h.By, StoreRevision: mod, Deleted: h.Deleted,
	}}
}

func sharedMCP(namespace string, h view.MCPHead, mod int64) shared {
	return shared{kind: kindMCP, name: h.Name, deleted: h.Deleted, versions: h.Versions, labels: map[string]string{labelLatest: h.Current}, object: &specv1.Object{
		Kind: kindMCP, Namespace: namespace, Name: h.Name, Updated: timestamppb.New(h.Updated), UpdatedBy: h.By, StoreRevision: mod, Deleted: h.Deleted,
	}}
}

// find gives a version by its name or by a label; "" is what counts now.
func (h shared) find(version string) (view.VersionRef, bool) {
	if version == "" {
		version = labelLatest
	}
	if v, ok := findVersion(h.versions, version); ok {
		return v, true
	}
	return findVersion(h.versions, h.labels[version])
}

func findVersion(versions []view.VersionRef, version string) (view.VersionRef, bool) {
	i := slices.IndexFunc(versions, func(v view.VersionRef) bool { return v.Version == version })
	if i < 0 || version == "" {
		return view.VersionRef{}, false
	}
	return versions[i], true
}

// sharedObject gives one version; a tombstone asked for without a version has no content.
func (s *Service) sharedObject(h shared, version string) (*specv1.Object, error) {
	o := h.object
	v, ok := h.find(version)
	if !ok {
		if h.deleted && version == "" {
			return o, nil
		}
		return nil, errs.New(errs.NotFound, "%s %s has no version or label %q", h.kind, h.name, cmp.Or(version, labelLatest))
	}
	b, err := s.content(v.Hash)
	if err != nil {
		return nil, fmt.Errorf("%s %s version %s: %w", h.kind, h.name, v.Version, err)
	}
	o.Revision, o.Version, o.Json, o.Hash = v.Ordinal, v.Version, string(b), v.Hash.String()
	for label, to := range h.labels {
		if to == v.Version {
			o.Labels = append(o.Labels, label)
		}
	}
	slices.Sort(o.Labels)
	return o, nil
}

func credentialObject(namespace string, h view.CredentialHead, mod int64) *specv1.Object {
	return &specv1.Object{
		Kind: kindCredential, Namespace: namespace, Name: h.Name, Revision: h.Version, Version: strconv.FormatInt(h.Version, 10),
		Updated: timestamppb.New(h.Updated), UpdatedBy: h.By, StoreRevision: mod, Deleted: h.Deleted,
	}
}

// object gives a stored object, tombstones included, at a version ("": what counts now). Names are found exactly.
func (s *Service) object(namespace, kind, name, version string) (*specv1.Object, error) {
	switch kind {
	case kindAgent:
		h, mod, ok := s.view.Agent(namespace, name)
		if !ok || h.Name != name {
			return nil, notFound(kind, namespace, name)
		}
		n, err := revisionOf(version)
		if err != nil {
			return nil, err
		}
		return s.agentObject(namespace, h, mod, n)
	case kindPrompt:
		h, mod, ok := s.view.Prompt(namespace, name)
		if !ok || h.Name != name {
			return nil, notFound(kind, namespace, name)
		}
		return s.sharedObject(sharedPrompt(namespace, h, mod), version)
	case kindMCP:
		h, mod, ok := s.view.MCP(namespace, name)
		if !ok || h.Name != name {
			return nil, notFound(kind, namespace, name)
		}
		return s.sharedObject(sharedMCP(namespace, h, mod), version)
	case kindCredential:
		h, mod, ok := s.view.Credential(namespace, name)
		if !ok || h.Name != name {
			return nil, notFound(kind, namespace, name)
		}
		if version != "" && version != strconv.FormatInt(h.Version, 10) {
			return nil, errs.New(errs.NotFound, "credential %s: only its current version %d can be shown", name, h.Version)
		}
		return credentialObject(namespace, h, mod), nil
	default:
		return nil, checkKind(kind)
	}
}

// revisionOf reads "", "8" or "8-3f2a91c4" (a config's name stands for its revision here).
func revisionOf(version string) (int64, error) {
	if version == "" {
		return 0, nil
	}
	number, _, _ := strings.Cut(version, "-")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 {
		return 0, errs.New(errs.Invalid, "revision %q (a number such as 8)", version)
	}
	return n, nil
}

// pretty gives canonical JSON for people.
func pretty(canonical string) string {
	if canonical == "" {
		return ""
	}
	var out bytes.Buffer
	if json.Indent(&out, []byte(canonical), "", "  ") != nil {
		return canonical
	}
	return out.String() + "\n"
}

// objectDiff gives the change between two contents; nil when they are equal.
func objectDiff(kind, name, before, after string) (*specv1.ObjectDiff, error) {
	changes, err := spec.Diff([]byte(before), []byte(after))
	if err != nil {
		return nil, errs.New(errs.Internal, "%s %s: %w", kind, name, err)
	}
	if len(changes) == 0 {
		return nil, nil
	}
	d := &specv1.ObjectDiff{Kind: kind, Name: name, Before: pretty(before), After: pretty(after)}
	for _, c := range changes {
		d.Changes = append(d.Changes, &specv1.FieldChange{Path: c.Path, Before: c.Before, After: c.After})
	}
	return d, nil
}
