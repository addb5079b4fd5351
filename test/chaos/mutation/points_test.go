package mutation

import (
	"slices"
	"strings"
	"testing"

	"github.com/agentry/agentry/test/chaos/failpoint"
)

// A mutation that is marked in the tree has a scenario that it turns red.
func TestEveryMutationHasAScenario(t *testing.T) {
	inTree, err := failpoint.Points("../../..")
	if err != nil {
		t.Fatal(err)
	}
	inTree = slices.DeleteFunc(inTree, func(name string) bool { return !strings.HasPrefix(name, failpoint.MutationPrefix) })
	armed := []string{"mutateReorder"} // the sound run of reordered-versions has it too
	for _, m := range All() {
		if m.Name == "" || m.Wrong == "" || m.Property == "" || len(m.points) == 0 {
			t.Errorf("mutation %q says too little: %+v", m.Name, m)
		}
		for p := range m.points {
			armed = append(armed, p.name)
		}
	}
	slices.Sort(armed)
	if !slices.Equal(armed, inTree) {
		t.Errorf("the tree has %q, scenarios arm %q", inTree, armed)
	}
}
