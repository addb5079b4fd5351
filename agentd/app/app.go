// Package app wires agentd: it reads the settings, builds every part in order and runs them until the process is asked to
// end. main calls it. It alone names adapters and holds no logic of its own.
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentry/agentry/agentd/assembler"
	"github.com/agentry/agentry/agentd/builtin"
	"github.com/agentry/agentry/agentd/configclient"
	"github.com/agentry/agentry/agentd/door/a2adoor"
	"github.com/agentry/agentry/agentd/identity"
	"github.com/agentry/agentry/agentd/model/openaimodel"
	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task/intask"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/rpc"
	"github.com/agentry/agentry/internal/secret"
	"github.com/agentry/agentry/internal/spec"
	"github.com/agentry/agentry/internal/telemetry"
	"github.com/agentry/agentry/internal/version"
)

// Exit codes of the process.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 64
)

// Main runs agentd and gives its exit code. SIGTERM and SIGINT end it cleanly.
func Main(args []string, env func(string) string, stdout, stderr io.Writer) int {
	cfg, err := ParseConfig(args, env, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		for line := range strings.Lines(err.Error() + "\n") {
			_, _ = fmt.Fprint(stderr, "agentd: "+line)
		}
		return exitUsage
	case cfg.ShowVersion:
		_, _ = fmt.Fprintln(stdout, "agentd "+version.String())
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Run(ctx, cfg, stderr); err != nil {
		_, _ = fmt.Fprintln(stderr, "agentd: "+err.Error())
		return exitFailure
	}
	return exitOK
}

// Run runs agentd until ctx ends, then drains. Errors are start errors, or a part that broke.
func Run(ctx context.Context, cfg Config, logs io.Writer) (err error) {
	if err := secret.NoCoreDumps(); err != nil {
		return err
	}
	redactor := &secret.Redactor{}
	plain, err := telemetry.NewLogger(logs, cfg.LogLevel, cfg.LogFormat)
	if err != nil {
		return err
	}
	log := slog.New(secret.NewHandler(plain.Handler(), redactor))
	state, err := configclient.OpenState(configclient.StateConfig{
		Dir: cfg.StateDir, Namespace: cfg.Namespace, Agent: cfg.Agent, Instance: cfg.Instance,
		KeyFile: cfg.StateKeyFile, Persist: cfg.Persist, Forget: cfg.ForgetCluster,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("the door: %s is in use by another process (choose another with --listen)", cfg.Listen)
	}
	if err != nil {
		return fmt.Errorf("open the door: %w", err)
	}
	tracing, err := telemetry.Setup(ctx, telemetry.ServiceConfig{Name: "agentd", Version: version.String(), Instance: state.Instance(), Lookup: cfg.Lookup})
	if err != nil {
		return errors.Join(fmt.Errorf("tracing: %w", err), listener.Close())
	}
	d := &daemon{cfg: cfg, log: log, state: state, redactor: redactor, tracing: tracing, address: listener.Addr().String()}
	if err := d.build(); err != nil {
		return errors.Join(err, listener.Close())
	}
	return d.run(ctx, listener)
}

// daemon is the parts of one agentd.
type daemon struct {
	cfg      Config
	log      *slog.Logger
	state    *configclient.State
	redactor *secret.Redactor
	tracing  *telemetry.Provider
	address  string

	assembler *assembler.Assembler
	runner    *run.Runner
	a2a       *a2adoor.Door
	tasks     *intask.Store
	certs     atomic.Pointer[rpc.CertFile] // of the door, where it speaks TLS
	identity  *identity.Keeper
	client    *configclient.Client
	draining  atomic.Bool // not ready any more; still answers
	ending    atomic.Bool // takes no new requests
}

func (d *daemon) build() (err error) {
	guard := egress.New(egress.Config{Policy: d.cfg.Egress})
	storage, err := newStorages(guard, d.log)
	if err != nil {
		return err
	}
	d.assembler, err = assembler.New(assembler.Config{
		Namespace: d.cfg.Namespace, Capabilities: spec.ThisRelease(), ModelBaseURL: d.cfg.ModelBaseURL,
		Permit: guard.CheckURL, SigningKey: signingKey,
		Models: models{openaimodel.NewTransports(guard), d.log}, Servers: servers{guard, d.tracing.Propagator, d.log}, Storages: storage, Log: d.log,
	})
	if err != nil {
		return err
	}
	d.runner, err = run.New(run.Config{Source: source{d.assembler, d.why}, Builtin: builtin.Tools{}, Instance: d.state.Instance(), Tracer: d.tracing, Log: d.log})
	if err != nil {
		return err
	}
	if d.a2a, err = d.newA2A(); err != nil {
		return err
	}
	if d.identity, err = d.newIdentity(); err != nil {
		return err
	}
	beats := &beats{runner: d.runner, assembler: d.assembler}
	d.client, err = configclient.New(configclient.Config{
		Namespace: d.cfg.Namespace, Agent: d.cfg.Agent, Version: version.String(), Capabilities: spec.ThisRelease(),
		Endpoints: []string{d.endpoint()}, Addresses: d.cfg.ControlPlane, Dial: d.dial, State: d.state, Applier: d.assembler,
		ApplyDeadline: d.cfg.ApplyDeadline, BeatInterval: d.cfg.BeatInterval, Beat: beats.next, Drain: d.drain, Redactor: d.redactor, Log: d.log,
	})
	return err
}

// why says why nothing is served, as far as the control plane's client knows; "" otherwise.
func (d *daemon) why() string { return d.client.Status().Reason }

// source is the assembler as requests see it: without a config they are told why there is none.
type source struct {
	assembler *assembler.Assembler
	why       func() string
}

// Acquire gives the current Runtime.
func (s source) Acquire() (*run.Runtime, func(), error) {
	rt, release, err := s.assembler.Acquire()
	return rt, release, s.explain(err)
}

// Look gives it to who makes no request of it.
func (s source) Look() (*run.Runtime, func(), error) {
	rt, release, err := s.assembler.Look()
	return rt, release, s.explain(err)
}

func (s source) explain(err error) error {
	if errs.Is(err, errs.Unavailable) {
		if why := s.why(); why != "" {
			return errs.New(errs.Unavailable, "%s", why)
		}
	}
	return err
}

// drain makes the instance unready. Who routes requests here goes elsewhere; what still comes is answered.
func (d *daemon) drain() { d.draining.Store(true) }

// ready says whether requests are served, and else why not.
func (d *daemon) ready() (reason string, ok bool) {
	if d.draining.Load() {
		return "draining", false
	}
	why, ok := d.assembler.Serving()
	if ok {
		return "", true
	}
	if st := d.client.Status(); st.Reason != "" {
		why = st.Reason
	}
	return fmt.Sprintf("agent %s/%s is not ready: %s", d.cfg.Namespace, d.cfg.Agent, why), false
}

// sweepEvery is how often overdue suspended runs are looked for.
const sweepEvery = 5 * time.Second

// sweep ends overdue suspended runs until ctx ends.
func (d *daemon) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			bounded, cancel := context.WithTimeout(ctx, sweepEvery)
			if err := d.runner.Sweep(bounded, now); err != nil {
				d.log.LogAttrs(ctx, slog.LevelDebug, "overdue runs", slog.Any("error", err))
			}
			cancel()
		}
	}
}

