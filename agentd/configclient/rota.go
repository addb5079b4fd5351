package configclient

import (
	"math/rand/v2"
	"slices"
)

// rota gives the addresses of the control plane's replicas in turn. Its order is this process's own, so that instances spread over the
// replicas, and over those that are left when one dies. It is made anew after each round: instances that left one replica together
// don't come to the next together, too.
type rota struct {
	order []string
	next  int
}

func newRota(addresses []string) *rota {
	r := &rota{order: slices.Clone(addresses)}
	r.shuffle()
	return r
}

func (r *rota) shuffle() {
	rand.Shuffle(len(r.order), func(i, j int) { r.order[i], r.order[j] = r.order[j], r.order[i] })
}

// take gives the next address: each once in a round, and where there are several never one twice in a row.
func (r *rota) take() string {
	if r.next == len(r.order) {
		last := r.order[r.next-1]
		r.shuffle()
		if n := len(r.order); n > 1 && r.order[0] == last {
			i := 1 + rand.N(n-1) //nolint:gosec // spreads load, no secret
			r.order[0], r.order[i] = r.order[i], r.order[0]
		}
		r.next = 0
	}
	r.next++
	return r.order[r.next-1]
}
