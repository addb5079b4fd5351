package faults

import (
	"slices"

	"github.com/agentry/agentry/test/chaos/world"
)

// All gives every kind of fault. Those that can't be made in a world say so by Needs.
func All() []world.Fault {
	return slices.Concat(Processes(), Points(), EtcdPoints(), Disks(), LastGood())
}