// run runs every part. The door and the stream stay until the requests that run when ctx ends are answered.
func (d *daemon) run(ctx context.Context, listener net.Listener) error {
	server, err := d.server()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := writeInfo(d.cfg.InfoFile, info{Address: d.address, Instance: d.state.Instance(), PID: os.Getpid()}); err != nil {
		return errors.Join(err, listener.Close())
	}
	d.log.LogAttrs(ctx, slog.LevelInfo, "agentd started", slog.String("agent", d.cfg.Namespace+"/"+d.cfg.Agent),
		slog.String("instance", d.state.Instance()), slog.String("address", d.address), slog.String("version", version.String()))
	outer := context.WithoutCancel(ctx)
	parts, stop := context.WithCancel(outer)
	defer stop()
	g, gctx := errgroup.WithContext(parts)
	for _, part := range []func(context.Context) error{
		d.identity.Run,
		d.client.Run,
		d.assembler.Run,
		d.sweep,
		d.a2a.Run,
		d.tasks.Run,
		d.profiles,
		giveBack,
		func(context.Context) error { return serve(server, listener) },
		func(gctx context.Context) error { return d.end(ctx, gctx, server, stop) },
	} {
		g.Go(func() error { return part(gctx) })
	}
	err = g.Wait()
	closing, finish := context.WithTimeout(outer, 3*time.Second)
	defer finish()
	if cerr := errors.Join(d.a2a.Close(closing), d.runner.Close(closing)); cerr != nil {
		d.log.LogAttrs(outer, slog.LevelWarn, "what ran in the background was cut off", slog.Any("error", cerr))
	}
	d.assembler.Close()
	flush, cancel := context.WithTimeout(outer, 2*time.Second)
	defer cancel()
	if terr := d.tracing.Shutdown(flush); terr != nil {
		d.log.LogAttrs(outer, slog.LevelDebug, "flush traces", slog.Any("error", terr))
	}
	d.log.LogAttrs(outer, slog.LevelInfo, "agentd ended")
	return err
}
