package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/controlplane/audit/filesink"
	"github.com/agentry/agentry/controlplane/audit/otlpsink"
	"github.com/agentry/agentry/controlplane/auditapi"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/gen/agentry/audit/v1/auditv1connect"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/secret"
)

// AuditConfig says where audit entries go beside the store.
type AuditConfig struct {
	// File gets every entry as a line of JSON; empty: none.
	File string
	// OTLP is the URL of an OpenTelemetry collector that gets this replica's entries as log records; empty: the OTEL_* variables say.
	OTLP string
	// lookup gives a variable of the environment.
	lookup func(string) string
}

func auditFlags(fs *flag.FlagSet, c *AuditConfig, env func(string) string) {
	c.lookup = env
	fs.StringVar(&c.File, "audit-file", "", "`file` that gets every audit entry as a line of JSON; one that is moved away is made anew")
	fs.StringVar(&c.OTLP, "audit-otlp", "", "`URL` of an OpenTelemetry collector that gets the audit entries of this replica as log records; default: as the OTEL_EXPORTER_OTLP_* variables say")
}

// trail is the audit log of this process.
type trail struct {
	plain   store.Store // without entries: for the log itself
	store   store.Store // writes every change with its entry
	queue   *audit.Queue
	chainer *audit.Chainer
	busy    func() bool // whether a change is on its way to instances; set before anything runs
	log     *slog.Logger
	sinks   map[string]audit.Sink
	running []part
	ends    []func(context.Context) error
}

// newTrail puts the audit log before the store by which changes are written; the log itself goes by s. A change that is written past it
// has no entry.
func newTrail(s, changes store.Store, replica string, redact *secret.Redactor, log *slog.Logger) (*trail, error) {
	origin := audit.Origin{Replica: replica, Redact: redact.Redact}
	queue, err := audit.NewQueue(audit.QueueConfig{Store: s, Origin: origin, Logger: log})
	if err != nil {
		return nil, err
	}
	t := &trail{plain: s, store: audit.Wrap(changes, origin), queue: queue, log: log, sinks: map[string]audit.Sink{}, busy: func() bool { return false }}
	t.chainer, err = audit.NewChainer(audit.ChainerConfig{Store: s, Origin: origin, Logger: log, Busy: func() bool { return t.busy() }})
	if err != nil {
		return nil, err
	}
	t.running = []part{{"audit queue", queue.Run}, {"audit chain", t.chainer.Run}}
	return t, nil
}

// openSinks opens what gets the entries beside the store. close ends them.
func (t *trail) openSinks(ctx context.Context, cfg Config, replica string) error {
	if path := cfg.Audit.File; path != "" {
		file, err := filesink.Open(path)
		if err != nil {
			return err
		}
		t.ends = append(t.ends, func(context.Context) error { return file.Close() })
		t.forward("audit file", file)
	}
	if cfg.Audit.lookup == nil || !otlpsink.Wanted(cfg.Audit.OTLP, cfg.Audit.lookup) {
		return nil
	}
	collector, err := otlpsink.New(ctx, otlpsink.Config{
		URL: cfg.Audit.OTLP, Lookup: cfg.Audit.lookup, Replica: replica, Version: cfg.Version,
		PositionFile: filepath.Join(cfg.DataDir, "audit-otlp.json"),
	})
	if err != nil {
		return err
	}
	t.ends = append(t.ends, collector.Close)
	t.forward("audit collector", collector)
	return nil
}

func (t *trail) forward(name string, sink audit.Sink) {
	t.sinks[name] = sink
	t.running = append(t.running, part{name, func(ctx context.Context) error {
		return audit.Forward(ctx, audit.ForwardConfig{Store: t.plain, Name: name, Sink: sink, Recorder: t.queue, Logger: t.log})
	}})
}

// metrics tells what was lost and how far the sinks are.
func (t *trail) metrics() []prometheus.Collector {
	out := []prometheus.Collector{prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "agentry_audit_lost_events_total", Help: "Events that this replica's audit queue had no room for.",
	}, func() float64 { return float64(t.queue.Dropped()) })}
	for name, sink := range t.sinks {
		out = append(out, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "agentry_audit_sink_seq", Help: "Number of the newest audit entry that a sink has; negative: none yet.", ConstLabels: prometheus.Labels{"sink": name},
		}, func() float64 { return float64(sink.Position()) }))
	}
	return out
}

// close ends the sinks.
func (t *trail) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var err error
	for _, end := range t.ends {
		err = errors.Join(err, end(ctx))
	}
	if err != nil {
		t.log.LogAttrs(ctx, slog.LevelWarn, "audit sinks not closed", slog.Any("error", err))
	}
}

// Fold gives everything that was told so far its place in the chain.
func (t *trail) Fold(ctx context.Context) error {
	return errors.Join(t.queue.Flush(ctx), t.chainer.Fold(ctx))
}

// Attend says that somebody follows the log.
func (t *trail) Attend() (leave func()) { return t.chainer.Attend() }

// mount puts the service that reads the log on the people door, and has the log wait for the instances that this replica pushes to: it
// must not take the processor from them.
func (t *trail) mount(p *people, table *fleet.Table) error {
	t.busy = func() bool { return oldestInFlight(table.Own(), time.Now()) > 0 }
	svc, err := auditapi.New(auditapi.Config{Store: t.plain, Chainer: t, Logger: t.log})
	if err != nil {
		return err
	}
	p.handle(auditv1connect.NewAuditServiceHandler(svc, p.opts...))
	return nil
}

// handedOut tells the log which instance got which version of a credential.
func (t *trail) handedOut(id snapshot.InstanceID, credential string, version int64) {
	t.queue.Record(audit.Event{
		Type: audit.CredentialUse, Instance: id.Instance, Outcome: audit.OK,
		Objects: []string{fmt.Sprintf("%s/%s@%d", manifest.KindCredential, credential, version)},
		Call:    audit.Call{Actor: "agent:" + id.Namespace + "/" + id.Agent, Method: pushv1.ConfigService_Stream_FullMethodName, Namespace: id.Namespace},
	})
}
