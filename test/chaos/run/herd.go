package run

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/chaos/register"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness/herd"
	"github.com/agentry/agentry/test/harness/pki"
)

// Bounds of P9 and P13.
const (
	herdBack    = 30 * time.Second // from all control planes being ready to all instances being in step again
	stuckGrowth = 50 << 20         // of the largest control plane, for stuck instances
	stuckFor    = 20 * time.Second
)

// Authority makes an authority in files below dir, which can sign for a herd, and has control planes use it.
func Authority(o *world.Options, dir string) (cert, key string, err error) {
	ca, err := pki.New()
	if err != nil {
		return "", "", err
	}
	if cert, key, err = ca.WriteFiles(dir); err != nil {
		return "", "", err
	}
	if cert, err = filepath.Abs(cert); err != nil {
		return "", "", err
	}
	if key, err = filepath.Abs(key); err != nil {
		return "", "", err
	}
	o.PlaneArgs = append(o.PlaneArgs, "--ca-cert", cert, "--ca-key", key)
	return cert, key, nil
}

// Herd adds n simulated instances of an agent of their own. First they all stand still, under updates: no control plane grows by it, and
// nobody else waits for them (P9). Then all control planes are killed and started at once: everybody is in step again in time (P13).
func (s *Stage) Herd(ctx context.Context, n int, cert, key string) (Minimum, error) {
	var doors []string
	for _, p := range s.World.Planes {
		doors = append(doors, p.Peer)
	}
	if err := s.herdConfig(ctx, 0); err != nil {
		return Minimum{}, err
	}
	h, err := herd.Start(herd.Config{Targets: doors, CACert: cert, CAKey: key, N: n, Agents: []string{"herd"}, Prefix: "member"})
	if err != nil {
		return Minimum{}, err
	}
	defer h.Close()
	if _, err := h.Confirmed(2 * time.Minute); err != nil {
		return Minimum{}, fmt.Errorf("the herd doesn't come up: %w", err)
	}
	if err := s.stuck(ctx, h, n); err != nil {
		return Minimum{}, err
	}
	if err := s.allAtOnce(ctx, h, n); err != nil {
		return Minimum{}, err
	}
	return Minimum{Checked: 200, Requests: 500, Updates: 10}, nil
}

// herdConfig applies the herd's k-th config.
func (s *Stage) herdConfig(ctx context.Context, k int) error {
	_, err := register.Apply(ctx, s.doors[k%len(s.doors)], map[string]string{
		"herd/agent-base.json": fmt.Sprintf(`{"promptKey": "herd", "description": "take %d"}`, k),
		"herd/model.json":      `{"model": "scripted"}`,
		"prompts/herd.json":    `{"promptKey": "herd", "version": "1.0.0", "template": "herd"}`,
	}, nil, "")
	return err
}

// stuck stops the herd's process: its connections stay, and nobody reads.
func (s *Stage) stuck(ctx context.Context, h *herd.Herd, n int) error {
	s.Findings.During("stuck herd")
	wait(ctx, 10*time.Second)
	spread, _, _ := s.Fleet.Spread()
	calm, before := report.NewTimes(spread), s.memory.planes()
	if err := h.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	var grown int64
	for k, end := 1, time.Now().Add(stuckFor); time.Now().Before(end) && ctx.Err() == nil; k++ {
		if err := s.herdConfig(ctx, k); err != nil {
			return err
		}
		wait(ctx, 100*time.Millisecond)
		grown = max(grown, s.memory.planes()-before)
	}
	all, _, _ := s.Fleet.Spread()
	slow := report.NewTimes(all[len(spread):])
	if err := h.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	if _, err := h.Confirmed(time.Minute); err != nil {
		s.Findings.Violate("P9", "the herd isn't in step a minute after it stood still: %v", err)
	}
	s.figure(fmt.Sprintf("%d instances that read nothing for %s", n, stuckFor), fmt.Sprintf("the largest control plane grew by %d MiB; update to all others p50 %s, p99 %s (before: %s, %s)",
		grown>>20, slow.P50.Round(time.Millisecond), slow.P99.Round(time.Millisecond), calm.P50.Round(time.Millisecond), calm.P99.Round(time.Millisecond)))
	if grown > stuckGrowth {
		s.Findings.Violate("P9", "a control plane grew by %d MiB while %d instances read nothing, at most %d are allowed", grown>>20, n, stuckGrowth>>20)
	}
	if limit := 2*calm.P99 + time.Second; slow.N > 0 && slow.P99 > limit {
		s.Findings.Violate("P9", "others' updates took %s (p99) while %d instances read nothing, %s before", slow.P99, n, calm.P99)
	}
	return nil
}

// allAtOnce kills every control plane and starts all of them again.
func (s *Stage) allAtOnce(ctx context.Context, h *herd.Herd, n int) error {
	s.Findings.During("all control planes at once")
	killed := herd.Now()
	for _, p := range s.World.Planes {
		p.Kill()
	}
	for _, p := range s.World.Planes {
		if err := p.Start(); err != nil {
			return err
		}
	}
	for _, p := range s.World.Planes {
		if err := p.WaitReady(ctx, time.Minute); err != nil {
			return err
		}
	}
	ready := herd.Now()
	st, err := h.Confirmed(2 * time.Minute)
	if err != nil {
		s.Findings.Violate("P13", "the herd isn't back two minutes after all control planes were started: %d of %d, %v", st.Confirmed, n, err)
		return nil
	}
	took := max(0, st.LastConfirmed-ready) // all may be in step before the last of them is ready
	s.figure(fmt.Sprintf("all control planes killed and started at once: until all %d instances are in step", n),
		fmt.Sprintf("%s (%s after the last is ready)", (st.LastConfirmed-killed).Round(time.Millisecond), took.Round(time.Millisecond)))
	s.figure("content bytes that the herd was sent on return", st.Bytes)
	if took > herdBack {
		s.Findings.Violate("P13", "%d instances were in step %s after the control planes were ready, want %s", n, took, herdBack)
	}
	return nil
}
