package view

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/spec"
)

// headID names a head; name is lower case.
type headID struct {
	kind, namespace, name string
}

func idOf(kind, namespace, name string) headID {
	return headID{kind: kind, namespace: namespace, name: strings.ToLower(name)}
}

// refs are the heads that one revision of an agent's spec refers to.
type refs map[headID]struct{}

// specFacts are what the view keeps of an agent's spec in play.
type specFacts struct {
	refs   refs
	labels []string // key=value, sorted
	parsed *snapshot.Parsed
}

// readSpec takes labels and references out of an agent's canonical spec. Partners count as heads of kind agent.
func readSpec(namespace string, canonical []byte) (*specFacts, error) {
	var a spec.Agent
	if err := json.Unmarshal(canonical, &a); err != nil {
		return nil, fmt.Errorf("decode agent spec: %w", err)
	}
	f := &specFacts{refs: refs{}, parsed: snapshot.Parse(a)}
	for _, ref := range a.References() {
		f.refs[idOf(ref.Kind, namespace, ref.Name)] = struct{}{}
	}
	for k, v := range a.Labels {
		f.labels = append(f.labels, k+"="+v)
	}
	slices.Sort(f.labels)
	return f, nil
}

// union merges the references of an agent's revisions in play. It may be shared: who changes it copies it first.
func union(all map[manifest.Hash]*specFacts) refs {
	if len(all) == 1 {
		for _, f := range all {
			return f.refs
		}
	}
	out := refs{}
	for _, f := range all {
		maps.Copy(out, f.refs)
	}
	return out
}

func compareIDs(a, b headID) int {
	if c := strings.Compare(a.kind, b.kind); c != 0 {
		return c
	}
	if c := strings.Compare(a.namespace, b.namespace); c != 0 {
		return c
	}
	return strings.Compare(a.name, b.name)
}

func sortedIDs(r refs) []headID { return slices.SortedFunc(maps.Keys(r), compareIDs) }
