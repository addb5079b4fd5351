package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/internal/errs"
)

const (
	// clusterToken is in what etcd computes the ids of cluster and members from, beside their addresses.
	clusterToken = "agentry"
	// clusterSnapshots and clusterCatchUp are snapshotEvery and catchUp where a follower that was away for a moment must find what
	// it missed without being sent everything.
	clusterSnapshots, clusterCatchUp = 5000, 2000
	// progressOfWait is how often a start that waits for the others says so.
	progressOfWait = 5 * time.Second
)

// ClusterMember is one member of an embedded cluster: one control plane each.
type ClusterMember struct {
	Name    string
	Address string // host:port that the other members reach it at
}

// ClusterConfig says which member this process is. Everything but Name is the same at every member.
type ClusterConfig struct {
	EmbeddedConfig
	Name    string
	Members []ClusterMember
	// The files of mutual TLS among the members; empty: plain text, which is for loopback addresses only.
	CAFile, CertFile, KeyFile string
}

// OpenCluster starts one member of an embedded cluster and opens a store on it. It waits until most of the members are there, however
// long that takes, and says in the log whom it waits for. It answers Precondition when the data directory is another's: of a single
// member, of another list of members, or empty though the others know this member's data.
func OpenCluster(ctx context.Context, cfg ClusterConfig) (*Store, error) {
	if cfg.QuotaBytes <= 0 {
		cfg.QuotaBytes = defaultQuota
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	me, err := cfg.member()
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s, err := cfg.open(ctx, me, unlock)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("member %s of the embedded etcd cluster, in %s: %w", cfg.Name, cfg.Dir, err), unlock())
	}
	return s, nil
}

func (cfg ClusterConfig) open(ctx context.Context, me ClusterMember, unlock func() error) (*Store, error) {
	if err := cfg.claim(); err != nil {
		return nil, err
	}
	ask, err := cfg.peerClient()
	if err != nil {
		return nil, err
	}
	c, err := cfg.embed(me)
	if err != nil {
		return nil, err
	}
	etcd, err := launch(c)
	if err != nil {
		return nil, cfg.explain(err)
	}
	if err := cfg.await(ctx, etcd, ask); err != nil {
		etcd.Close()
		return nil, err
	}
	client := v3client.New(etcd.Server)
	s := newStore(storeParts{
		kind: store.EmbeddedCluster, client: client, watching: client, quota: cfg.QuotaBytes, several: true, members: membersOf(client, etcd, ask),
		release: func() error { return errors.Join(end(client, etcd), unlock()) },
	})
	if err := s.mendSpace(ctx, etcd, cfg.Logger); err != nil {
		return nil, errors.Join(err, end(client, etcd))
	}
	return s, nil
}

// Check answers Invalid, with what is wrong, for a list of members that no cluster can be made of.
func (cfg ClusterConfig) Check() error {
	_, err := cfg.member()
	return err
}

// member validates the list of members and finds this one.
func (cfg ClusterConfig) member() (me ClusterMember, err error) {
	seen := map[string]bool{}
	for _, m := range cfg.Members {
		host, _, err := net.SplitHostPort(m.Address)
		switch {
		case err != nil || host == "" || m.Name == "" || strings.ContainsAny(m.Name, "=, "):
			return me, errs.New(errs.Invalid, "member %q at %q: it must be NAME=HOST:PORT", m.Name, m.Address)
		case seen[m.Name] || seen[m.Address]:
			return me, errs.New(errs.Invalid, "member %s=%s: name or address is there twice", m.Name, m.Address)
		case cfg.CertFile == "" && !onLoopback(host):
			return me, errs.New(errs.Invalid, "member %s: %s is no loopback address, so the members need certificates for each other", m.Name, m.Address)
		}
		seen[m.Name], seen[m.Address] = true, true
		if m.Name == cfg.Name {
			me = m
		}
	}
	switch {
	case me.Name == "":
		return me, errs.New(errs.Invalid, "member %q isn't in the list of members", cfg.Name)
	case len(cfg.Members)%2 == 0:
		return me, errs.New(errs.Invalid, "%d members: an odd number is needed, three as a rule", len(cfg.Members))
	case (cfg.CertFile == "") != (cfg.KeyFile == "") || (cfg.CertFile == "") != (cfg.CAFile == ""):
		return me, errs.New(errs.Invalid, "certificate, key and authority among the members belong together")
	}
	return me, nil
}

