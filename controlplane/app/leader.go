package app

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentry/agentry/controlplane/collector"
	"github.com/agentry/agentry/controlplane/leader"
	"github.com/agentry/agentry/controlplane/once"
	"github.com/agentry/agentry/controlplane/releaser"
	"github.com/agentry/agentry/controlplane/store"
)

// lead is what one replica of all does.
type lead struct {
	election  *leader.Election
	store     store.Store
	releaser  releaser.Config
	collector *collector.Collector
	sweeper   *once.Sweeper
}

func newLead(in parts, r releaser.Config, c *collector.Collector) (*lead, error) {
	e, err := leader.New(leader.Config{Store: in.store, Leases: in.leases, Replica: in.replica, Logger: in.log})
	if err != nil {
		return nil, err
	}
	w, err := once.NewSweeper(in.log, time.Now)
	if err != nil {
		return nil, err
	}
	return &lead{election: e, store: in.store, releaser: r, collector: c, sweeper: w}, nil
}

// run takes part in choosing the leader, and does its work while this replica is it.
func (l *lead) run(ctx context.Context) error { return l.election.Run(ctx, l.term) }

// term does the leader's work until ctx ends. Everything in it writes within the term only.
func (l *lead) term(ctx context.Context, t leader.Term) error {
	fenced := leader.Fence(l.store, t)
	return whileWhole(ctx, l.releaser.View, func(ctx context.Context) error { return l.work(ctx, t, fenced) })
}

func (l *lead) work(ctx context.Context, t leader.Term, fenced store.Store) error {
	cfg := l.releaser
	cfg.Store, cfg.Term = fenced, t.Number()
	judge, err := releaser.New(cfg) // a new one judges every agent once, and remembers nothing of what another replica may have changed
	if err != nil {
		return err
	}
	return runAll(ctx, []part{
		{"releaser", judge.Run},
		{"collector", func(ctx context.Context) error { return l.collector.Run(ctx, fenced) }},
		{"sweeper", func(ctx context.Context) error { return l.sweeper.Run(ctx, fenced) }},
	})
}

// metrics tells whether this replica leads.
func (l *lead) metrics() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "agentry_leader", Help: "1 while this replica leads: it alone moves releases and removes what is unused.",
		}, func() float64 {
			if l.election.Term() != 0 {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "agentry_leader_term", Help: "Number of the lead that this replica has, a store revision; 0: it doesn't lead.",
		}, func() float64 { return float64(l.election.Term()) }),
	}
}
