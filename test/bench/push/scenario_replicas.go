package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/herd"
)

// replicas is how many control planes, and how many etcd members, the scenario of that name has.
const replicas = 3

// runReplicas measures n instances over three control planes on three etcd members: connecting, a change to all, what each instance
// costs where it is connected and where it is only known of, and the loss of one replica.
func runReplicas(ctx context.Context, o options, dir string, out io.Writer) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	env, err := harness.New(o.bin, dir)
	if err != nil {
		return err
	}
	env.CA, env.CACert, env.CAKey = o.ca.ca, o.ca.cert, o.ca.key
	a := &agentry{env: env}
	defer a.close()
	etcd, err := env.StartEtcdCluster(ctx, replicas, harness.EtcdOptions{})
	if err != nil {
		return err
	}
	var planes []*harness.ControlPlane
	var targets []string
	for range replicas {
		cp, err := env.StartControlPlane(ctx, etcd.Flags()...)
		if err != nil {
			return err
		}
		planes, targets = append(planes, cp), append(targets, cp.Runtime)
	}
	a.cp = planes[0]
	if err := a.fill(ctx, o); err != nil {
		return err
	}
	s := &scene{agentry: a, o: o, out: out, results: map[string]any{"scenario": "replicas", "n": o.n, "agents": o.agents}}
	defer func() {
		for _, h := range s.herds {
			h.Close()
		}
	}()
	if err := s.over(ctx, planes, targets); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(s.results)
}

// over is the measurement.
func (s *scene) over(ctx context.Context, planes []*harness.ControlPlane, targets []string) error {
	empty, err := settledAll(ctx, planes)
	if err != nil {
		return err
	}
	began := herd.Now()
	h, err := herd.Start(herd.Config{Targets: targets, CACert: s.o.ca.cert, CAKey: s.o.ca.key, N: s.o.n, Agents: s.agents(), Prefix: "many"})
	if err != nil {
		return err
	}
	s.herds = append(s.herds, h)
	st, err := h.Confirmed(settleTime)
	if err != nil {
		return err
	}
	s.tell("all connected and confirmed, ms", ms(st.LastConfirmed-began))
	s.tell("  goodbyes for coming too early", st.Goodbyes)
	if err := s.known(ctx, planes, settleTime); err != nil {
		return err
	}
	s.tell("every replica knows every instance, ms", ms(herd.Now()-began))
	if err := s.changes(ctx, planes, h, "three replicas"); err != nil {
		return err
	}
	full, err := settledAll(ctx, planes)
	if err != nil {
		return err
	}
	if err := s.memory(ctx, planes, empty, full); err != nil {
		return err
	}
	if _, err := h.Reset(); err != nil {
		return err
	}
	streams, err := planes[2].Metric(ctx, "agentry_push_streams")
	if err != nil {
		return err
	}
	planes[2].Kill()
	lost := herd.Now()
	if err := pause(ctx, 100*time.Millisecond); err != nil { // the herd hears of it by its connections
		return err
	}
	if st, err = h.Confirmed(settleTime); err != nil {
		return err
	}
	s.tell("streams of the replica that was killed", streams)
	s.tell("  all confirmed again, ms", ms(st.LastConfirmed-lost))
	s.tell("  content bytes sent for it", st.Bytes)
	if st.Bytes != 0 {
		return errors.New("content was sent to instances that held it")
	}
	return s.changes(ctx, planes[:2], h, "two replicas")
}

// changes pushes changes to all and tells how long they took and what they cost.
func (s *scene) changes(ctx context.Context, planes []*harness.ControlPlane, h *herd.Herd, over string) error {
	if _, _, err := s.pushes(ctx, scopeAll, h, warmups); err != nil {
		return err
	}
	before, err := cpuAll(planes)
	if err != nil {
		return err
	}
	last, p99, err := s.pushes(ctx, scopeAll, h, s.o.rounds)
	if err != nil {
		return err
	}
	if err := quietAll(ctx, planes); err != nil {
		return err
	}
	after, err := cpuAll(planes)
	if err != nil {
		return err
	}
	s.tell(over+": a change to all, last APPLIED, ms (median)", median(last))
	s.tell(over+": p99 of the instances, ms (median)", median(p99))
	s.tell(over+": CPU of all replicas per instance and change, µs", float64((after-before).Microseconds())/float64(s.o.rounds*s.o.n))
	return nil
}

// memory splits what the instances cost into the share of where they are connected and that of where they are known.
func (s *scene) memory(ctx context.Context, planes []*harness.ControlPlane, empty, full []float64) error {
	grown := 0.0
	for i, cp := range planes {
		streams, err := cp.Metric(ctx, "agentry_push_streams")
		if err != nil {
			return err
		}
		s.tell(fmt.Sprintf("replica %d: streams", i+1), streams)
		s.tell(fmt.Sprintf("replica %d: RSS empty, MB", i+1), empty[i]/1024)
		s.tell(fmt.Sprintf("replica %d: RSS, MB", i+1), full[i]/1024)
		grown += full[i] - empty[i]
	}
	s.tell("RSS of all replicas per instance, KB", grown/float64(s.o.n))
	return nil
}

// known waits until every replica counts every instance in its fleet.
func (s *scene) known(ctx context.Context, planes []*harness.ControlPlane, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, cp := range planes {
		for {
			at, err := cp.Metric(ctx, "agentry_fleet_known")
			if err == nil && int(at) >= s.o.n {
				break
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return fmt.Errorf("a replica knows %v of %d instances: %w", at, s.o.n, err)
			}
		}
	}
	return nil
}

func settledAll(ctx context.Context, planes []*harness.ControlPlane) ([]float64, error) {
	var out []float64
	for _, cp := range planes {
		kb, err := settled(ctx, cp.PID())
		if err != nil {
			return nil, err
		}
		out = append(out, kb)
	}
	return out, nil
}

func quietAll(ctx context.Context, planes []*harness.ControlPlane) error {
	for _, cp := range planes {
		if err := quiet(ctx, cp.PID()); err != nil {
			return err
		}
	}
	return nil
}

func cpuAll(planes []*harness.ControlPlane) (sum time.Duration, err error) {
	for _, cp := range planes {
		d, err := cpuOf(cp.PID())
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}
