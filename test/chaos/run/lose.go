package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
)

// lost is a process that is killed by SIGKILL, stays away for a while, and is started again.
type lost struct {
	node *world.Node
	away time.Duration
}

// Name implements world.Fault.
func (l lost) Name() string { return "lose-" + string(l.node.Kind) }

// Needs implements world.Fault.
func (lost) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (l lost) Inject(ctx context.Context, w *world.World, _ *rand.Rand) (world.Injected, error) {
	what := "kill -9 " + l.node.Name
	leads := w.PlaneLeader
	if l.node.Kind == world.Etcd {
		leads = w.EtcdLeader
	}
	if n, err := leads(ctx); err == nil && n == l.node {
		what += " (leader)"
	}
	l.node.Kill()
	return world.Injected{What: what, Hold: l.away, Heal: func(ctx context.Context) error { return l.node.Up(ctx, time.Minute) }}, nil
}

// LoseOne loses each etcd member and each control plane in turn while updates in all are applied, and answers what must have been done.
// Nobody's request may fail.
func (s *Stage) LoseOne(ctx context.Context, updates int) (Minimum, error) {
	r := rand.New(rand.NewPCG(s.cfg.Seed, 0x105e)) //nolint:gosec // seeded on purpose
	nodes := append(append([]*world.Node{}, s.World.Etcds...), s.World.Planes...)
	r.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	least := -1
	for i, n := range nodes {
		if err := s.updated(ctx, updates*(i+1)/(len(nodes)+1)); err != nil {
			return Minimum{}, err
		}
		streams := s.Load.Streams()
		for ; streams == 0 && ctx.Err() == nil; streams = s.Load.Streams() {
			wait(ctx, time.Millisecond)
		}
		if least < 0 || streams < least {
			least = streams
		}
		if err := s.Fault(ctx, lost{n, 5 * time.Second}, r); err != nil {
			return Minimum{}, err
		}
	}
	if err := s.updated(ctx, updates); err != nil {
		return Minimum{}, err
	}
	s.figure("streamed answers on their way at each loss", fmt.Sprintf("at least %d", least))
	spread, _, _ := s.Fleet.Spread()
	if t := report.NewTimes(spread); t.P99 > convergeP99 {
		s.Findings.Violate("P3", "p99 from an update's acknowledgement to all instances is %s", t.P99)
	}
	if e := s.Load.Stats().Excused; e > 0 {
		s.Findings.Violate("P6", "%d requests were excused, nobody's may fail here", e)
	}
	return Minimum{Checked: 1000, Requests: 45 * int(time.Since(s.began.Add(s.ready)).Seconds()) * 8 / 10, Updates: updates, Faults: len(nodes), Kinds: 2}, nil
}

// updated waits until so many updates are acknowledged.
func (s *Stage) updated(ctx context.Context, n int) error {
	last, since := -1, time.Now()
	for ctx.Err() == nil {
		acked := s.Writer.Stats().Acked
		if acked >= n {
			return nil
		}
		if acked != last {
			last, since = acked, time.Now()
		}
		if time.Since(since) > time.Minute {
			return fmt.Errorf("no update was acknowledged for a minute, %d so far", acked)
		}
		wait(ctx, 20*time.Millisecond)
	}
	return ctx.Err()
}

// figure notes a scenario's own result.
func (s *Stage) figure(name string, v any) {
	if s.figures == nil {
		s.figures = map[string]any{}
	}
	s.figures[name] = v
}
