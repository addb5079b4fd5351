package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
)

// Processes are the faults of whole processes: they die, they stand still, they are restarted in turn.
func Processes() []world.Fault {
	var out []world.Fault
	for _, whom := range []chooser{etcdLeader(), etcdFollower(), anyPlane(), planeLeader(), anyAgentd()} {
		out = append(out, kill{whom}, pause{whom: whom, name: "pause-" + whom.name, low: 5 * time.Second, high: 5 * time.Second})
	}
	return append(out,
		pause{whom: anyAgentd(), name: "slow-agentd", low: 30 * time.Second, high: 30 * time.Second},
		rolling{},
	)
}

// kill ends a process by SIGKILL.
type kill struct{ whom chooser }

// Name implements world.Fault.
func (k kill) Name() string { return "kill-" + k.whom.name }

// Needs implements world.Fault.
func (kill) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (k kill) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 0, 3*time.Second)
	n, err := k.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	n.Kill()
	return world.Injected{
		What: fmt.Sprintf("kill -9 %s (%s), for %s", n.Name, k.whom.name, hold), Hold: hold, Excused: excuse(n),
		Heal: func(ctx context.Context) error { return n.Up(ctx, upWait) },
	}, nil
}

// pause lets a process stand still by SIGSTOP: its connections stay, and nothing answers.
type pause struct {
	whom      chooser
	name      string
	low, high time.Duration
}

// Name implements world.Fault.
func (p pause) Name() string { return p.name }

// Needs implements world.Fault.
func (pause) Needs(*world.World) error { return nil }

// Inject implements world.Fault.
func (p pause) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, p.low, p.high)
	n, err := p.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	if err := n.SignalAll(syscall.SIGSTOP); err != nil {
		return world.Injected{}, err
	}
	return world.Injected{
		What: fmt.Sprintf("SIGSTOP %s (%s), for %s", n.Name, p.whom.name, hold), Hold: hold, Excused: excuse(n),
		Heal: func(ctx context.Context) error {
			if err := n.SignalAll(syscall.SIGCONT); err != nil {
				return err
			}
			return n.WaitReady(ctx, upWait)
		},
	}, nil
}

// rolling restarts every control plane in turn, as an upgrade does.
type rolling struct{}

// Name implements world.Fault.
func (rolling) Name() string { return "rolling-restart" }

// Needs implements world.Fault.
func (rolling) Needs(*world.World) error { return nil }

// stopWait is how long a control plane may take to send its streams away and end; operations.md says the same.
const stopWait = 40 * time.Second

// Inject implements world.Fault.
func (rolling) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	for _, i := range r.Perm(len(w.Planes)) {
		n := w.Planes[i]
		if err := n.Stop(stopWait); err != nil {
			return world.Injected{}, fmt.Errorf("%s did not end cleanly: %w", n.Name, err)
		}
		if err := n.Up(ctx, upWait); err != nil {
			return world.Injected{}, err
		}
	}
	return world.Injected{What: fmt.Sprintf("restarted all %d control planes in turn", len(w.Planes))}, nil
}

var (
	_ world.Fault = kill{}
	_ world.Fault = pause{}
	_ world.Fault = rolling{}
)
