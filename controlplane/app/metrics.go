package app

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentry/agentry/controlplane/collector"
	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/publish"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/view"
)

// metrics reads the parts' own counters at every scrape; nothing is counted twice.
type metrics struct {
	view      *view.View
	table     *fleet.Table
	publisher *publish.Publisher
	hub       *stream.Hub
	collector *collector.Collector
	desc      map[string]*prometheus.Desc
}

func newMetrics(v *view.View, table *fleet.Table, p *publish.Publisher, hub *stream.Hub, measured *meter, c *collector.Collector, more ...prometheus.Collector) http.Handler {
	m := &metrics{view: v, table: table, publisher: p, hub: hub, collector: c, desc: map[string]*prometheus.Desc{}}
	for name, help := range map[string]string{
		"agentry_push_streams":             "Open streams of instances.",
		"agentry_push_snapshots_total":     "Snapshots sent.",
		"agentry_push_currents_total":      "Resends avoided: Current instead of content.",
		"agentry_push_resends_total":       "Snapshots sent again because their proven lines changed.",
		"agentry_push_adrift_total":        "Instances found running something else than they acknowledged.",
		"agentry_push_withheld_total":      "Refused configs that were not sent again.",
		"agentry_push_content_bytes_total": "Bytes of content sent.",
		"agentry_push_unknown_total":       "Messages of newer instances that could not be read and were passed over.",
		"agentry_push_stuck_total":         "Streams ended because their reader was stuck.",
		"agentry_push_builds_total":        "Snapshots built.",
		"agentry_push_marshals_total":      "Contents marshalled.",
		"agentry_view_revision":            "Store revision that the view shows.",
		"agentry_view_keys":                "Keys held by the view.",
		"agentry_view_blob_bytes":          "Bytes of immutables held by the view.",
		"agentry_view_undecodable":         "Records left out because they can't be read.",
		"agentry_view_watch_breaks_total":  "Ends of the store's watch that were not asked for.",
		"agentry_store_went_back":          "1 while an instance has seen more than the store holds.",
		"agentry_fleet_known":              "Instances that this replica knows of, wherever they are connected: the same at every replica.",
		"agentry_release_refused_configs":  "Configs that an instance refused, kept in the store.",

		"agentry_push_oldest_in_flight_seconds": "Age of the oldest offer that is neither applied nor refused; 0: none.",
	} {
		m.desc[name] = prometheus.NewDesc(name, help, nil, nil)
	}
	m.desc["agentry_store_collected_total"] = prometheus.NewDesc("agentry_store_collected_total", "Unused records removed from the store, by kind.", []string{"kind"}, nil)
	m.desc["agentry_instances"] = prometheus.NewDesc("agentry_instances", "Instances by phase, of this replica: the sum over the replicas is the fleet.", []string{"phase"}, nil)
	m.desc["agentry_faults"] = prometheus.NewDesc("agentry_faults", "Faults that instances of this replica show now, by code.", []string{"code"}, nil)
	r := prometheus.NewRegistry()
	r.MustRegister(newUsageMetrics(table, func() bool { return table.Complete(time.Now()) }))
	r.MustRegister(m, measured.applied, measured.refusals, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.MustRegister(more...)
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r})
}

// Describe lists what Collect gives.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range m.desc {
		out <- d
	}
}

// Collect reads all counters.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	counter := func(name string, v uint64) {
		out <- prometheus.MustNewConstMetric(m.desc[name], prometheus.CounterValue, float64(v))
	}
	gauge := func(name string, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(m.desc[name], prometheus.GaugeValue, v, labels...)
	}
	s, p, v := m.hub.Stats(), m.publisher.Stats(), m.view.Stats()
	gauge("agentry_push_streams", float64(s.Streams))
	counter("agentry_push_snapshots_total", s.Snapshots)
	counter("agentry_push_currents_total", s.Currents)
	counter("agentry_push_resends_total", s.Resends)
	counter("agentry_push_adrift_total", s.Adrift)
	counter("agentry_push_withheld_total", s.Withheld)
	counter("agentry_push_content_bytes_total", s.Bytes)
	counter("agentry_push_stuck_total", s.Stuck)
	counter("agentry_push_unknown_total", s.Unknown)
	counter("agentry_push_builds_total", p.Builds)
	counter("agentry_push_marshals_total", p.Marshals)
	gauge("agentry_view_revision", float64(v.Revision))
	gauge("agentry_view_keys", float64(v.Keys))
	gauge("agentry_view_blob_bytes", float64(v.BlobBytes))
	gauge("agentry_view_undecodable", float64(v.Undecodable))
	counter("agentry_view_watch_breaks_total", uint64(max(0, v.Breaks)))
	gauge("agentry_release_refused_configs", float64(v.Refusals))
	gone := m.collector.Stats()
	for kind, n := range map[string]uint64{"blob": gone.Blobs, "applied": gone.Applied, "refusal": gone.Refusals, "move": gone.Moves} {
		out <- prometheus.MustNewConstMetric(m.desc["agentry_store_collected_total"], prometheus.CounterValue, float64(n), kind)
	}
	went := 0.0
	if m.hub.Alarm() != "" {
		went = 1
	}
	gauge("agentry_store_went_back", went)
	gauge("agentry_fleet_known", float64(m.table.Known()))
	phases, codes := map[string]int{}, map[string]int{}
	all := m.table.Own() // whoever asks all replicas and sums counts each instance once
	gauge("agentry_push_oldest_in_flight_seconds", oldestInFlight(all, time.Now()).Seconds())
	for _, i := range all {
		phases[string(i.Phase)]++
		for _, f := range i.Faults {
			codes[string(f.Code)]++
		}
	}
	for phase, n := range phases {
		gauge("agentry_instances", float64(n), phase)
	}
	for code, n := range codes {
		gauge("agentry_faults", float64(n), code)
	}
}

var _ prometheus.Collector = (*metrics)(nil)
