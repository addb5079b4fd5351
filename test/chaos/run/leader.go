package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/agentry/agentry/test/chaos/fleet"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/traffic"
	"github.com/agentry/agentry/test/chaos/world"
)

// terminalLimit bounds a release whose leader died: the next leader is there after the lease (5 s), and concludes nothing of a fleet that
// it doesn't know whole (35 s).
const terminalLimit = 60 * time.Second

// leaderLost kills the leading control plane at some point of a release.
type leaderLost struct {
	stage   *Stage
	refused bool
	took    *[]time.Duration
}

// Name implements world.Fault.
func (l leaderLost) Name() string {
	if l.refused {
		return "kill-leader-refused-release"
	}
	return "kill-leader-good-release"
}

// Needs implements world.Fault.
func (leaderLost) Needs(*world.World) error { return nil }

// Inject implements world.Fault: the release is begun and the leader killed, and the others bring it to its end.
func (l leaderLost) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	leader, err := waitLeader(ctx, w)
	if err != nil {
		return world.Injected{}, err
	}
	agent := w.Fleet()[r.IntN(len(w.Fleet()))]
	at := r.IntN(len(w.Planes))
	delay := time.Duration(r.IntN(500)) * time.Millisecond
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		wait(ctx, delay)
		leader.Kill()
	}()
	write := l.stage.Writer.Update
	if l.refused {
		write = l.stage.Writer.Refused
	}
	u, ok := write(ctx, agent.Name, at)
	<-killed
	what := fmt.Sprintf("kill -9 %s (leader) %s after revision %d of %s was sent to %s", leader.Name, delay, u.Revision, agent.Name, w.Planes[at].Name)
	began := time.Now()
	if ok {
		err := l.terminal(ctx, leader, agent, u)
		if err != nil {
			l.stage.Findings.Violate("release", "%s: %v", what, err)
		}
	} else {
		l.stage.Findings.Violate("P1", "%s: nobody acknowledged it in %s", what, time.Since(began))
	}
	*l.took = append(*l.took, time.Since(began))
	return world.Injected{What: what, Heal: func(ctx context.Context) error { return leader.Up(ctx, time.Minute) }}, nil
}

// terminal waits, at the replicas that are left, until the release came to its one end.
func (l leaderLost) terminal(ctx context.Context, dead *world.Node, agent world.Agent, u traffic.Update) error {
	var alive []*world.Door
	for _, d := range l.stage.doors {
		if d.Node != dead {
			alive = append(alive, d)
		}
	}
	since := time.Now()
	var last error
	for time.Since(since) < terminalLimit && ctx.Err() == nil {
		last = nil
		for _, d := range alive {
			st, err := fleet.Desired(ctx, []*world.Door{d}, agent.Name)
			if err != nil {
				last = err
				break
			}
			if last = fleet.Terminal(st, agent.Instances); last != nil {
				break
			}
			refusal := st.GetLastRefusal().GetRevision()
			switch {
			case !l.refused && (st.GetStableRevision() != u.Revision || refusal == u.Revision):
				last = fmt.Errorf("a good revision %d ended with %d stable, refused %d", u.Revision, st.GetStableRevision(), refusal)
			case l.refused && (st.GetStableRevision() == u.Revision || refusal != u.Revision):
				last = fmt.Errorf("a bad revision %d ended with %d stable, refused %d", u.Revision, st.GetStableRevision(), refusal)
			}
			if last != nil {
				break
			}
		}
		if last == nil {
			return nil
		}
		wait(ctx, 100*time.Millisecond)
	}
	return fmt.Errorf("%s isn't settled within %s: %w", agent.Name, terminalLimit, last)
}

func waitLeader(ctx context.Context, w *world.World) (*world.Node, error) {
	var last error
	for range 300 {
		n, err := w.PlaneLeader(ctx)
		if err == nil {
			return n, nil
		}
		last = err
		wait(ctx, 100*time.Millisecond)
	}
	return nil, last
}

// LeaderKill kills the leader at n points of releases, every other one of which is refused.
func (s *Stage) LeaderKill(ctx context.Context, n int) (Minimum, error) {
	var took []time.Duration
	for i := range n {
		if ctx.Err() != nil {
			return Minimum{}, ctx.Err()
		}
		r := rand.New(rand.NewPCG(s.cfg.Seed, uint64(i+1))) //nolint:gosec // seeded on purpose
		if err := s.Fault(ctx, leaderLost{s, i%2 == 1, &took}, r); err != nil {
			return Minimum{}, err
		}
	}
	t := report.NewTimes(took)
	s.figure("leader killed to the release's end", fmt.Sprintf("%d, p50 %s, p99 %s, max %s", t.N, t.P50.Round(time.Millisecond), t.P99.Round(time.Millisecond), t.Max.Round(time.Millisecond)))
	return Minimum{Checked: 50 * n, Requests: 50 * n, Updates: n / 2, Faults: n, Kinds: min(2, n)}, nil
}