func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func (cfg ClusterConfig) url(m ClusterMember) url.URL {
	if cfg.CertFile == "" {
		return url.URL{Scheme: "http", Host: m.Address}
	}
	return url.URL{Scheme: "https", Host: m.Address}
}

// embed gives etcd's configuration. Only the door for the other members is opened.
func (cfg ClusterConfig) embed(me ClusterMember) (*embed.Config, error) {
	c := baseConfig(cfg.EmbeddedConfig)
	c.Name = cfg.Name
	c.InitialClusterToken = clusterToken
	var all []string
	for _, m := range cfg.Members {
		u := cfg.url(m)
		all = append(all, m.Name+"="+u.String())
	}
	c.InitialCluster = strings.Join(all, ",")
	at := cfg.url(me)
	c.AdvertisePeerUrls = []url.URL{at}
	host, port, err := net.SplitHostPort(me.Address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		at.Host = net.JoinHostPort("0.0.0.0", port) // a name is the others' way here; etcd binds addresses only
	}
	c.ListenPeerUrls = []url.URL{at}
	if cfg.CertFile != "" {
		c.PeerTLSInfo = transport.TLSInfo{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, TrustedCAFile: cfg.CAFile, ClientCertAuth: true}
		c.TlsMinVersion = "TLS1.3"
	}
	c.SnapshotCount, c.SnapshotCatchUpEntries = clusterSnapshots, clusterCatchUp
	return c, intact(c.Dir)
}

// peerClient is for what members ask each other, with short deadlines by the callers' ctx.
func (cfg ClusterConfig) peerClient() (*http.Client, error) {
	t := &http.Transport{DisableKeepAlives: true}
	if cfg.CertFile != "" {
		info := transport.TLSInfo{CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, TrustedCAFile: cfg.CAFile}
		secure, err := info.ClientConfig()
		if err != nil {
			return nil, errs.New(errs.Invalid, "certificates among the members: %w", err)
		}
		t.TLSClientConfig = secure
	}
	return &http.Client{Transport: t}, nil
}

// explain gives etcd's own errors a way out.
func (cfg ClusterConfig) explain(err error) error {
	if strings.Contains(err.Error(), "has already been bootstrapped") {
		return errs.New(errs.Precondition, "the other members know this one, but its data is gone: bring its data directory back, "+
			"or make the cluster anew from a backup (agentctl cluster backup at a member that runs): %w", err)
	}
	return err
}

// await waits until the member takes requests, which needs most of the members.
func (cfg ClusterConfig) await(ctx context.Context, etcd *embed.Etcd, ask *http.Client) error {
	began := time.Now()
	tick := time.NewTicker(progressOfWait)
	defer tick.Stop()
	for {
		select {
		case <-etcd.Server.ReadyNotify():
			return nil
		case err := <-etcd.Err():
			return err
		case <-etcd.Server.StopNotify():
			return errs.New(errs.Unavailable, "stopped while it started")
		case <-ctx.Done():
			return errs.New(errs.KindOf(ctx.Err()), "not ready: %w", ctx.Err())
		case <-tick.C:
		}
		there, missing, err := cfg.others(ctx, etcd, ask)
		if err != nil {
			return err
		}
		cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "store waits for most of its members", slog.Duration("since", time.Since(began).Round(time.Second)),
			slog.Int("needed", len(cfg.Members)/2+1), slog.Any("there", append([]string{cfg.Name}, there...)), slog.Any("missing", missing))
	}
}

// others asks who of the other members is there. One of another cluster is an error: it would be waited for in vain.
func (cfg ClusterConfig) others(ctx context.Context, etcd *embed.Etcd, ask *http.Client) (there, missing []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, memberWithin)
	defer cancel()
	ours := etcd.Server.Cluster().ID().String()
	for _, m := range cfg.Members {
		if m.Name == cfg.Name {
			continue
		}
		at := cfg.url(m)
		var ignored any
		head, err := askPeer(ctx, ask, at.JoinPath("members").String(), &ignored)
		if err != nil {
			missing = append(missing, m.Name)
			continue
		}
		if theirs := head.Get("X-Etcd-Cluster-Id"); theirs != ours {
			return nil, nil, errs.New(errs.Precondition, "member %s at %s is of another cluster (%s, this one is %s): the list of members must be "+
				"the same at every member, and their data directories must come from the same first start", m.Name, m.Address, theirs, ours)
		}
		there = append(there, m.Name)
	}
	return there, missing, nil
}
