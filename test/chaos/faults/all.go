package faults

import (
	"slices"

	"github.com/agentry/agentry/test/chaos/world"
)

// Kit is what faults work with beside a world.
type Kit struct {
	// Network is that of the world; nil: everything is on the loopback.
	Network *Network
	// Skewed is the folder of programs whose clock can be wrong; "": there are none.
	Skewed string
}

// All gives every kind of fault. Those that can't be made in a world say so by Needs.
func All(k Kit) []world.Fault {
	return slices.Concat(
		Processes(), Points(), EtcdPoints(), Disks(), LastGood(), Clocks(k.Skewed), Stores(k.Network), Upstreams(), Specs(), Identities(), Readers(), Networks(k.Network),
	)
}

// Smoke gives those of All that a run of a few minutes has time for: something of every sort.
func Smoke(k Kit) []world.Fault {
	names := smokeNames()
	return slices.DeleteFunc(All(k), func(f world.Fault) bool { return !slices.Contains(names, f.Name()) })
}

func smokeNames() []string {
	return []string{
		"kill-etcd-leader", "pause-etcd-leader", "kill-plane-leader", "pause-plane", "kill-agentd", "rolling-restart",
		"crash-afterCommitBeforeView", "crash-betweenSendAndAck", "crash-afterReleaserWrite", "crash-betweenPersistAndSwap", "delay-beforeRefresh",
		"etcd-raftBeforeSave", "etcd-afterCommit", "disk-full-agentd", "disk-full-etcd", "fsync-errors-agentd", "spoilt-last-good",
		"clock-plane", "clock-agentd-month", "compaction", "etcd-nospace", "model-500", "tools-hang", "tools-list-changed-storm", "bad-specs", "identity-revoked", "slow-readers",
		"partition-etcd-leader", "partition-plane-etcd-one-way", "partition-plane-planes", "partition-agentd-planes", "loss-20-percent", "delay-50ms",
	}
}
