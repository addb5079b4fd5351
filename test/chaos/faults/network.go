package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/netns"
	"github.com/agentry/agentry/test/chaos/world"
)

// Network is a network of namespaces with a host for every node of a world. Give its options to the world before it starts.
type Network struct {
	net   *netns.Net
	hosts map[world.Kind][]*netns.Host
}

// NewNetwork makes the hosts. It needs root.
func NewNetwork(ctx context.Context, etcds, planes, agents int) (*Network, error) {
	net, err := netns.New(ctx)
	if err != nil {
		return nil, err
	}
	n := &Network{net: net, hosts: map[world.Kind][]*netns.Host{}}
	for _, group := range []struct {
		kind  world.Kind
		count int
	}{{world.Etcd, etcds}, {world.Plane, planes}, {world.Agentd, agents}} {
		for i := range group.count {
			h, err := net.Add(ctx, fmt.Sprintf("%s-%d", group.kind, i))
			if err != nil {
				return nil, errors.Join(err, net.Close())
			}
			n.hosts[group.kind] = append(n.hosts[group.kind], h)
		}
	}
	return n, nil
}

// Settle puts a world's nodes on the hosts.
func (n *Network) Settle(o *world.Options) {
	o.Site = func(kind world.Kind, index int) world.Site {
		h := n.hosts[kind][index]
		return world.Site{Host: h.IP, Prefix: h.Prefix(), Local: func(addr string) error { return n.net.Forward(h, addr) }}
	}
	o.Reach = func(addr string) error {
		for _, kind := range []world.Kind{world.Plane, world.Agentd} {
			for _, h := range n.hosts[kind] {
				if err := n.net.Expose(h, addr); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// Close takes it down; the world must have stopped.
func (n *Network) Close() error { return n.net.Close() }

func (n *Network) host(x *world.Node) *netns.Host { return n.hosts[x.Kind][x.Index] }

func (n *Network) hostsOf(nodes []*world.Node) []*netns.Host {
	var out []*netns.Host
	for _, x := range nodes {
		out = append(out, n.host(x))
	}
	return out
}

// Networks are the faults of what lies between the nodes. Without a network they are listed all the same, and say that they need one.
func Networks(n *Network) []world.Fault {
	etcds := func(w *world.World) []*world.Node { return w.Etcds }
	planes := func(w *world.World) []*world.Node { return w.Planes }
	agents := func(w *world.World) []*world.Node { return w.Agents }
	out := []world.Fault{
		wire{n: n, name: "partition-etcd-leader", whom: etcdLeader(), from: etcds, do: cut(netns.Both)},
		wire{n: n, name: "partition-etcd-leader-everybody", whom: etcdLeader(), from: both(etcds, planes), do: cut(netns.Both)},
		wire{n: n, name: "partition-etcd-minority", whom: etcdFollower(), from: both(etcds, planes), do: cut(netns.Both)},
		wire{n: n, name: "partition-etcd-one-way", whom: anyEtcd(), from: etcds, do: cut(netns.In)},
		wire{n: n, name: "partition-etcd-leader-deaf", whom: etcdLeader(), from: etcds, do: cut(netns.In)},
		wire{n: n, name: "partition-etcd-leader-mute", whom: etcdLeader(), from: etcds, do: cut(netns.Out)},
		wire{n: n, name: "partition-plane-etcd", whom: anyPlane(), from: etcds, do: cut(netns.Both)},
		wire{n: n, name: "partition-plane-etcd-one-way", whom: anyPlane(), from: etcds, do: cut(netns.In)},
		wire{n: n, name: "partition-plane-leader-etcd", whom: planeLeader(), from: etcds, do: cut(netns.Both)},
		wire{n: n, name: "partition-plane-planes", whom: anyPlane(), from: planes, do: cut(netns.Both)},
		wire{n: n, name: "partition-plane-everybody", whom: anyPlane(), from: both(etcds, planes, agents), do: cut(netns.Both)},
		wire{n: n, name: "partition-agentd-planes", whom: anyAgentd(), from: planes, do: cut(netns.Both)},
		wire{n: n, name: "partition-agentd-planes-one-way", whom: anyAgentd(), from: planes, do: cut(netns.In)},
		wire{n: n, name: "partition-plane-agents", whom: streamingPlane(), from: agents, do: cut(netns.Both)},
		wire{n: n, name: "loss-5-percent", from: both(etcds, planes, agents), do: lose(5)},
		wire{n: n, name: "loss-20-percent", from: both(etcds, planes, agents), do: lose(20)},
		slow{n: n, name: "delay-50ms", wait: 50 * time.Millisecond, jitter: 20 * time.Millisecond},
		slow{n: n, name: "delay-200ms", wait: 200 * time.Millisecond, jitter: 50 * time.Millisecond},
	}
	return out
}

func both(groups ...func(*world.World) []*world.Node) func(*world.World) []*world.Node {
	return func(w *world.World) []*world.Node {
		var out []*world.Node
		for _, g := range groups {
			out = append(out, g(w)...)
		}
		return out
	}
}

// wiring changes what goes between a host and its peers.
type wiring func(ctx context.Context, h *netns.Host, peers []*netns.Host) error

func cut(way netns.Way) wiring {
	return func(ctx context.Context, h *netns.Host, peers []*netns.Host) error { return h.Cut(ctx, way, peers...) }
}

// lose loses packets on their way in, so that each is in danger once where every host has the rule.
func lose(percent int) wiring {
	return func(ctx context.Context, h *netns.Host, peers []*netns.Host) error {
		return h.Lose(ctx, percent, netns.In, peers...)
	}
}

// wire cuts a node off from others, or lets packets between them get lost. Without whom it is done to all of them.
type wire struct {
	n    *Network
	name string
	whom chooser
	from func(*world.World) []*world.Node
	do   wiring
}

// Name implements world.Fault.
func (f wire) Name() string { return f.name }

// Needs implements world.Fault.
func (f wire) Needs(*world.World) error { return f.n.needs() }

func (n *Network) needs() error {
	if n != nil {
		return nil
	}
	if err := netns.Available(); err != nil {
		return err
	}
	return errors.New("needs a world on network namespaces")
}

// Inject implements world.Fault.
func (f wire) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 4*time.Second, 8*time.Second)
	peers := f.from(w)
	nodes := peers
	if f.whom.choose != nil {
		n, err := f.whom.choose(ctx, w, r)
		if err != nil {
			return world.Injected{}, err
		}
		nodes = []*world.Node{n}
	}
	in := world.Injected{
		What: fmt.Sprintf("%s: %s, for %s", f.name, names(nodes), hold), Hold: hold,
		// A leader that the others can't hear, or that can't hear them, keeps writes away until they elect another.
		NoWrites: slices.ContainsFunc(nodes, func(n *world.Node) bool { return n.Kind == world.Etcd }) && f.whom.choose == nil,
	}
	var wired []*netns.Host
	var fired int64
	in.Heal = func(ctx context.Context) error {
		var faults []error
		for _, h := range wired {
			dropped, err := h.Heal(ctx)
			fired += dropped
			faults = append(faults, err)
		}
		return errors.Join(faults...)
	}
	in.Fired = func() (int64, error) { return fired, nil }
	for _, n := range nodes {
		h := f.n.host(n)
		if err := f.do(ctx, h, f.n.hostsOf(others(peers, n))); err != nil {
			return world.Injected{}, errors.Join(err, in.Heal(ctx))
		}
		wired = append(wired, h)
	}
	return in, nil
}

// slow delays every packet of etcd members and control planes.
type slow struct {
	n            *Network
	name         string
	wait, jitter time.Duration
}

// Name implements world.Fault.
func (f slow) Name() string { return f.name }

// Needs implements world.Fault.
func (f slow) Needs(*world.World) error {
	if err := f.n.needs(); err != nil {
		return err
	}
	return netns.CanDelay()
}

// Inject implements world.Fault.
func (f slow) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 5*time.Second, 8*time.Second)
	var all []*netns.Delayed
	var fired int64
	heal := func(ctx context.Context) error {
		var faults []error
		for _, x := range all {
			waited, err := x.Heal(ctx)
			fired += waited
			faults = append(faults, err)
		}
		return errors.Join(faults...)
	}
	for _, n := range slices.Concat(w.Etcds, w.Planes) {
		x, err := f.n.host(n).Delay(ctx, f.wait, f.jitter)
		if err != nil {
			return world.Injected{}, errors.Join(err, heal(ctx))
		}
		all = append(all, x)
	}
	return world.Injected{
		What: fmt.Sprintf("packets of etcd and the control planes wait %s to %s, for %s", f.wait, f.wait+f.jitter, hold), Hold: hold,
		Heal: heal, Fired: func() (int64, error) { return fired, nil },
	}, nil
}

func names(nodes []*world.Node) string {
	var out []string
	for _, n := range nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

var (
	_ world.Fault = wire{}
	_ world.Fault = slow{}
)
