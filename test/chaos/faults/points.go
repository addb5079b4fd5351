package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/agentry/agentry/test/chaos/failpoint"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// passWait is how long the suite's traffic has to bring a process to a point.
const passWait = 20 * time.Second

// Points are the faults at marked places of the programs: a process dies there, or waits.
func Points() []world.Fault {
	return []world.Fault{
		crash{anyPlane(), "afterCommitBeforeView", 3},
		crash{anyPlane(), "afterCommitBeforeAnswer", 3},
		crash{streamingPlane(), "betweenSendAndAck", 3},
		crash{streamingPlane(), "betweenAckAndRecord", 3},
		crash{planeLeader(), "beforeReleaserWrite", 3},
		crash{planeLeader(), "afterReleaserWrite", 3},
		crash{anyAgentd(), "afterBuildBeforePersist", 1},
		crash{anyAgentd(), "betweenPersistAndSwap", 1},
		crash{anyAgentd(), "afterSwapBeforeReport", 1},
		delay{streamingPlane(), "beforeRefresh", 300 * time.Millisecond},
		delay{anyPlane(), "afterCommitBeforeAnswer", time.Second},
		delay{planeLeader(), "beforeReleaserWrite", 500 * time.Millisecond},
	}
}

// EtcdPoints are those that etcd's own authors marked, for a build of etcd with them (failpoint.BuildEtcd).
func EtcdPoints() []world.Fault {
	var out []world.Fault
	for _, name := range []string{
		"raftBeforeSave", "raftAfterSave", "raftBeforeFollowerSend", "raftBeforeLeaderSend", "raftBeforeAdvance",
		"beforeCommit", "afterCommit", "beforeWritebackBuf", "afterWritebackBuf", "walBeforeSync", "walAfterSync",
		"beforeApplyOneEntryNormal",
	} {
		whom := anyEtcd()
		switch name {
		case "raftBeforeLeaderSend":
			whom = etcdLeader()
		case "raftBeforeFollowerSend":
			whom = etcdFollower()
		}
		out = append(out, etcdPanic{whom, name})
	}
	return out
}

func anyEtcd() chooser {
	return chooser{"etcd", func(_ context.Context, w *world.World, r *rand.Rand) (*world.Node, error) {
		return pick(r, w.Etcds), nil
	}}
}

// armable says why points can't be armed in a world.
func armable(w *world.World) error {
	for _, n := range w.Nodes() {
		if n.Failpoints == "" {
			return errors.New("needs a build with failpoints")
		}
	}
	return nil
}

// crash lets a process die when it passes a point for the nth time.
type crash struct {
	whom  chooser
	point string
	most  int // n is chosen from 1 to this
}

// Name implements world.Fault.
func (c crash) Name() string { return "crash-" + c.point }

// Needs implements world.Fault.
func (crash) Needs(w *world.World) error { return armable(w) }

// Inject implements world.Fault.
func (c crash) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	pass, hold := 1+r.IntN(c.most), between(r, 0, 2*time.Second)
	n, err := c.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	terms := failpoint.Crash
	if pass > 1 {
		terms = fmt.Sprintf("%d*off->%s", pass-1, failpoint.Crash)
	}
	what := fmt.Sprintf("%s dies at %s, the %d. time it is there", n.Name, c.point, pass)
	return dieAt(ctx, w, n, c.point, terms, "panic: failpoint "+c.point, what, hold)
}

// etcdPanic lets an etcd member panic at one of etcd's own points.
type etcdPanic struct {
	whom  chooser
	point string
}

// Name implements world.Fault.
func (c etcdPanic) Name() string { return "etcd-" + c.point }

// Needs implements world.Fault.
func (etcdPanic) Needs(w *world.World) error {
	if err := armable(w); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := (failpoint.Door{Addr: w.Etcds[0].Failpoints}).List(ctx); err != nil {
		return fmt.Errorf("needs a build of etcd with failpoints: %w", err)
	}
	return nil
}

// Inject implements world.Fault.
func (c etcdPanic) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 0, 2*time.Second)
	n, err := c.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	return dieAt(ctx, w, n, c.point, `panic("`+c.point+`")`, "failpoint panic: "+c.point, fmt.Sprintf("%s panics at etcd's %s", n.Name, c.point), hold)
}

// dieAt arms a point, and waits until the process died there.
func dieAt(ctx context.Context, w *world.World, n *world.Node, point, terms, line, what string, hold time.Duration) (world.Injected, error) {
	log := filepath.Join(w.Dir, n.Name+".log")
	before, err := size(log)
	if err != nil {
		return world.Injected{}, err
	}
	door := failpoint.Door{Addr: n.Failpoints}
	if err := door.Arm(ctx, point, terms); err != nil {
		return world.Injected{}, err
	}
	died := waitEnd(ctx, n, passWait)
	if died != nil {
		if err := door.Disarm(ctx, point); err == nil {
			return world.Injected{}, fmt.Errorf("%s: %w", what, died)
		}
		if died = waitEnd(ctx, n, passWait); died != nil { // it died meanwhile
			return world.Injected{}, fmt.Errorf("%s: %w", what, died)
		}
	}
	return world.Injected{
		What: what, Hold: hold, Excused: excuse(n),
		Heal: func(ctx context.Context) error { return n.Up(ctx, upWait) },
		Fired: func() (int64, error) {
			found, err := holds(log, before, line)
			if err != nil || !found {
				return 0, err
			}
			return 1, nil
		},
	}, nil
}

// waitEnd waits until a process ended by itself.
func waitEnd(ctx context.Context, n *world.Node, d time.Duration) error {
	return harness.Poll(ctx, d, func(context.Context) error {
		if n.Running() {
			return fmt.Errorf("%s still runs", n.Name)
		}
		return nil
	})
}

// delay lets everybody who passes a point wait.
type delay struct {
	whom  chooser
	point string
	wait  time.Duration
}

// Name implements world.Fault.
func (d delay) Name() string { return "delay-" + d.point }

// Needs implements world.Fault.
func (delay) Needs(w *world.World) error { return armable(w) }

// Inject implements world.Fault.
func (d delay) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	hold := between(r, 5*time.Second, 8*time.Second)
	n, err := d.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	door := failpoint.Door{Addr: n.Failpoints}
	if err := door.Arm(ctx, d.point, failpoint.Sleep(d.wait)); err != nil {
		return world.Injected{}, err
	}
	var times int64
	return world.Injected{
		What: fmt.Sprintf("%s waits %s at %s, for %s", n.Name, d.wait, d.point, hold), Hold: hold,
		Heal: func(ctx context.Context) error {
			var err error
			if times, err = door.Count(ctx, d.point); err != nil {
				return err
			}
			return door.Disarm(ctx, d.point)
		},
		Fired: func() (int64, error) { return times, nil },
	}, nil
}

func size(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// holds tells whether a log holds text from an offset on.
func holds(path string, from int64, text string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // a log of the world's
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return false, err
	}
	return contains(f, text)
}

var (
	_ world.Fault = crash{}
	_ world.Fault = etcdPanic{}
	_ world.Fault = delay{}
)
