package app

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/store"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/internal/phase"
)

// clockSize is how many store revisions a clock remembers; the oldest goes.
const clockSize = 4096

// clock remembers when this replica first heard of each store revision, which is when it was committed but for the watch's way.
type clock struct {
	now func() time.Time

	mu    sync.Mutex // guards what follows
	ticks []tick     // in order of revision
}

type tick struct {
	revision int64
	at       time.Time
}

// note takes a revision that was just heard of.
func (c *clock) note(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.ticks); n > 0 && c.ticks[n-1].revision >= revision {
		return
	}
	if len(c.ticks) == clockSize {
		c.ticks = append(c.ticks[:0], c.ticks[clockSize/2:]...)
	}
	c.ticks = append(c.ticks, tick{revision: revision, at: c.now()})
}

// heard gives when a revision was heard of; false for one from before the clock's memory.
func (c *clock) heard(revision int64) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := sort.Search(len(c.ticks), func(i int) bool { return c.ticks[i].revision >= revision })
	// What comes first may have been there long before the clock was started.
	if i == len(c.ticks) || (i == 0 && c.ticks[0].revision != revision) {
		return time.Time{}, false
	}
	return c.ticks[i].at, true
}

// timed is a store whose watches tell a clock what they hear.
type timed struct {
	store.Store

	clock *clock
}

// Watch is the store's own.
func (t timed) Watch(ctx context.Context, prefix string, after int64, emit func(store.Batch) error) error {
	return t.Store.Watch(ctx, prefix, after, func(b store.Batch) error {
		t.clock.note(b.Revision)
		return emit(b)
	})
}

// meter measures how offers end. It is safe for concurrent use.
type meter struct {
	clock    *clock
	applied  prometheus.Histogram
	refusals *prometheus.CounterVec
}

func newMeter(c *clock) *meter {
	return &meter{
		clock: c,
		applied: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentry_push_publish_to_applied_seconds", Help: "From the store's commit of a change to the APPLIED of the config made of it, by instances that were there.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentry_push_refusals_total", Help: "Refusals by reason: the code of each error fault, once per refusal.",
		}, []string{"code"}),
	}
}

// answered takes the end of a snapshot. What an instance gets for having come says nothing of how fast a change travels.
func (m *meter) answered(a stream.Answer) {
	if a.Phase.Serving() {
		if at, ok := m.clock.heard(a.Token.Generation); ok && at.After(a.Joined) {
			m.applied.Observe(m.clock.now().Sub(at).Seconds())
		}
		return
	}
	seen := map[phase.Code]bool{}
	for _, f := range a.Faults {
		if f.Severity == phase.Error && !seen[f.Code] {
			seen[f.Code] = true
			m.refusals.WithLabelValues(reason(f.Code)).Inc()
		}
	}
	if len(seen) == 0 {
		m.refusals.WithLabelValues("unknown").Inc()
	}
}

// reason keeps the label's values to the closed set: an instance may send anything.
func reason(c phase.Code) string {
	if c.Known() {
		return string(c)
	}
	return "unknown"
}

// oldestInFlight gives the age of the oldest offer that is neither applied nor refused; 0: none is.
func oldestInFlight(instances []fleet.Instance, now time.Time) time.Duration {
	var oldest time.Duration
	for _, i := range instances {
		waits := i.Connected && !i.Offered.IsZero() && !i.Desired.Token.IsZero() && i.Running.Token.Hash != i.Desired.Token.Hash
		if waits && i.Phase != phase.Rejected {
			oldest = max(oldest, now.Sub(i.Offered))
		}
	}
	return oldest
}
