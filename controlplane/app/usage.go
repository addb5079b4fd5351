package app

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/fleet"
)

// usageMetrics sums what the beats of this replica's instances counted, by agent and config: the sum over the replicas is the fleet's. At most eight configs of an agent are told apart;
// what was counted with older ones is told with an empty config.
type usageMetrics struct {
	table                                     *fleet.Table
	requests, errors, input, output, cost     *prometheus.Desc
	duration, inFlight, drifts, fleetComplete *prometheus.Desc
	complete                                  func() bool
}

func newUsageMetrics(table *fleet.Table, complete func() bool) *usageMetrics {
	labels := []string{"namespace", "agent", "config"}
	desc := func(name, help string, l ...string) *prometheus.Desc {
		return prometheus.NewDesc("agentry_"+name, help, l, nil)
	}
	return &usageMetrics{
		table: table, complete: complete,
		requests:      desc("agent_requests_total", "Requests that ended, by the instances' beats.", labels...),
		errors:        desc("agent_request_errors_total", "Requests that failed other than by the caller's leaving.", labels...),
		input:         desc("agent_input_tokens_total", "Tokens sent to models.", labels...),
		output:        desc("agent_output_tokens_total", "Tokens that models wrote.", labels...),
		cost:          desc("agent_cost_usd_total", "What the tokens cost, where prices are configured.", labels...),
		duration:      desc("agent_request_duration_seconds", "How long requests took. Beats carry buckets only, so there is no sum.", labels...),
		inFlight:      desc("agent_requests_in_flight", "Requests that run now.", "namespace", "agent"),
		drifts:        desc("agent_drifts", "How often the present instances were found running something else than they acknowledged.", "namespace", "agent"),
		fleetComplete: desc("fleet_complete", "1 when every instance that may be alive is known."),
	}
}

// latencyBounds are the upper bounds of push.proto, in seconds, without +Inf.
func latencyBounds() []float64 {
	return []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

// Describe implements prometheus.Collector.
func (m *usageMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requests, m.errors, m.input, m.output, m.cost, m.duration, m.inFlight, m.drifts, m.fleetComplete} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *usageMetrics) Collect(out chan<- prometheus.Metric) {
	bounds := latencyBounds()
	for _, u := range m.table.Usage() {
		count := func(d *prometheus.Desc, v float64) {
			out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, u.Namespace, u.Name, u.Config)
		}
		count(m.requests, float64(u.Requests))
		count(m.errors, float64(u.Errors))
		count(m.input, float64(u.InputTokens))
		count(m.output, float64(u.OutputTokens))
		count(m.cost, u.CostUSD)
		buckets, sum := make(map[float64]uint64, len(bounds)), uint64(0)
		for i, b := range bounds {
			sum += u.Latency[i]
			buckets[b] = sum
		}
		sum += u.Latency[len(bounds)]
		out <- prometheus.MustNewConstHistogram(m.duration, sum, math.NaN(), buckets, u.Namespace, u.Name, u.Config)
	}
	type sums struct{ running, drifts uint64 }
	agents := map[fleet.AgentKey]sums{}
	for _, i := range m.table.Own() { // the sum over the replicas is the fleet's
		k := fleet.AgentKey{Namespace: i.ID.Namespace, Name: i.ID.Agent}
		s := agents[k]
		agents[k] = sums{running: s.running + uint64(i.InFlight), drifts: s.drifts + uint64(i.Drifts)}
	}
	for k, s := range agents {
		out <- prometheus.MustNewConstMetric(m.inFlight, prometheus.GaugeValue, float64(s.running), k.Namespace, k.Name)
		out <- prometheus.MustNewConstMetric(m.drifts, prometheus.GaugeValue, float64(s.drifts), k.Namespace, k.Name)
	}
	complete := 0.0
	if m.complete() {
		complete = 1
	}
	out <- prometheus.MustNewConstMetric(m.fleetComplete, prometheus.GaugeValue, complete)
}

var _ prometheus.Collector = (*usageMetrics)(nil)
