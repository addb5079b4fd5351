package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/releaseapi"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/store/etcdstore"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/phase"
)

func openStore(ctx context.Context, cfg Config, log *slog.Logger) (*etcdstore.Store, error) {
	if cfg.Cluster.on() {
		s, err := etcdstore.OpenCluster(ctx, cfg.Cluster.store(etcdstore.EmbeddedConfig{Dir: cfg.DataDir, Logger: log}))
		if err != nil {
			return nil, fmt.Errorf("--cluster: %w", err)
		}
		return s, nil
	}
	if len(cfg.EtcdEndpoints) == 0 {
		s, err := etcdstore.OpenEmbedded(ctx, etcdstore.EmbeddedConfig{Dir: cfg.DataDir, Logger: log})
		if err != nil {
			return nil, err
		}
		if err := forgetFormer(ctx, s); err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	}
	t, err := etcdTLS(cfg)
	if err != nil {
		return nil, err
	}
	s, err := etcdstore.Dial(ctx, etcdstore.ClientConfig{Endpoints: cfg.EtcdEndpoints, TLS: t, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--etcd-endpoints: %w", err)
	}
	return s, nil
}

// etcdTLS gives nil where none of the files is named.
func etcdTLS(cfg Config) (*tls.Config, error) {
	if cfg.EtcdCA == "" && cfg.EtcdCert == "" {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.EtcdCA != "" {
		pem, err := os.ReadFile(cfg.EtcdCA)
		if err != nil {
			return nil, fmt.Errorf("--etcd-ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--etcd-ca: %s holds no certificate", cfg.EtcdCA)
		}
	}
	if cfg.EtcdCert != "" {
		pair, err := tls.LoadX509KeyPair(cfg.EtcdCert, cfg.EtcdKey)
		if err != nil {
			return nil, fmt.Errorf("--etcd-cert: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// greetIn notes in the store that an instance said Hello (semantics.md 11).
func greetIn(s store.Store) stream.Greet {
	return func(ctx context.Context) error {
		kv, err := s.Get(ctx, view.ClusterKey)
		if err != nil {
			return err
		}
		c, err := view.Decode[view.Cluster](kv.Value)
		if err != nil || c.Greeted {
			return err
		}
		c.Greeted = true
		_, err = s.Commit(ctx, store.Txn{
			If:   []store.Cond{{Key: view.ClusterKey, ModRevision: kv.ModRevision}},
			Puts: []store.KV{{Key: view.ClusterKey, Value: view.Encode(c)}},
		})
		return err
	}
}

// desiredBy gives the config that an agent is meant to run. It resolves without rendering: the publisher would keep, and
// render anew at every change, what no instance asks for.
func desiredBy(v *view.View) func(namespace, agent string) (fleet.Ref, error) {
	return func(namespace, agent string) (fleet.Ref, error) {
		head, _, ok := v.Agent(namespace, agent)
		if !ok {
			return fleet.Ref{}, errs.New(errs.NotFound, "no agent %s", agent)
		}
		heads, immutables := v.Heads(namespace, head.Name)
		// An instance on the desired revision is offered the candidate; one that runs nothing would get stable first.
		in := snapshot.Instance{ID: snapshot.InstanceID{Namespace: namespace, Agent: head.Name}, RunsRevision: head.State.Desired()}
		s, err := snapshot.BuildFor(heads, immutables, snapshot.Choose(heads, immutables, in))
		if err != nil || s.Absent != snapshot.Present {
			return fleet.Ref{}, err
		}
		return fleet.Ref{Token: s.Token, Revision: s.Revision}, nil
	}
}

// liveness answers the spec API's questions about instances from the fleet.
type liveness struct {
	table  *fleet.Table
	status *releaseapi.Service
}

// Live reports whether an instance is live, or may be.
func (l *liveness) Live(namespace, agent string) bool {
	if !l.status.FleetComplete() {
		return true
	}
	return len(l.Capabilities(namespace, agent)) > 0
}

// Capabilities gives what each live instance can do.
func (l *liveness) Capabilities(namespace, agent string) [][]string {
	var out [][]string
	for _, i := range l.table.Agent(namespace, agent) {
		if i.Phase != phase.Offline {
			out = append(out, i.Capabilities)
		}
	}
	return out
}

// Condition gives an agent's condition.
func (l *liveness) Condition(namespace, agent string) phase.Condition {
	return l.status.Condition(namespace, agent)
}

// writeInfo tells the chosen addresses; the file is renamed into place, so that it is whole when it is there.
func writeInfo(cfg Config, peopleAddr, runtimeAddr net.Addr) error {
	if cfg.InfoFile == "" {
		return nil
	}
	info := map[string]any{"people": cfg.PeopleTLS.url(peopleAddr), "runtime": runtimeAddr.String(), "pid": os.Getpid()}
	if cfg.devToken() {
		info["tokenFile"] = filepath.Join(cfg.DataDir, "token")
	}
	b, err := json.Marshal(info)
	if err != nil {
		return err
	}
	tmp := cfg.InfoFile + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("--info-file: %w", err)
	}
	if err := os.Rename(tmp, cfg.InfoFile); err != nil {
		return fmt.Errorf("--info-file: %w", err)
	}
	return nil
}
