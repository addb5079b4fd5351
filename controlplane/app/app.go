// Package app puts the control plane together: it reads the configuration, builds every part in order, names the
// adapters, and ends in one list of Run functions. main calls it; nothing else does.
package app

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/agentry/agentry/controlplane/collector"
	"github.com/agentry/agentry/controlplane/directory"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/identity"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/publish"
	"github.com/agentry/agentry/controlplane/releaseapi"
	"github.com/agentry/agentry/controlplane/releaser"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/specapi"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/upkeep"
	"github.com/agentry/agentry/controlplane/view"
	"github.com/agentry/agentry/gen/agentry/release/v1/releasev1connect"
	"github.com/agentry/agentry/gen/agentry/spec/v1/specv1connect"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/telemetry"
)

// The exit codes of the process.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 64
)

// Main is the whole process: it answers the exit code. A signal (SIGTERM, SIGINT) drains and stops it.
func Main(args []string, env func(string) string, stdout, stderr io.Writer) int {
	cfg, err := ParseConfig(args, env, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "controlplane: %v\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Run(ctx, cfg, stderr); err != nil {
		_, _ = fmt.Fprintf(stderr, "controlplane: %v\n", err)
		return exitError
	}
	return exitOK
}

// Run runs a control plane until ctx ends (nil after a drain of at most 10 s) or it broke.
func Run(ctx context.Context, cfg Config, stderr io.Writer) error {
	if err := secret.NoCoreDumps(); err != nil {
		return err
	}
	redact := &secret.Redactor{}
	plain, err := telemetry.NewLogger(stderr, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	log := slog.New(secret.NewHandler(plain.Handler(), redact))
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	secure, err := cfg.PeopleTLS.config()
	if err != nil {
		return err
	}
	peopleLn, err := listen(ctx, "people door", "--people-addr", cfg.PeopleAddr)
	if err != nil {
		return err
	}
	defer func() { _ = peopleLn.Close() }()
	runtimeLn, err := listen(ctx, "runtime door", "--runtime-addr", cfg.RuntimeAddr)
	if err != nil {
		return err
	}
	defer func() { _ = runtimeLn.Close() }()

	opened, err := openStore(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() { _ = opened.Close() }()
	heard := &clock{now: time.Now}
	replica := replicaID()
	base := timed{Store: opened, clock: heard}
	exactly := exactlyOnce(base)
	entries, err := newTrail(base, exactly, replica, redact, log)
	if err != nil {
		return err
	}
	defer entries.close()
	if err := entries.openSinks(ctx, cfg, replica); err != nil {
		return err
	}
	s := entries.store
	cluster, err := view.Init(ctx, s)
	if err != nil {
		return err
	}
	kek, err := openKEK(ctx, cfg, s)
	if err != nil {
		return err
	}
	vault, err := specapi.OpenVault(ctx, specapi.VaultConfig{Store: s, KEK: kek, Redactor: redact})
	if err != nil {
		return err
	}
	v, err := view.Open(ctx, view.Config{Store: s, Logger: log})
	if err != nil {
		return err
	}
	authority, err := openAuthority(ctx, parts{cfg: cfg, replica: replica, log: log, store: s, kek: kek})
	if err != nil {
		return err
	}
	who, err := openDirectory(ctx, cfg, s, redact, log)
	if err != nil {
		return err
	}
	p, err := assemble(ctx, parts{
		cfg: cfg, directory: who, replica: replica, trail: entries, log: log, redact: redact, store: s, once: exactly, leases: opened, maintenance: opened, view: v, vault: vault, kek: kek, cluster: cluster,
		peopleAddr: peopleLn.Addr().String(), runtimeAddr: runtimeLn.Addr().String(), heard: heard, authority: authority,
	})
	if err != nil {
		return err
	}
	defer p.changes.Close()
	log.LogAttrs(ctx, slog.LevelInfo, "control plane started", slog.String("people", peopleLn.Addr().String()),
		slog.String("runtime", runtimeLn.Addr().String()), slog.String("cluster", cluster.ID), slog.String("data_dir", cfg.DataDir))
	if err := writeInfo(cfg, peopleLn.Addr(), runtimeLn.Addr()); err != nil {
		return err
	}
	running := []part{
		{"view", v.Run},
		{"publisher", func(ctx context.Context) error { return p.publisher.Run(ctx, p.hub) }},
		{"streams", p.hub.Run},
		{"identities", authority.Run},
		{"revocations", p.runtime.cut},
		{"eras", p.eras.run},
		{"peers", p.peers.Run},
		{"leader", p.lead.run},
		{"upkeep", p.upkeep.Run},
		{"events", p.status.Watch},
		{"memory", giveBack},
		{"runtime door", func(ctx context.Context) error { return p.runtime.serve(ctx, runtimeLn) }},
		{"people door", func(ctx context.Context) error { return p.people.serve(ctx, peopleLn, secure) }},
	}
	running = append(running, accessParts(cfg, who, redact)...)
	running = append(running, entries.running...)
	if cfg.PprofAddr != "" {
		ln, err := listen(ctx, "profiles", "--pprof-addr", cfg.PprofAddr)
		if err != nil {
			return err
		}
		running = append(running, profilesPart(ln, log))
	}
	return runAll(ctx, running)
}

// parts is what assemble is given.
type parts struct {
	cfg         Config
	replica     string
	trail       *trail
	log         *slog.Logger
	redact      *secret.Redactor
	store       store.Store
	once        *once.Store
	leases      store.Leases
	maintenance store.Maintenance
	view        *view.View
	vault       *specapi.Vault
	kek         secret.KEK
	directory   *directory.Directory
	authority   *identity.Authority
	cluster     view.Cluster
	peopleAddr  string // where the doors listen
	runtimeAddr string
	heard       *clock
}

// process is what assemble makes.
type process struct {
	changes   *view.Subscription
	publisher *publish.Publisher
	hub       *stream.Hub
	peers     *peers.Peers
	releaser  *releaser.Releaser // tells how releases stand; those that decide are made for each term of lead
	status    *releaseapi.Service
	collector *collector.Collector
	lead      *lead
	upkeep    *upkeep.Upkeep
	eras      *eras
	runtime   *runtimeDoor
	people    *people
}

func assemble(ctx context.Context, in parts) (*process, error) {
	p := &process{}
	replica := in.replica
	t := in.cfg.Timing
	table, err := fleet.New(fleet.Config{
		Started: time.Now(), Replica: replica, Greeted: in.cluster.Greeted,
		StaleAfter: t.StaleAfter, Lease: t.Lease, RemoveAfter: t.RemoveAfter, Settle: t.Settle,
	})
	if err != nil {
		return nil, err
	}
	p.changes = in.view.Subscribe()
	p.publisher, err = publish.New(publish.Config{
		Logger: in.log, Source: in.view, Choose: snapshot.Choose, Build: snapshot.BuildFor, Changed: p.changes.C, Changes: p.changes,
	})
	if err != nil {
		return nil, err
	}
	events := releaseapi.NewRing(time.Now)
	p.status, err = releaseapi.New(releaseapi.Config{
		View: in.view, Fleet: table, Desired: desiredBy(in.view), Note: p.publisher.Note, Events: events, Now: time.Now,
		Progress: progressOf(p),
		Info:     releaseapi.Info{ReplicaID: replica, Version: in.cfg.Version, RuntimeAddress: in.runtimeAddr, Insecure: !in.cfg.PeopleTLS.on()},
	})
	if err != nil {
		return nil, err
	}
	specs, err := specapi.New(specapi.Config{
		Store: in.store, View: in.view, Vault: in.vault, Fleet: &liveness{table: table, status: p.status}, Now: time.Now, Logger: in.log,
		Notify: func(n specapi.Notice) {
			events.Add(releaseapi.Event{Namespace: n.Namespace, Agent: n.Agent, Type: n.Type, Message: n.Message, Config: n.Config})
		},
	})
	if err != nil {
		return nil, err
	}
	ids, err := newIdentities(in)
	if err != nil {
		return nil, err
	}
	meter := newMeter(in.heard)
	p.hub, err = stream.New(stream.Config{
		Logger: in.log, ReplicaID: replica, View: in.view, Ready: func() bool { return true }, Targets: p.publisher, Fleet: table,
		Newest: func(ctx context.Context) (int64, error) { return in.store.Commit(ctx, store.Txn{}) },
		Reveal: specs.Reveal, Greet: greetIn(in.store), Answered: meter.answered, HandedOut: in.trail.handedOut,
		Identify: callerOf(ids), Denied: foreign(ids), Generation: generationBy(in.view),
	})
	if err != nil {
		return nil, err
	}
	if p.peers, err = newPeers(ctx, in, table, p.hub, ids); err != nil {
		return nil, err
	}
	judging := releaser.Config{View: in.view, Fleet: table, Store: in.store, Drops: p.peers, Logger: in.log}
	if p.releaser, err = releaser.New(judging); err != nil {
		return nil, err
	}
	if p.runtime, err = newRuntimeDoor(in.log, ids, p.hub, p.peers); err != nil {
		return nil, err
	}
	if p.collector, err = newCollector(in, table); err != nil {
		return nil, err
	}
	if p.lead, err = newLead(in, judging, p.collector); err != nil {
		return nil, err
	}
	guarded, err := newGate(in)
	if err != nil {
		return nil, err
	}
	p.people = newPeople(guarded, in.log)
	p.people.handle(specv1connect.NewSpecServiceHandler(specs, p.people.opts...))
	p.people.handle(releasev1connect.NewStatusServiceHandler(p.status, p.people.opts...))
	if err := in.trail.mount(p.people, table); err != nil {
		return nil, err
	}
	if err := mountRegistries(p.people, in, specs, p.status, table); err != nil {
		return nil, err
	}
	if err := mountAccess(p.people, in); err != nil {
		return nil, err
	}
	if err := mountIdentities(p.people, in, table); err != nil {
		return nil, err
	}
	if p.upkeep, err = newUpkeep(in, p.lead.election); err != nil {
		return nil, err
	}
	overview, err := newOverview(in, p.peers, p.lead.election, p.hub)
	if err != nil {
		return nil, err
	}
	if err := mountCluster(p.people, in, overview); err != nil {
		return nil, err
	}
	p.eras = &eras{
		view: in.view, table: table, hub: p.hub, peers: p.peers, vault: in.vault, store: in.store, events: events, log: in.log, known: in.view.Era(),
	}
	pages{store: in.store, view: in.view, status: p.status, hub: p.hub, version: in.cfg.Version}.mount(p.people)
	p.people.page("/metrics", newMetrics(in.view, table, p.publisher, p.hub, meter, p.collector, append(append(in.trail.metrics(), p.lead.metrics()...), newPeerMetrics(p.peers), newStoreMetrics(p.upkeep))...))
	return p, nil
}

// listen opens a door early, so that a port that is taken is told before anything is touched.
func listen(ctx context.Context, what, flagName, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is in use by another process (choose another with %s)", what, addr, flagName)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return ln, nil
}

func replicaID() string {
	var b [6]byte
	_, _ = rand.Read(b[:])
	host, err := os.Hostname()
	if err != nil {
		host = "controlplane"
	}
	return host + "-" + hex.EncodeToString(b[:])
}
