package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Clocks are the faults of wrong clocks. bin holds the programs built with harness.SkewedClock; "": there are none.
func Clocks(bin string) []world.Fault {
	return []world.Fault{
		skew{bin: bin, name: "clock-plane", program: "controlplane", whom: anyPlane(), by: []time.Duration{time.Hour, -time.Hour}},
		skew{bin: bin, name: "clock-plane-leader", program: "controlplane", whom: planeLeader(), by: []time.Duration{time.Hour, -time.Hour}},
		skew{bin: bin, name: "clock-plane-month", program: "controlplane", whom: anyPlane(), by: []time.Duration{30 * 24 * time.Hour}},
		skew{bin: bin, name: "clock-agentd", program: "agentd", whom: anyAgentd(), by: []time.Duration{time.Hour, -time.Hour}},
		skew{bin: bin, name: "clock-agentd-month", program: "agentd", whom: anyAgentd(), by: []time.Duration{30 * 24 * time.Hour}},
	}
}

// skew restarts a process with a wrong clock, and later with the right one.
type skew struct {
	bin, name, program string
	whom               chooser
	by                 []time.Duration
}

// Name implements world.Fault.
func (s skew) Name() string { return s.name }

// Needs implements world.Fault.
func (s skew) Needs(*world.World) error {
	if s.bin == "" {
		return errors.New("needs a build with a clock that can be wrong")
	}
	return nil
}

// Inject implements world.Fault.
func (s skew) Inject(ctx context.Context, w *world.World, r *rand.Rand) (world.Injected, error) {
	by, hold := s.by[r.IntN(len(s.by))], between(r, 6*time.Second, 10*time.Second)
	n, err := s.whom.choose(ctx, w, r)
	if err != nil {
		return world.Injected{}, err
	}
	log := filepath.Join(w.Dir, n.Name+".log")
	n.Kill()
	from, err := size(log)
	if err != nil {
		return world.Injected{}, errors.Join(err, n.Up(ctx, upWait))
	}
	n.Override(world.Override{
		Program: filepath.Join(s.bin, s.program), Vars: []string{fmt.Sprintf("%s=%d", harness.SkewVar, int64(by.Seconds()))},
	})
	back := func(ctx context.Context) error {
		n.Kill()
		n.Override(world.Override{})
		return n.Up(ctx, upWait)
	}
	started := time.Now()
	if err := n.Up(ctx, upWait); err != nil {
		return world.Injected{}, errors.Join(fmt.Errorf("%s with a clock that is wrong by %s: %w", n.Name, by, err), back(ctx))
	}
	var fired int64
	return world.Injected{
		What: fmt.Sprintf("the clock of %s is wrong by %s, for %s", n.Name, by, hold), Hold: hold, Excused: excuse(n),
		Heal: func(ctx context.Context) error {
			off, err := logsOff(log, from, started)
			if off -= by; err == nil && off.Abs() < time.Minute {
				fired = 1
			}
			return errors.Join(err, back(ctx))
		},
		Fired: func() (int64, error) { return fired, nil },
	}, nil
}

var stamp = regexp.MustCompile(`\btime=(\S+)`)

// logsOff tells how wrong the clock is that a log was written by, from its first line after an offset.
func logsOff(path string, from int64, written time.Time) (time.Duration, error) {
	f, err := os.Open(path) //nolint:gosec // a log of the world's
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return 0, err
	}
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		if m := stamp.FindStringSubmatch(scan.Text()); m != nil {
			at, err := time.Parse(time.RFC3339, m[1])
			return at.Sub(written), err
		}
	}
	return 0, errors.Join(scan.Err(), fmt.Errorf("%s holds no time", path))
}

var _ world.Fault = skew{}
