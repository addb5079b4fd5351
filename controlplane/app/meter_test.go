package app

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

func TestMeterMeasuresFromTheCommit(t *testing.T) {
	now := time.Unix(1000, 0)
	c := &clock{now: func() time.Time { return now }}
	m := newMeter(c)
	c.note(10)
	now = now.Add(time.Second)
	c.note(12)
	c.note(12) // heard twice
	now = now.Add(time.Second)
	end := func(generation int64, p phase.Phase, faults ...phase.Fault) stream.Answer {
		return stream.Answer{Token: manifest.Token{Epoch: 1, Generation: generation}, Phase: p, Faults: faults}
	}
	m.answered(end(10, phase.Applied))  // 2 s
	m.answered(end(11, phase.Degraded)) // 1 s: its revision was delivered with 12
	m.answered(end(9, phase.Applied))   // from before the clock
	m.answered(end(13, phase.Applied))  // not heard of yet
	late := end(10, phase.Applied)
	late.Joined = now // it came after the change
	m.answered(late)
	fault := func(code phase.Code, s phase.Severity) phase.Fault { return phase.Fault{Code: code, Severity: s} }
	m.answered(end(12, phase.Rejected, fault(phase.ToolMissing, phase.Error), fault(phase.ToolMissing, phase.Error), fault(phase.NotSupported, phase.Warning)))
	m.answered(end(12, phase.Rejected, fault("made_up", phase.Error)))
	m.answered(end(12, phase.Rejected))
	r := prometheus.NewRegistry()
	r.MustRegister(m.applied, m.refusals)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	got := slices.DeleteFunc(strings.Split(w.Body.String(), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "#") || strings.Contains(line, "_bucket{")
	})
	want := []string{
		"agentry_push_publish_to_applied_seconds_sum 3", "agentry_push_publish_to_applied_seconds_count 2",
		`agentry_push_refusals_total{code="tool_missing"} 1`, `agentry_push_refusals_total{code="unknown"} 2`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

func TestClockForgetsTheOldest(t *testing.T) {
	now := time.Unix(0, 0)
	c := &clock{now: func() time.Time { return now }}
	for i := range int64(3 * clockSize) {
		c.note(i)
	}
	if len(c.ticks) > clockSize {
		t.Errorf("%d revisions are remembered", len(c.ticks))
	}
	if _, ok := c.heard(1); ok {
		t.Error("a forgotten revision has a time")
	}
	if _, ok := c.heard(3*clockSize - 1); !ok {
		t.Error("the newest revision has no time")
	}
}

func TestOldestInFlight(t *testing.T) {
	now := time.Unix(1000, 0)
	ref := func(b byte) fleet.Ref { return fleet.Ref{Token: manifest.Token{Hash: manifest.Hash{b}}} }
	waiting := func(age time.Duration, p phase.Phase) fleet.Instance {
		return fleet.Instance{Connected: true, Desired: ref(2), Running: ref(1), Offered: now.Add(-age), Phase: p}
	}
	done := waiting(time.Hour, phase.Applied)
	done.Running = done.Desired
	gone := waiting(time.Hour, phase.Pending)
	gone.Connected = false
	all := []fleet.Instance{waiting(time.Second, phase.Pending), waiting(3*time.Second, phase.Received), waiting(time.Hour, phase.Rejected), done, gone}
	if got := oldestInFlight(all, now); got != 3*time.Second {
		t.Errorf("%s, want 3s", got)
	}
	if got := oldestInFlight(nil, now); got != 0 {
		t.Errorf("%s of nothing", got)
	}
}
