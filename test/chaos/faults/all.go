package faults

import (
	"slices"

	"github.com/agentry/agentry/test/chaos/world"
)

// All gives every kind of fault. Those that can't be made in a world say so by Needs. n is the world's network; nil: it has none.
func All(n *Network) []world.Fault {
	return slices.Concat(Processes(), Points(), EtcdPoints(), Disks(), LastGood(), Networks(n))
}

// Smoke gives those of All that a run of a few minutes has time for: something of every sort.
func Smoke(n *Network) []world.Fault {
	names := []string{
		"kill-etcd-leader", "pause-etcd-leader", "kill-plane-leader", "pause-plane", "kill-agentd", "rolling-restart",
		"crash-afterCommitBeforeView", "crash-betweenSendAndAck", "crash-afterReleaserWrite", "crash-betweenPersistAndSwap", "delay-beforeRefresh",
		"etcd-raftBeforeSave", "etcd-afterCommit", "disk-full-agentd", "disk-full-etcd", "fsync-errors-agentd", "spoilt-last-good",
		"partition-etcd-leader", "partition-plane-etcd-one-way", "partition-plane-planes", "partition-agentd-planes", "loss-20-percent", "delay-50ms",
	}
	return slices.DeleteFunc(All(n), func(f world.Fault) bool { return !slices.Contains(names, f.Name()) })
}
