package telemetry_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/agentry/agentry/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSetupWithoutAnExporter(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]map[string]string{
		"nothing set": {},
		"none":        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
		"disabled":    {"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := telemetry.Setup(t.Context(), telemetry.ServiceConfig{Name: "x", Lookup: func(k string) string { return env[k] }})
			if err != nil || p.Exporting {
				t.Fatalf("%+v, %v", p, err)
			}
			_, span := p.Tracer("t").Start(t.Context(), "s")
			if span.IsRecording() {
				t.Error("it records")
			}
			for range 2 {
				if err := p.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestSetupRefusesAnUnknownProtocol(t *testing.T) {
	t.Parallel()
	env := map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
	if _, err := telemetry.Setup(t.Context(), telemetry.ServiceConfig{Name: "x", Lookup: func(k string) string { return env[k] }}); err == nil || !strings.Contains(err.Error(), "http/json") {
		t.Errorf("err = %v", err)
	}
}

// The exporter reads the process's own environment, so this test sets it.
func TestSetupExports(t *testing.T) {
	got := make(chan []byte, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		select {
		case got <- b:
		default:
		}
	}))
	defer collector.Close()
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}
	for k, v := range env {
		t.Setenv(k, v)
	}
	p, err := telemetry.Setup(t.Context(), telemetry.ServiceConfig{Name: "agentd", Version: "1", Instance: "i-1", Lookup: func(k string) string { return env[k] }})
	if err != nil || !p.Exporting {
		t.Fatalf("%+v, %v", p, err)
	}
	_, span := p.Tracer("t").Start(t.Context(), "the span")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if b := <-got; !bytes.Contains(b, []byte("the span")) || !bytes.Contains(b, []byte("i-1")) {
		t.Errorf("%q", b)
	}
}

// A collector that isn't there is no start error, and stopping ends in time.
func TestSetupWithAnAbsentCollector(t *testing.T) {
	env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TIMEOUT": "50"}
	for k, v := range env {
		t.Setenv(k, v)
	}
	p, err := telemetry.Setup(t.Context(), telemetry.ServiceConfig{Name: "agentd", Lookup: func(k string) string { return env[k] }})
	if err != nil {
		t.Fatal(err)
	}
	_, span := p.Tracer("t").Start(t.Context(), "s")
	span.End()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = p.Shutdown(ctx) // the span is lost, and says so or not
	if ctx.Err() != nil {
		t.Error("it did not end in time")
	}
}

func TestNewLogger(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		level, format string
		want          string
		fails         bool
	}{
		"defaults":       {"", "", "level=INFO msg=m", false},
		"json":           {"debug", "json", `"level":"INFO","msg":"m"`, false},
		"quiet":          {"error", "text", "", false},
		"unknown level":  {"loud", "", "", true},
		"unknown format": {"", "xml", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			log, err := telemetry.NewLogger(&b, tc.level, tc.format)
			if tc.fails {
				if err == nil {
					t.Error("accepted")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			log.Info("m")
			if got := b.String(); !strings.Contains(got, tc.want) || tc.want == "" && got != "" {
				t.Errorf("log = %q", got)
			}
		})
	}
}
