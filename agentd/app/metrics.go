package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentry/agentry/internal/manifest"
)

// metrics answers /metrics.
func (d *daemon) metrics() http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), newCollector(d))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// collector reads the daemon's numbers when it is asked.
type collector struct {
	d                                         *daemon
	requests, errors, input, output, inFlight *prometheus.Desc
	ready, connected, config, phase, serverUp *prometheus.Desc
	notAfter, age, issued, refused            *prometheus.Desc
}

func newCollector(d *daemon) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("agentry_agentd_"+name, help, labels, prometheus.Labels{"namespace": d.cfg.Namespace, "agent": d.cfg.Agent})
	}
	return &collector{
		d:         d,
		requests:  desc("requests_total", "Requests that ended."),
		errors:    desc("request_errors_total", "Requests that failed other than by the caller's leaving."),
		input:     desc("input_tokens_total", "Tokens sent to models."),
		output:    desc("output_tokens_total", "Tokens that models wrote."),
		inFlight:  desc("requests_in_flight", "Requests that run now."),
		ready:     desc("ready", "1 while requests are served."),
		connected: desc("control_plane_connected", "1 while the stream to the control plane is up."),
		config:    desc("config_info", "The config that runs now.", "revision_config", "config_state"),
		phase:     desc("phase_info", "The instance's phase.", "phase"),
		notAfter:  desc("identity_not_after_seconds", "When the instance's certificate ends, in seconds since 1970 by the control plane's clock."),
		age:       desc("identity_age_seconds", "How long ago the instance's certificate was issued."),
		issued:    desc("identity_issued_total", "Certificates received by this process."),
		refused:   desc("identity_failures_total", "Tries to get a certificate that failed."),
		serverUp:  desc("mcp_server_healthy", "1 while an MCP server of the running config is connected.", "server"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	total := c.d.runner.Total()
	count(c.requests, float64(total.Requests))
	count(c.errors, float64(total.Errors))
	count(c.input, float64(total.InputTokens))
	count(c.output, float64(total.OutputTokens))
	gauge(c.inFlight, float64(c.d.runner.InFlight()))
	_, ready := c.d.ready()
	gauge(c.ready, one(ready))
	st := c.d.client.Status()
	gauge(c.connected, one(st.Connected))
	gauge(c.phase, 1, string(st.Phase))
	if name := manifest.ConfigName(st.Revision, st.Running.Hash); name != "" {
		gauge(c.config, 1, name, string(st.ConfigState))
	}
	id := c.d.identity.Status()
	count(c.issued, float64(id.Issued))
	count(c.refused, float64(id.Failed))
	if id.Serial != "" {
		gauge(c.notAfter, float64(id.NotAfter.Unix()))
		gauge(c.age, id.AgeSeconds)
	}
	if desc, ok := c.d.assembler.Describe(); ok {
		seen := map[string]bool{}
		for _, s := range desc.Servers {
			if !seen[s.Name] {
				seen[s.Name] = true
				gauge(c.serverUp, one(s.Healthy), s.Name)
			}
		}
	}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
