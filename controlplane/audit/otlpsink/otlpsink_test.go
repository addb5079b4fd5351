package otlpsink

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	collogspb "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/agentry/agentry/controlplane/audit"
	"github.com/agentry/agentry/internal/auditchain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes log records as an OpenTelemetry collector does, over gRPC and HTTP.
type collector struct {
	collogspb.UnimplementedLogsServiceServer

	mu      sync.Mutex
	refuse  int // so many requests are refused for good
	partial bool
	seqs    []int64
	records []*logspb.LogRecord
	service map[string]string
}

func (c *collector) Export(_ context.Context, req *collogspb.ExportLogsServiceRequest) (*collogspb.ExportLogsServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuse > 0 {
		c.refuse--
		return nil, status.Error(codes.PermissionDenied, "not now")
	}
	for _, r := range req.GetResourceLogs() {
		c.service = map[string]string{}
		for _, a := range r.GetResource().GetAttributes() {
			c.service[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range r.GetScopeLogs() {
			for _, l := range scope.GetLogRecords() {
				c.records = append(c.records, l)
				for _, a := range l.GetAttributes() {
					if a.GetKey() == "agentry.audit.seq" {
						c.seqs = append(c.seqs, a.GetValue().GetIntValue())
					}
				}
			}
		}
	}
	resp := &collogspb.ExportLogsServiceResponse{}
	if c.partial {
		resp.PartialSuccess = &collogspb.ExportLogsPartialSuccess{RejectedLogRecords: 1, ErrorMessage: "too long"}
	}
	return resp, nil
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req collogspb.ExportLogsServiceRequest
	if err != nil || r.URL.Path != "/v1/logs" || proto.Unmarshal(body, &req) != nil {
		http.Error(w, "no logs", http.StatusBadRequest)
		return
	}
	resp, err := c.Export(r.Context(), &req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	b, err := proto.Marshal(resp)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(b)
}

// serve gives the collector's URL and the variables that a process finds it by.
func (c *collector) serve(t *testing.T, protocol string) (string, func(string) string) {
	t.Helper()
	env := func(name string) string {
		if name == "OTEL_EXPORTER_OTLP_PROTOCOL" {
			return protocol
		}
		return ""
	}
	if protocol != "grpc" {
		srv := httptest.NewServer(c)
		t.Cleanup(srv.Close)
		return srv.URL, env
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	collogspb.RegisterLogsServiceServer(srv, c)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String(), env
}

func entry(seq int64, replica string) audit.Chained {
	return audit.Chained{
		Seq: seq, Link: auditchain.Link{Record: fmt.Appendf(nil, `{"seq":%d}`, seq), Hash: "ab"},
		Entry: audit.Entry{Seq: seq, Time: time.Unix(1_700_000_000, 0), Type: audit.Denied, Actor: "user:eve", Replica: replica},
	}
}

func TestACollectorGetsThisReplicasEntries(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf", ""} {
		t.Run(protocol, func(t *testing.T) {
			c := &collector{refuse: 1}
			url, env := c.serve(t, protocol)
			file := filepath.Join(t.TempDir(), "position")
			open := func(replica string) *Sink {
				s, err := New(t.Context(), Config{URL: url, Lookup: env, Replica: replica, Version: "v1", PositionFile: file})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
					defer cancel()
					if err := s.Close(ctx); err != nil {
						t.Error(err)
					}
				})
				return s
			}
			s := open("life-1")
			if s.Position() >= 0 {
				t.Errorf("a new sink is at %d", s.Position())
			}
			if err := s.Begin(0); err != nil {
				t.Fatal(err)
			}
			if again := open("life-1"); again.Position() != 0 {
				t.Errorf("begun, it is at %d", again.Position())
			}
			batch := []audit.Chained{entry(1, "life-1"), entry(2, "other"), entry(3, "life-1")}
			if err := s.Write(t.Context(), batch); err == nil {
				t.Error("a refused request counts as written")
			}
			if err := s.Write(t.Context(), batch); err != nil {
				t.Fatal(err)
			}
			s = open("life-2")
			if s.Position() != 3 {
				t.Errorf("after a restart it is at %d", s.Position())
			}
			c.mu.Lock()
			c.partial = true
			c.mu.Unlock()
			if err := s.Write(t.Context(), []audit.Chained{entry(4, "life-1"), entry(5, "other"), entry(6, "life-2")}); err != nil {
				t.Fatal(err)
			}
			if err := s.Write(t.Context(), []audit.Chained{entry(7, "other")}); err != nil || s.Position() != 7 {
				t.Errorf("position %d, %v", s.Position(), err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if want := []int64{1, 3, 4, 6}; !slices.Equal(c.seqs, want) {
				t.Errorf("the collector has %v, want %v", c.seqs, want)
			}
			first := c.records[0]
			if first.GetBody().GetStringValue() != `{"seq":1}` || first.GetTimeUnixNano() != 1_700_000_000e9 || first.GetEventName() != "agentry.audit" {
				t.Errorf("record %v", first)
			}
			if c.service["service.name"] != "controlplane" || c.service["service.instance.id"] != "life-2" || c.service["service.version"] != "v1" {
				t.Errorf("resource %v", c.service)
			}
		})
	}
}

func TestWanted(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		url  string
		env  map[string]string
		want bool
	}{
		"nothing":           {},
		"a flag":            {url: "http://c:4318", want: true},
		"an endpoint":       {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, want: true},
		"a logs endpoint":   {env: map[string]string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:4318"}, want: true},
		"an exporter":       {env: map[string]string{"OTEL_LOGS_EXPORTER": "otlp"}, want: true},
		"no logs":           {env: map[string]string{"OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}},
		"no telemetry":      {env: map[string]string{"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}},
		"a flag in any way": {url: "http://c:4318", env: map[string]string{"OTEL_LOGS_EXPORTER": "none"}, want: true},
	}
	for name, c := range cases {
		if got := Wanted(c.url, func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	bad := func(string) string { return "carrier-pigeon" }
	if _, err := New(t.Context(), Config{Lookup: bad, PositionFile: filepath.Join(t.TempDir(), "p")}); err == nil {
		t.Error("an unknown protocol is taken")
	}
}
