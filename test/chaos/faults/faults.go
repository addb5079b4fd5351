// Package faults is what goes wrong in a run of the fault suite: each kind implements world.Fault, heals itself, and tells how often it
// really happened. The suite's runner draws them.
package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// upWait bounds the wait for a process that was started again.
const upWait = 60 * time.Second

// pick chooses a node.
func pick(r *rand.Rand, nodes []*world.Node) *world.Node { return nodes[r.IntN(len(nodes))] }

// between chooses a duration, to the millisecond.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64((high-low)/time.Millisecond)+1))*time.Millisecond
}

// others gives the nodes but one.
func others(nodes []*world.Node, but *world.Node) []*world.Node {
	var out []*world.Node
	for _, n := range nodes {
		if n != but {
			out = append(out, n)
		}
	}
	return out
}

// chooser names whom a fault is done to.
type chooser struct {
	name   string // "etcd-leader"
	choose func(ctx context.Context, w *world.World, r *rand.Rand) (*world.Node, error)
}

func etcdLeader() chooser {
	return chooser{"etcd-leader", func(ctx context.Context, w *world.World, _ *rand.Rand) (*world.Node, error) { return w.EtcdLeader(ctx) }}
}

func etcdFollower() chooser {
	return chooser{"etcd-follower", func(ctx context.Context, w *world.World, r *rand.Rand) (*world.Node, error) {
		leader, err := w.EtcdLeader(ctx)
		if err != nil {
			return nil, err
		}
		return pick(r, others(w.Etcds, leader)), nil
	}}
}

func anyPlane() chooser {
	return chooser{"plane", func(_ context.Context, w *world.World, r *rand.Rand) (*world.Node, error) {
		return pick(r, w.Planes), nil
	}}
}

// streamingPlane is a control plane that instances are connected to.
func streamingPlane() chooser {
	return chooser{"plane", func(ctx context.Context, w *world.World, r *rand.Rand) (*world.Node, error) {
		var some []*world.Node
		for _, n := range w.Planes {
			streams, err := (&harness.ControlPlane{People: n.Addr}).Metric(ctx, "agentry_push_streams")
			if err == nil && streams > 0 {
				some = append(some, n)
			}
		}
		if len(some) == 0 {
			return nil, errors.New("no control plane has a stream")
		}
		return pick(r, some), nil
	}}
}

func planeLeader() chooser {
	return chooser{"plane-leader", func(ctx context.Context, w *world.World, _ *rand.Rand) (*world.Node, error) {
		return PlaneLeader(ctx, w)
	}}
}

func anyAgentd() chooser {
	return chooser{"agentd", func(_ context.Context, w *world.World, r *rand.Rand) (*world.Node, error) {
		if len(w.Agents) == 0 {
			return nil, errors.New("no agentd runs")
		}
		return pick(r, w.Agents), nil
	}}
}

// PlaneLeader finds the control plane that performs releases, from what the store holds.
func PlaneLeader(ctx context.Context, w *world.World) (*world.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := planeLeads(ctx, w)
		if err == nil {
			return n, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-tick.C:
		}
	}
}

func planeLeads(ctx context.Context, w *world.World) (*world.Node, error) {
	resp, err := w.Etcd().Get(ctx, view.LeaderKey)
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, errors.New("no control plane leads")
	}
	id := string(resp.Kvs[0].Value)
	if resp, err = w.Etcd().Get(ctx, view.ReplicaPrefix+id); err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, fmt.Errorf("control plane %s leads and isn't registered", id)
	}
	var record struct {
		People  string `json:"people"`
		Runtime string `json:"runtime"`
	}
	if err := json.Unmarshal(resp.Kvs[0].Value, &record); err != nil {
		return nil, fmt.Errorf("record of control plane %s: %w", id, err)
	}
	for _, n := range w.Planes {
		if n.Peer == record.Runtime || n.Addr == record.People {
			return n, nil
		}
	}
	return nil, fmt.Errorf("control plane %s at %s leads and isn't one of the world", id, record.Runtime)
}

// excuse gives the nodes whose requests may fail because of what is done to n.
func excuse(n *world.Node) []*world.Node {
	if n.Kind == world.Agentd {
		return []*world.Node{n}
	}
	return nil
}

// needsRoot is the answer of faults that change the machine.
func needsRoot(tools ...string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	return needsTools(tools...)
}

func needsTools(tools ...string) error {
	for _, t := range tools {
		if _, err := exec.LookPath(t); err != nil {
			return fmt.Errorf("needs %s: %w", t, err)
		}
	}
	return nil
}

// contains tells whether r holds text within one line.
func contains(r io.Reader, text string) (bool, error) {
	scan := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := scan.ReadString('\n')
		if strings.Contains(line, text) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}
