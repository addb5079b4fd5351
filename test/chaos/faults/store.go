package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/agentry/agentry/test/chaos/netns"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Stores are the faults of etcd as a database: history that is gone, and no room left.
func Stores(n *Network) []world.Fault { return []world.Fault{compacted{}, lagging{n}, noSpace{}} }

// fillerKey is written to make etcd's database grow; nobody else knows of it.
const fillerKey = "/chaos-filler"

// compacted throws away the store's whole history while all follow it.
type compacted struct{}

// Name implements world.Fault.
func (compacted) Name() string { return "compaction" }

// Needs implements world.Fault.
func (compacted) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (compacted) Inject(ctx context.Context, w *world.World, _ *rand.Rand) (world.Injected, error) {
	rev, err := compact(ctx, w)
	if err != nil {
		return world.Injected{}, err
	}
	return world.Injected{What: fmt.Sprintf("compacted etcd at its newest revision, %d", rev)}, nil
}

// compact leaves the newest revision alone.
func compact(ctx context.Context, w *world.World) (int64, error) {
	resp, err := w.Etcd().Get(ctx, fillerKey)
	if err != nil {
		return 0, err
	}
	_, err = w.Etcd().Compact(ctx, resp.Header.Revision)
	if errors.Is(err, rpctypes.ErrCompacted) {
		err = nil
	}
	return resp.Header.Revision, err
}

// lagging cuts a control plane off from etcd, and compacts what it hasn't seen before it comes back: it must load everything anew.
type lagging struct{ n *Network }

// Name implements world.Fault.
func (lagging) Name() string { return "compaction-under-a-lagging-watch" }

// Needs implements world.Fault.
func (f lagging) Needs(*world.World) error { return f.n.needs() }

// Inject implements world.Fault.
func (f lagging) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	n, err := anyPlane().choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	cp, host := &harness.ControlPlane{People: n.Addr}, f.n.host(n)
	breaks := func(ctx context.Context) (float64, error) { return cp.Metric(ctx, "agentry_view_watch_breaks_total") }
	before, err := breaks(ctx)
	if err != nil {
		return world.Injected{}, err
	}
	resp, err := w.Etcd().Get(ctx, fillerKey)
	if err != nil {
		return world.Injected{}, err
	}
	if err := host.Cut(ctx, netns.Both, f.n.hostsOf(w.Etcds)...); err != nil {
		return world.Injected{}, err
	}
	heal := func(ctx context.Context) error {
		_, err := host.Heal(ctx)
		return err
	}
	// Until its connections are given up what waits in their buffers would still arrive.
	err = harness.Poll(ctx, passWait, func(ctx context.Context) error {
		now, err := w.Etcd().Get(ctx, fillerKey)
		if err == nil && now.Header.Revision < resp.Header.Revision+20 {
			err = errors.New("too little is written")
		}
		return err
	})
	if err != nil {
		return world.Injected{}, errors.Join(err, heal(ctx))
	}
	var after float64
	return world.Injected{
		What: fmt.Sprintf("cut %s off from etcd, and compacted what it hasn't seen", n.Name), Hold: between(r, 8*time.Second, 10*time.Second),
		Heal: func(ctx context.Context) error {
			_, err := compact(ctx, w)
			if err = errors.Join(err, heal(ctx)); err != nil {
				return err
			}
			_ = harness.Poll(ctx, passWait, func(ctx context.Context) error {
				if after, err = breaks(ctx); err == nil && after <= before {
					err = errors.New("its watch didn't break")
				}
				return err
			})
			return n.WaitReady(ctx, upWait)
		},
		Fired: func() (int64, error) { return int64(after - before), nil },
	}, nil
}

// noSpace raises etcd's alarm that its database is full: nobody can write until it is lifted.
type noSpace struct{}

// Name implements world.Fault.
func (noSpace) Name() string { return "etcd-nospace" }

// Needs implements world.Fault.
func (noSpace) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (noSpace) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 2*time.Second, 4*time.Second)
	n := pick(r, w.Etcds)
	st, err := w.Etcd().Status(ctx, n.URL())
	if err != nil {
		return world.Injected{}, err
	}
	alarms := etcdserverpb.NewMaintenanceClient(w.Etcd().ActiveConnection())
	alarm := func(ctx context.Context, do etcdserverpb.AlarmRequest_AlarmAction) error {
		_, err := alarms.Alarm(ctx, &etcdserverpb.AlarmRequest{Action: do, MemberID: st.Header.MemberId, Alarm: etcdserverpb.AlarmType_NOSPACE})
		return err
	}
	if err := alarm(ctx, etcdserverpb.AlarmRequest_ACTIVATE); err != nil {
		return world.Injected{}, err
	}
	var fired int64
	return world.Injected{
		What: fmt.Sprintf("%s says that its database is full (NOSPACE), for %s", n.Name, hold), Hold: hold, NoWrites: true,
		Heal: func(ctx context.Context) error {
			if _, err := w.Etcd().Put(ctx, fillerKey, ""); err != nil && strings.Contains(err.Error(), "space exceeded") {
				fired = 1
			}
			return harness.Poll(ctx, passWait, func(ctx context.Context) error { return alarm(ctx, etcdserverpb.AlarmRequest_DEACTIVATE) })
		},
		Fired: func() (int64, error) { return fired, nil },
	}, nil
}

var (
	_ world.Fault = compacted{}
	_ world.Fault = lagging{}
	_ world.Fault = noSpace{}
)
