package run

import (
	"context"
	"fmt"
	"time"

	"github.com/agentry/agentry/test/chaos/fleet"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness"
)

// Bounds of an outage.
const (
	restartLimit = 2 * time.Second  // from the start of an agentd to its readiness from its last good config
	returnLimit  = 60 * time.Second // until every instance is connected again
)

// Outage stops every etcd member and every control plane for a time, restarts every agentd meanwhile, and holds all to serving the same
// config as before, and to being sent no content on return.
func (s *Stage) Outage(ctx context.Context, length time.Duration) (Minimum, error) {
	s.Findings.During("outage")
	quiet, resume := s.Writer.Quiet(), s.registers.Pause()
	defer func() { quiet(); resume() }()
	if _, err := s.Fleet.Converged(ctx, s.doors, time.Now(), convergeLimit); err != nil {
		return Minimum{}, err
	}
	if _, err := s.Fleet.Settled(ctx, s.doors, time.Now(), time.Minute); err != nil {
		return Minimum{}, err
	}
	before := map[*world.Node]string{}
	for _, n := range s.World.Agents {
		d, err := fleet.Read(ctx, n)
		if err != nil || d.Loaded == nil {
			return Minimum{}, fmt.Errorf("%s: %w", n.Name, err)
		}
		before[n] = d.Loaded.Config
	}
	began := time.Now()
	for _, n := range append(append([]*world.Node{}, s.World.Planes...), s.World.Etcds...) {
		n.Kill()
	}
	s.cfg.Logf("all control planes and etcd members are gone")
	var ready []time.Duration
	for i, n := range s.World.Agents {
		wait(ctx, time.Until(began.Add(length*time.Duration(i+1)/time.Duration(len(s.World.Agents)+1))))
		took, err := s.restartAlone(ctx, n, before[n], i%2 == 0)
		if err != nil {
			return Minimum{}, err
		}
		ready = append(ready, took)
	}
	wait(ctx, time.Until(began.Add(length)))
	if err := s.comeBack(ctx); err != nil {
		return Minimum{}, err
	}
	s.figure("outage", time.Since(began).Round(time.Second).String())
	t := report.NewTimes(ready)
	s.figure("agentd restarted alone to ready", fmt.Sprintf("%d, p50 %s, max %s", t.N, t.P50.Round(time.Millisecond), t.Max.Round(time.Millisecond)))
	return Minimum{Requests: 40 * int(length.Seconds()) * 8 / 10, Updates: len(s.World.Fleet())}, nil
}

// restartAlone ends an agentd and starts it while nobody else of the control plane lives. It must serve what it did.
func (s *Stage) restartAlone(ctx context.Context, n *world.Node, config string, kill bool) (time.Duration, error) {
	end := s.excuses.Begin([]*world.Node{n}, time.Now())
	defer end()
	if kill {
		n.Kill()
	} else if err := n.Stop(30 * time.Second); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := n.Up(ctx, 30*time.Second); err != nil {
		s.Findings.Violate("P7", "%s isn't ready without a control plane: %v", n.Name, err)
		return time.Since(began), nil
	}
	took := time.Since(began)
	if took > restartLimit {
		s.Findings.Violate("P7", "%s was ready after %s without a control plane, want %s", n.Name, took, restartLimit)
	}
	a := harness.Agent{Agent: n.Agent, Addr: n.Addr}
	ans, err := a.Chat(ctx, "", "req alone-"+n.Name)
	if err != nil || ans.Config != config {
		s.Findings.Violate("P7", "%s answers on config %q without a control plane, had %q: %v", n.Name, ans.Config, config, err)
	}
	s.cfg.Logf("%s was restarted alone, ready after %s", n.Name, took.Round(time.Millisecond))
	return took, nil
}

// comeBack starts the store and the control planes, waits until every instance is connected, and holds them to having been sent nothing.
func (s *Stage) comeBack(ctx context.Context) error {
	for _, n := range append(append([]*world.Node{}, s.World.Etcds...), s.World.Planes...) {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, n := range append(append([]*world.Node{}, s.World.Etcds...), s.World.Planes...) {
		if err := n.WaitReady(ctx, time.Minute); err != nil {
			return err
		}
	}
	back := time.Now()
	err := harness.Poll(ctx, returnLimit, func(ctx context.Context) error {
		for _, n := range s.World.Agents {
			d, err := s.Fleet.Look(ctx, n)
			if err != nil {
				return err
			}
			if !d.Client.Connected || d.Client.State != "live" {
				return fmt.Errorf("%s is not live: connected %t, %s, %s", n.Name, d.Client.Connected, d.Client.State, d.Client.Reason)
			}
		}
		return nil
	})
	if err != nil {
		s.Findings.Violate("P3", "after the outage: %v", err)
	}
	s.figure("control planes back to every instance live", time.Since(back).Round(time.Millisecond).String())
	var content, current float64
	for _, n := range s.World.Planes {
		cp := harness.ControlPlane{People: n.Addr}
		b, berr := cp.Metric(ctx, "agentry_push_content_bytes_total")
		c, cerr := cp.Metric(ctx, "agentry_push_currents_total")
		if berr != nil || cerr != nil {
			return fmt.Errorf("%s: %w %w", n.Name, berr, cerr)
		}
		content, current = content+b, current+c
	}
	s.figure("content bytes sent on return", int64(content))
	s.figure("instances told that they are current", int64(current))
	if content != 0 || int(current) < len(s.World.Agents) {
		s.Findings.Violate("P7", "on return %d bytes of content were sent and %d instances told that they are current, want 0 and %d", int64(content), int64(current), len(s.World.Agents))
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
