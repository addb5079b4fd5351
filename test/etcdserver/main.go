// Command etcdserver is a real etcd member in a process of its own, alone or one of several, for the tests that need an external
// etcd to dial, kill, pause and restart. Its timers are etcd's own defaults. It is never shipped.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func main() {
	c := embed.NewConfig()
	var m member
	flag.StringVar(&c.Dir, "dir", "", "data directory; kept over restarts")
	flag.StringVar(&m.listen, "listen", "", "host:port for clients")
	flag.StringVar(&m.peer, "listen-peer", "", "host:port for the other members; empty: a member alone, without that door")
	flag.StringVar(&c.Name, "name", c.Name, "the member's name in --initial-cluster")
	flag.StringVar(&m.cluster, "initial-cluster", "", "NAME=URL,... of every member's peer door; empty: alone")
	flag.StringVar(&c.ClusterState, "initial-cluster-state", c.ClusterState, "new, or existing for a member that was added to a running cluster")
	flag.UintVar(&c.MaxTxnOps, "max-txn-ops", c.MaxTxnOps, "operations in one transaction")
	flag.UintVar(&c.MaxRequestBytes, "max-request-bytes", c.MaxRequestBytes, "bytes in one request")
	flag.Int64Var(&c.QuotaBackendBytes, "quota-bytes", 0, "bytes of the database at which writes end with NOSPACE; 0: etcd's default")
	flag.BoolVar(&c.UnsafeNoFsync, "unsafe-no-fsync", false, "don't sync the log: for tests that aren't about durability")
	flag.StringVar(&m.log, "log-level", "", "log to stderr from this level on; empty: nothing")
	flag.StringVar(&c.ClientTLSInfo.CertFile, "cert", "", "server certificate file; empty: plain text")
	flag.StringVar(&c.ClientTLSInfo.KeyFile, "key", "", "key file of the certificate")
	flag.StringVar(&c.ClientTLSInfo.TrustedCAFile, "client-ca", "", "CA file that client certificates must come from; empty: none asked")
	flag.StringVar(&c.PeerTLSInfo.CertFile, "peer-cert", "", "certificate file towards the other members, both ways; empty: plain text")
	flag.StringVar(&c.PeerTLSInfo.KeyFile, "peer-key", "", "key file of the peer certificate")
	flag.StringVar(&c.PeerTLSInfo.TrustedCAFile, "peer-ca", "", "CA file that the other members' certificates must come from")
	flag.Parse()
	c.ClientTLSInfo.ClientCertAuth = c.ClientTLSInfo.TrustedCAFile != ""
	c.PeerTLSInfo.ClientCertAuth = c.PeerTLSInfo.TrustedCAFile != ""
	if err := run(c, m); err != nil {
		fmt.Fprintln(os.Stderr, "etcdserver:", err)
		os.Exit(1)
	}
}

// member is what doesn't go into etcd's configuration as it is.
type member struct {
	listen, peer string
	cluster      string
	log          string
}

// run serves until SIGTERM or an interrupt. The line "ready" on stdout says that the member takes requests: one of several says so
// when most of them have found each other.
func run(c *embed.Config, m member) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.Dir == "" || m.listen == "" {
		return errors.New("--dir and --listen are required")
	}
	client := door(m.listen, c.ClientTLSInfo)
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls = nil
	if m.peer != "" {
		peer := door(m.peer, c.PeerTLSInfo)
		c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	}
	c.InitialCluster = m.cluster
	if c.InitialCluster == "" {
		c.InitialCluster = c.InitialClusterFromName(c.Name)
	}
	log, err := logger(m.log)
	if err != nil {
		return err
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
	if _, err := fmt.Fprintln(os.Stdout, "ready"); err != nil {
		return err
	}
	select {
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return nil
	}
}

func door(addr string, tls transport.TLSInfo) url.URL {
	if tls.CertFile != "" {
		return url.URL{Scheme: "https", Host: addr}
	}
	return url.URL{Scheme: "http", Host: addr}
}

func logger(level string) (*zap.Logger, error) {
	if level == "" {
		return zap.NewNop(), nil
	}
	from, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, err
	}
	cfg := zap.NewProductionConfig()
	cfg.Level = zap.NewAtomicLevelAt(from)
	return cfg.Build()
}
