// Command etcdserver is a real single-member etcd in a process of its own, for the tests that need an external one
// to dial, kill and restart. It is never shipped.
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

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

func main() {
	dir := flag.String("dir", "", "data directory")
	listen := flag.String("listen", "", "host:port for clients")
	maxOps := flag.Uint("max-txn-ops", 128, "operations in one transaction")
	cert := flag.String("cert", "", "server certificate file; empty: plain text")
	key := flag.String("key", "", "key file of the certificate")
	clientCA := flag.String("client-ca", "", "CA file that client certificates must come from; empty: none asked")
	flag.Parse()
	c := embed.NewConfig()
	c.MaxTxnOps = *maxOps
	c.ClientTLSInfo.CertFile, c.ClientTLSInfo.KeyFile = *cert, *key
	c.ClientTLSInfo.TrustedCAFile, c.ClientTLSInfo.ClientCertAuth = *clientCA, *clientCA != ""
	if err := run(c, *dir, *listen); err != nil {
		fmt.Fprintln(os.Stderr, "etcdserver:", err)
		os.Exit(1)
	}
}

// run serves until SIGTERM or an interrupt. The line "ready" on stdout says that the member takes requests.
func run(c *embed.Config, dir, listen string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if dir == "" || listen == "" {
		return errors.New("--dir and --listen are required")
	}
	scheme := "http"
	if c.ClientTLSInfo.CertFile != "" {
		scheme = "https"
	}
	client := url.URL{Scheme: scheme, Host: listen}
	c.Dir = dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls = nil
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
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
