package faults

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentry/agentry/test/chaos/failpoint"
)

// A point that no fault arms is dead, and one that isn't in the tree can't fire.
func TestEveryPointIsArmedByAFault(t *testing.T) {
	inTree, err := failpoint.Points("../../..")
	if err != nil {
		t.Fatal(err)
	}
	inTree = slices.DeleteFunc(inTree, func(name string) bool {
		return strings.HasPrefix(name, failpoint.MutationPrefix) || name == "deafLeader" || name == "holdRecords" // package mutation arms these
	})
	var armed []string
	for _, f := range Points() {
		switch f := f.(type) {
		case crash:
			armed = append(armed, f.point)
		case delay:
			armed = append(armed, f.point)
		default:
			t.Errorf("%s arms no point", f.Name())
		}
	}
	slices.Sort(armed)
	if armed = slices.Compact(armed); !slices.Equal(armed, inTree) {
		t.Errorf("the tree has %q, faults arm %q", inTree, armed)
	}
}

// Names are what a report counts by and --only asks for.
func TestFaultsHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All(Kit{}) {
		if f.Name() == "" || seen[f.Name()] {
			t.Errorf("the name %q is there twice, or empty", f.Name())
		}
		seen[f.Name()] = true
	}
	if few := Smoke(Kit{}); len(few) != len(smokeNames()) {
		t.Errorf("the smoke run has %d faults and %d names", len(few), len(smokeNames()))
	}
}
