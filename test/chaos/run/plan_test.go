package run

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
)

type named string

func (n named) Name() string           { return string(n) }
func (named) Needs(*world.World) error { return nil }
func (named) Inject(context.Context, *world.World, *rand.Rand) (world.Injected, error) {
	return world.Injected{}, nil
}

func TestASeedPlansTheSameFaults(t *testing.T) {
	kinds := []world.Fault{named("a"), named("b"), named("c"), named("d")}
	draw := func(seed uint64) (names string, numbers []uint64) {
		p := NewPlan(kinds, seed)
		for range 12 {
			p.Wait(time.Second)
			f, r := p.Next()
			names += f.Name()
			numbers = append(numbers, r.Uint64())
		}
		return names, numbers
	}
	first, numbers := draw(7)
	again, same := draw(7)
	if first != again || numbers[11] != same[11] {
		t.Errorf("seed 7 drew %s, then %s", first, again)
	}
	if other, _ := draw(8); other == first {
		t.Errorf("seeds 7 and 8 both drew %s", first)
	}
	for round := range 3 {
		seen := map[byte]bool{}
		for _, c := range []byte(first[round*4 : round*4+4]) {
			seen[c] = true
		}
		if len(seen) != len(kinds) {
			t.Errorf("round %d of %s leaves out a kind", round, first)
		}
	}
}
