// Package telemetry makes a process's logger and its OpenTelemetry tracer provider, and holds the span and attribute names in one file.
// The two app packages call it once at start; it reads no environment but what it is handed, and sets no global.
package telemetry

import (
	"context"
	"fmt"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/agentry/agentry/internal/errs"
)

// ServiceConfig says who exports. Lookup gives a variable's value or "" (os.Getenv, from app/config.go); nil means none is set.
type ServiceConfig struct {
	Name     string // such as "agentd"; OTEL_SERVICE_NAME wins
	Version  string
	Instance string
	Lookup   func(string) string
}

// Provider hands out tracers. Its zero-cost form (no exporter configured) records nothing.
type Provider struct {
	trace.TracerProvider

	// Exporting is true when spans leave the process.
	Exporting  bool
	Propagator propagation.TextMapPropagator
	shutdown   func(context.Context) error
}

// Shutdown flushes what is queued, within ctx, and stops. Calling it twice is fine.
func (p *Provider) Shutdown(ctx context.Context) error { return p.shutdown(ctx) }

// Setup builds the provider from the standard variables: an OTLP endpoint (OTEL_EXPORTER_OTLP_ENDPOINT or its TRACES form) or
// OTEL_TRACES_EXPORTER=otlp switches export on, OTEL_EXPORTER_OTLP_PROTOCOL chooses grpc or http/protobuf (default). None
// set, OTEL_TRACES_EXPORTER=none or OTEL_SDK_DISABLED=true: a provider that records nothing. The exporter reads its further variables
// (headers, TLS, timeout, sampler, batch limits) by itself. Its queue is bounded: full, spans are dropped, never a request slowed. The
// connection is made lazily: an absent collector is no start error.
func Setup(ctx context.Context, cfg ServiceConfig) (*Provider, error) {
	p := &Provider{
		TracerProvider: noop.NewTracerProvider(),
		Propagator:     propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		shutdown:       func(context.Context) error { return nil },
	}
	get := cfg.Lookup
	if get == nil || !wanted(get) {
		return p, nil
	}
	exporter, err := newExporter(ctx, get)
	if err != nil {
		return nil, fmt.Errorf("make the trace exporter: %w", err)
	}
	attrs := []attribute.KeyValue{attribute.String("service.name", cfg.Name)}
	if cfg.Version != "" {
		attrs = append(attrs, attribute.String("service.version", cfg.Version))
	}
	if cfg.Instance != "" {
		attrs = append(attrs, attribute.String("service.instance.id", cfg.Instance))
	}
	res, err := resource.New(ctx, resource.WithAttributes(attrs...), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe this process to telemetry: %w", err)
	}
	tp := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter))
	p.TracerProvider, p.shutdown, p.Exporting = tp, tp.Shutdown, true
	return p, nil
}

func wanted(get func(string) string) bool {
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	switch get("OTEL_TRACES_EXPORTER") {
	case "none":
		return false
	case "otlp":
		return true
	default:
		return get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	}
}

func newExporter(ctx context.Context, get func(string) string) (sdktrace.SpanExporter, error) {
	protocol := get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
	if protocol == "" {
		protocol = get("OTEL_EXPORTER_OTLP_PROTOCOL")
	}
	switch protocol {
	case "grpc":
		return otlptracegrpc.New(ctx)
	case "", "http/protobuf":
		return otlptracehttp.New(ctx)
	default:
		return nil, errs.New(errs.Unsupported, "OTEL_EXPORTER_OTLP_PROTOCOL %q (grpc or http/protobuf)", protocol)
	}
}
