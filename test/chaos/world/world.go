// Package world is the topology that the fault suite runs: etcd members, control planes and agents as real processes, a scripted model
// server and stub MCP servers in the suite's own, and the handles by which faults touch them.
package world

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/agentry/agentry/test/harness"
)

// World is one running topology.
type World struct {
	*harness.Env
	// Root is the module's root, for builds.
	Root string
	// EtcdBin is the etcd server's binary.
	EtcdBin string
	// Etcds, Planes and Agents are the nodes, in order. The lists never change while the world runs.
	Etcds, Planes, Agents []*Node
	// Logf tells people what happens.
	Logf func(format string, args ...any)

	etcd *clientv3.Client
}

// Etcd is a client of all members, outside of every fault.
func (w *World) Etcd() *clientv3.Client { return w.etcd }

// Nodes gives all of them.
func (w *World) Nodes() []*Node {
	out := append([]*Node{}, w.Etcds...)
	out = append(out, w.Planes...)
	return append(out, w.Agents...)
}

// EtcdLeader finds the member that leads now.
func (w *World) EtcdLeader(ctx context.Context) (*Node, error) {
	var errs []error
	for _, n := range w.Etcds {
		if !n.Running() {
			continue
		}
		st, err := w.etcd.Status(ctx, n.URL())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if st.Leader != 0 && st.Leader == st.Header.MemberId {
			return n, nil
		}
	}
	return nil, fmt.Errorf("no etcd member says that it leads: %w", errors.Join(errs...))
}
