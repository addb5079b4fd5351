package app

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
)

// Advertise is where others reach this replica's doors, as host:port; empty: where the door listens, and by the host's name if it
// listens on every address.
type Advertise struct{ People, Runtime string }

func (a *Advertise) flags(fs *flag.FlagSet) {
	fs.StringVar(&a.People, "advertise-people", "", "`address` (host:port) at which people reach this replica; default: the people door's, by the host's name if it is on every address")
	fs.StringVar(&a.Runtime, "advertise-runtime", "", "`address` (host:port) at which other replicas reach this one's runtime door; default: the runtime door's, by the host's name if it is on every address")
}

func (a Advertise) check(fault func(string, ...any)) {
	for name, addr := range map[string]string{"--advertise-people": a.People, "--advertise-runtime": a.Runtime} {
		if addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if ip, bad := netip.ParseAddr(host); err != nil || host == "" || port == "" || port == "0" || (bad == nil && ip.IsUnspecified()) {
			fault("%s: %q (host:port that others can reach)", name, addr)
		}
	}
}

// advertised gives what others are told of a door that listens at an address.
func advertised(given, listens string) (string, error) {
	if given != "" {
		return given, nil
	}
	host, port, err := net.SplitHostPort(listens)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", listens, err)
	}
	if ip, _ := netip.ParseAddr(host); !ip.IsUnspecified() { // a name isn't one either
		return listens, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the door listens on every address, and the host has no name to tell others (--advertise-people, --advertise-runtime): %w", err)
	}
	return net.JoinHostPort(name, port), nil
}

// forgetFormer removes what a former life of this process holds by leases that haven't ended yet: this store belongs to one process at
// a time, so nobody else is alive, and nobody needs to wait for who was.
func forgetFormer(ctx context.Context, s store.Store) error {
	page, err := s.List(ctx, view.ReplicaPrefix, store.ListOptions{KeysOnly: true, Limit: 100})
	if err != nil {
		return err
	}
	t := store.Txn{Deletes: []string{view.LeaderKey}}
	for _, kv := range page.KVs {
		t.Deletes = append(t.Deletes, kv.Key)
	}
	_, err = s.Commit(ctx, t)
	return err
}

// newPeers makes what links this replica with the others.
func newPeers(ctx context.Context, in parts, table *fleet.Table, hub *stream.Hub, ids *identities) (*peers.Peers, error) {
	self := peers.Record{ID: in.replica, Version: in.cfg.Version, Started: time.Now().UTC()}
	var err error
	if self.People, err = advertised(in.cfg.Advertise.People, in.peopleAddr); err != nil {
		return nil, err
	}
	if self.Runtime, err = advertised(in.cfg.Advertise.Runtime, in.runtimeAddr); err != nil {
		return nil, err
	}
	return peers.Open(ctx, peers.Config{
		Logger: in.log, Store: in.store, Leases: in.leases, Self: self, Fleet: table,
		Cluster:  func() string { return in.view.Cluster().ID },
		Revision: in.view.Revision, TLS: in.authority.PeerTLS, Caller: ids.door.ReplicaOf, Displace: hub.Displace,
		Drop: func(id snapshot.InstanceID) { hub.Drop(id) },
	})
}

// peerMetrics tells how the links to the other replicas stand.
type peerMetrics struct {
	peers *peers.Peers
	links *prometheus.Desc
}

func newPeerMetrics(p *peers.Peers) *peerMetrics {
	return &peerMetrics{peers: p, links: prometheus.NewDesc("agentry_peer_links", "Links to the other replicas, by state.", []string{"state"}, nil)}
}

// Describe implements prometheus.Collector.
func (m *peerMetrics) Describe(out chan<- *prometheus.Desc) { out <- m.links }

// Collect implements prometheus.Collector.
func (m *peerMetrics) Collect(out chan<- prometheus.Metric) {
	for state, n := range m.peers.Links() {
		out <- prometheus.MustNewConstMetric(m.links, prometheus.GaugeValue, float64(n), string(state))
	}
}

var _ prometheus.Collector = (*peerMetrics)(nil)
