package releaseapi

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/agentry/agentry/controlplane/snapshot"
)

func TestGlancesAreAMap(t *testing.T) {
	t.Parallel()
	var g glances
	want := map[string]uint32{}
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		id := fmt.Sprint(random.IntN(6))
		if random.IntN(4) == 0 {
			there := maps.Collect(func(yield func(string, bool) bool) {
				for other := range want {
					if other != id && !yield(other, true) {
						return
					}
				}
			})
			_, was := want[id]
			gone := g.without(there)
			if (len(gone) == 1) != was || was && gone[0].drifts != want[id] {
				t.Fatalf("%s gone: %+v, there before: %t", id, gone, was)
			}
			delete(want, id)
		} else {
			n := random.Uint32()
			g.set(glance{id: snapshot.InstanceID{Instance: id}, drifts: n})
			want[id] = n
		}
		if g.len() != len(want) {
			t.Fatalf("%d instances, want %d", g.len(), len(want))
		}
		for i := range 6 {
			got, ok := g.of(fmt.Sprint(i))
			if n, there := want[fmt.Sprint(i)]; ok != there || got.drifts != n {
				t.Fatalf("%d: %d %t, want %d %t", i, got.drifts, ok, n, there)
			}
		}
	}
}
