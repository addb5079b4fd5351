package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/clusterapi"
	"github.com/agentry/agentry/controlplane/fleet/peers"
	"github.com/agentry/agentry/controlplane/leader"
	"github.com/agentry/agentry/controlplane/stream"
	"github.com/agentry/agentry/controlplane/upkeep"
)

// newUpkeep makes what looks after the store.
func newUpkeep(in parts, e *leader.Election) (*upkeep.Upkeep, error) {
	return upkeep.New(upkeep.Config{Store: in.maintenance, Leading: func() bool { return e.Term() != 0 }, Logger: in.log})
}

// newOverview makes the part of the cluster's service that tells how everything stands.
func newOverview(in parts, p *peers.Peers, e *leader.Election, hub *stream.Hub) (*clusterapi.Overview, error) {
	return clusterapi.NewOverview(clusterapi.OverviewConfig{
		Replicas: p, Store: in.maintenance, Leader: e, Replica: in.replica,
		Cluster: func() (string, uint64) { c := in.view.Cluster(); return c.ID, c.Epoch },
		Alarms: func() []string {
			if a := hub.Alarm(); a != "" {
				return []string{a}
			}
			return nil
		},
	})
}

// storeMetrics tells what the last look at the store's members showed.
type storeMetrics struct {
	upkeep                         *upkeep.Upkeep
	alarm, up, size, quota, oldest *prometheus.Desc
}

func newStoreMetrics(u *upkeep.Upkeep) *storeMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &storeMetrics{
		upkeep: u,
		alarm:  desc("agentry_store_alarm", "1 for every alarm that a store member shows, such as NOSPACE: nothing can be written.", "member", "alarm"),
		up:     desc("agentry_store_member_up", "1 where a store member answers, else 0.", "member"),
		size:   desc("agentry_store_size_bytes", "Size of the store's largest member."),
		quota:  desc("agentry_store_quota_bytes", "Size from which the store takes no writes; 0: not known."),
		oldest: desc("agentry_store_compacted_revision", "Revision below which this replica had the store drop its history; 0: it didn't."),
	}
}

// Describe implements prometheus.Collector.
func (m *storeMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.alarm, m.up, m.size, m.quota, m.oldest} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *storeMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	c := m.upkeep.Condition()
	gauge(m.size, float64(c.SizeBytes))
	gauge(m.quota, float64(c.QuotaBytes))
	gauge(m.oldest, float64(m.upkeep.Compacted()))
	seen := map[string]bool{}
	for _, member := range c.Members {
		name := member.Name
		if name == "" && len(member.ClientURLs) > 0 {
			name = member.ClientURLs[0]
		}
		if seen[name] {
			continue
		}
		seen[name] = true
		up := 1.0
		if member.Fault != "" {
			up = 0
		}
		gauge(m.up, up, name)
		alarms := map[string]bool{}
		for _, a := range member.Alarms {
			if !alarms[a] {
				alarms[a] = true
				gauge(m.alarm, 1, name, a)
			}
		}
	}
}

var _ prometheus.Collector = (*storeMetrics)(nil)
