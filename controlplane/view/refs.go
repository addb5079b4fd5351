package view

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// readRefs takes the references out of an agent's canonical spec. Partners count as heads of kind agent.
func readRefs(namespace string, canonical []byte) (refs, error) {
	var a spec.Agent
	if err := json.Unmarshal(canonical, &a); err != nil {
		return nil, fmt.Errorf("decode agent spec: %w", err)
	}
	r := refs{}
	for _, ref := range a.References() {
		r[idOf(ref.Kind, namespace, ref.Name)] = struct{}{}
	}
	return r, nil
}

// union merges the references of an agent's revisions in play.
func union(all map[manifest.Hash]refs) refs {
	out := refs{}
	for _, r := range all {
		maps.Copy(out, r)
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
