// Package otlpsink sends audit entries to an OpenTelemetry collector as log records. Each replica sends the entries that it made
// itself, so that a collector gets each once, or again after a crash. Package app makes one; audit.Forward alone uses it.
package otlpsink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploggrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/internal/errs"
)

// maxReplicas is how many former lives of this replica are remembered.
const maxReplicas = 8

// Config is what New needs.
type Config struct {
	// URL is the collector's; empty: the OTEL_EXPORTER_OTLP_* variables say. Everything else (headers, TLS, timeout) is the variables'.
	URL string
	// Lookup gives a variable's value or "".
	Lookup func(string) string
	// Replica is this process's id, Version its version.
	Replica, Version string
	// PositionFile keeps how far the collector is, over restarts.
	PositionFile string
}

// Wanted says whether the flag or the variables ask for a collector.
func Wanted(url string, lookup func(string) string) bool {
	switch {
	case url != "":
		return true
	case strings.EqualFold(lookup("OTEL_SDK_DISABLED"), "true"), lookup("OTEL_LOGS_EXPORTER") == "none":
		return false
	}
	return lookup("OTEL_LOGS_EXPORTER") == "otlp" || lookup("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || lookup("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT") != ""
}

// Sink is a collector. It is safe for concurrent use.
type Sink struct {
	cfg      Config
	exporter sdklog.Exporter
	records  *collect
	provider *sdklog.LoggerProvider
	logger   log.Logger

	mu sync.Mutex // guards what follows
	at position
}

// position is what the position file says.
type position struct {
	Seq      int64    `json:"seq"`
	Replicas []string `json:"replicas"` // whose entries are sent: this process, and those before it in this data directory
}

// New makes a Sink. It connects lazily: a collector that isn't there is no start error.
func New(ctx context.Context, cfg Config) (*Sink, error) {
	exporter, err := newExporter(ctx, cfg)
	if err != nil {
		return nil, err
	}
	res, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "controlplane"), attribute.String("service.version", cfg.Version), attribute.String("service.instance.id", cfg.Replica),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process to telemetry: %w", err)
	}
	s := &Sink{cfg: cfg, exporter: exporter, records: &collect{}, at: position{Seq: -1}}
	s.provider = sdklog.NewLoggerProvider(sdklog.WithResource(res), sdklog.WithProcessor(s.records))
	s.logger = s.provider.Logger("agentry.audit")
	b, err := os.ReadFile(cfg.PositionFile)
	if err == nil {
		err = json.Unmarshal(b, &s.at)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("position of the audit collector: %w", err)
	}
	if !slices.Contains(s.at.Replicas, cfg.Replica) {
		s.at.Replicas = append(s.at.Replicas, cfg.Replica)
	}
	s.at.Replicas = s.at.Replicas[max(len(s.at.Replicas)-maxReplicas, 0):]
	return s, nil
}

func newExporter(ctx context.Context, cfg Config) (sdklog.Exporter, error) {
	protocol := cfg.Lookup("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL")
	if protocol == "" {
		protocol = cfg.Lookup("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "grpc":
		var opts []otlploggrpc.Option
		if cfg.URL != "" {
			opts = append(opts, otlploggrpc.WithEndpointURL(cfg.URL))
		}
		return otlploggrpc.New(ctx, opts...)
	case "", "http/protobuf":
		var opts []otlploghttp.Option
		if cfg.URL != "" {
			opts = append(opts, otlploghttp.WithEndpointURL(strings.TrimSuffix(cfg.URL, "/")+"/v1/logs"))
		}
		return otlploghttp.New(ctx, opts...)
	default:
		return nil, errs.New(errs.Unsupported, "OTEL_EXPORTER_OTLP_PROTOCOL %q (grpc or http/protobuf)", protocol)
	}
}

// Position is how far the collector is; negative: it was never sent anything.
func (s *Sink) Position() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at.Seq
}

// Begin keeps where the collector begins.
func (s *Sink) Begin(seq int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.Seq = seq
	return s.save()
}

// Write sends this replica's entries.
func (s *Sink) Write(ctx context.Context, entries []audit.Chained) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		if slices.Contains(s.at.Replicas, e.Entry.Replica) {
			s.logger.Emit(ctx, record(e))
		}
	}
	if records := s.records.take(); len(records) > 0 {
		if err := s.exporter.Export(ctx, records); err != nil && !refused(err) {
			return fmt.Errorf("audit collector: %w", err)
		}
	}
	s.at.Seq = entries[len(entries)-1].Seq
	return s.save()
}

// refused says that the collector took the request but not every record: it wouldn't take them the next time either (OTLP,
// "Partial Success"). The exporters' error is of a type that only they know.
func refused(err error) bool { return strings.Contains(err.Error(), "OTLP partial success") }

func (s *Sink) save() error {
	b, err := json.Marshal(s.at)
	if err != nil {
		return err
	}
	tmp := s.cfg.PositionFile + ".tmp"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("position of the audit collector: %w", err)
	}
	if err := os.Rename(tmp, s.cfg.PositionFile); err != nil {
		return fmt.Errorf("position of the audit collector: %w", err)
	}
	return nil
}

// Close ends the connection.
func (s *Sink) Close(ctx context.Context) error {
	return errors.Join(s.provider.Shutdown(ctx), s.exporter.Shutdown(ctx))
}

func record(e audit.Chained) log.Record {
	var r log.Record
	r.SetEventName("agentry.audit")
	r.SetTimestamp(e.Entry.Time)
	r.SetSeverity(log.SeverityInfo)
	switch e.Entry.Type {
	case audit.Denied, audit.Unauthenticated, audit.Lost:
		r.SetSeverity(log.SeverityWarn)
	case audit.Changed, audit.CredentialUse:
	}
	r.SetBody(attribute.StringValue(string(e.Record)))
	for name, value := range map[string]string{
		"agentry.audit.hash": e.Hash, "agentry.audit.type": string(e.Entry.Type), "agentry.audit.actor": e.Entry.Actor,
		"agentry.audit.method": e.Entry.Method, "agentry.namespace": e.Entry.Namespace, "agentry.audit.outcome": e.Entry.Outcome,
	} {
		if value != "" {
			r.AddAttributes(attribute.String(name, value))
		}
	}
	r.AddAttributes(attribute.Int64("agentry.audit.seq", e.Seq))
	return r
}

// collect keeps what is emitted, complete with resource and scope, until it is taken. Only Write uses it, under its lock.
type collect struct{ records []sdklog.Record }

// Enabled takes everything.
func (*collect) Enabled(context.Context, sdklog.EnabledParameters) bool { return true }

// OnEmit keeps a record.
func (c *collect) OnEmit(_ context.Context, r *sdklog.Record) error {
	c.records = append(c.records, r.Clone())
	return nil
}

func (c *collect) take() []sdklog.Record {
	out := c.records
	c.records = nil
	return out
}

// Shutdown does nothing.
func (*collect) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing: Write sends.
func (*collect) ForceFlush(context.Context) error { return nil }

var _ audit.Sink = (*Sink)(nil)
