package access_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/agentry/agentry/controlplane/access"
)

// TestConditionsOfADecisionAreBoundedTogether: who may bind in one namespace can't make everybody's calls there cost minutes, and no
// binding of another namespace counts less for it.
func TestConditionsOfADecisionAreBoundedTogether(t *testing.T) {
	t.Parallel()
	c, err := access.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	list := "[" + strings.TrimSuffix(strings.Repeat("1,", 20), ",") + "]"
	dear := list + ".all(a, " + list + `.all(b, a == b && object.name != "zz")) && principal.name == "nobody"`
	grants := func(namespace string, dearOnes int) []*access.Grant {
		var out []*access.Grant
		for i := range dearOnes + 1 {
			b := access.Binding{Name: fmt.Sprintf("b%05d", i), Namespace: namespace, Role: "viewer", Subjects: []string{"user:ada"}, Condition: dear}
			if i == dearOnes {
				b.Condition = `principal.name == "user:ada"`
			}
			g, err := c.Grant(b)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, g)
		}
		return out
	}
	ada := access.Principal{Name: "user:ada", Kind: access.User}
	p := access.NewPolicy(nil, append(grants("hostile", 500), grants("quiet", 1)...))
	for namespace, want := range map[string]bool{"hostile": false, "quiet": true} {
		if got := p.Allowed(ada, "spec.read", access.Object{Namespace: namespace, Kind: "agent", Name: "a"}); got != want {
			t.Errorf("%s: %v", namespace, got)
		}
	}
	if !p.Somewhere(ada, "spec.read", "") {
		t.Error("a list of all namespaces was refused before it was made")
	}
}
