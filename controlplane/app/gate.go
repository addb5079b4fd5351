package app

import (
	"context"
	"flag"

	"github.com/agentry/agentry/controlplane/gate"
	"github.com/agentry/agentry/controlplane/store"
)

// Rates bound what is asked at the people door, in calls a second. At once, several times as many go through.
type Rates struct {
	// Caller is for one principal, whatever it calls.
	Caller float64
	// Address is for one client address: calls without a login, and failed ones. Of logins, a fiftieth.
	Address float64
}

func defaultRates() Rates { return Rates{Caller: 500, Address: 10} }

func rateFlags(fs *flag.FlagSet, r *Rates) {
	fs.Float64Var(&r.Caller, "caller-rate", r.Caller, "`calls` a second that one caller of the people door may make; five times as many at once")
	fs.Float64Var(&r.Address, "address-rate", r.Address, "`calls` a second that one address may make without a login, or with one that fails; ten times as many at once")
}

func (r Rates) check(fault func(string, ...any)) {
	if r.Caller <= 0 {
		fault("--caller-rate: %g (above 0)", r.Caller)
	}
	if r.Address <= 0 {
		fault("--address-rate: %g (above 0)", r.Address)
	}
}

func (r Rates) limits() gate.Limits {
	return gate.Limits{
		Principal: gate.Rate{PerSecond: r.Caller, Burst: max(1, int(r.Caller*5))},
		Address:   gate.Rate{PerSecond: r.Address, Burst: max(1, int(r.Address*10))},
		Login:     gate.Rate{PerSecond: r.Address / 50, Burst: max(1, int(r.Address))},
	}
}

// newGate makes the people door's guard.
func newGate(in parts) (*gate.Gate, error) {
	return gate.New(gate.Config{
		Logger: in.log, Auth: in.directory, Labels: in.view, Audit: in.trail.queue, Redact: in.redact, Limits: in.cfg.Rates.limits(),
		Calls: &calls{once: in.once, view: in.view}, Revisions: in.view, Replica: in.replica,
		Newest: func(ctx context.Context) (int64, error) { return in.store.Commit(ctx, store.Txn{}) },
	})
}
