package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"connectrpc.com/connect"
	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/test/harness"
	"github.com/agentry/agentry/test/harness/herd"
)

// stuck stops one instance in twenty while changes go out to all, and lets them go on.
func (s *scene) stuck(ctx context.Context) error {
	stopped := max(1, s.o.n/20)
	free, err := s.herd("free", s.o.n-stopped, s.agents()...)
	if err != nil {
		return err
	}
	stuck, err := s.herd("stuck", stopped, s.agents()...)
	if err != nil {
		return err
	}
	if _, _, err := s.pushes(ctx, scopeAll, free, warmups); err != nil {
		return err
	}
	_, all, err := s.pushes(ctx, scopeAll, free, s.o.rounds)
	if err != nil {
		return err
	}
	if _, err := stuck.Reset(); err != nil {
		return err
	}
	before, err := settled(ctx, s.process())
	if err != nil {
		return err
	}
	if err := stuck.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	_, others, err := s.pushes(ctx, scopeAll, free, 3*s.o.rounds)
	if err != nil {
		return err
	}
	after, err := settled(ctx, s.process())
	if err != nil {
		return err
	}
	sent, err := s.cp.Metric(ctx, "agentry_push_snapshots_total")
	if err != nil {
		return err
	}
	newest, err := free.State()
	if err != nil {
		return err
	}
	if err := stuck.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	went := herd.Now()
	at, err := stuck.Above(newest.Newest-1, settleTime)
	if err != nil {
		return err
	}
	again, err := s.cp.Metric(ctx, "agentry_push_snapshots_total")
	if err != nil {
		return err
	}
	s.tell("stopped instances", stopped)
	s.tell("changes while they were stopped", 3*s.o.rounds)
	s.tell("push p99 before, ms (median of rounds)", median(all))
	s.tell("push p99 of the others, ms (median of rounds)", median(others))
	s.tell("  ratio, at most 2", median(others)/median(all))
	s.tell("RSS growth, MB, below 50", (after-before)/1024)
	s.tell("snapshots sent after SIGCONT, one each", again-sent)
	s.tell("most snapshots that one received, with the one on the wire", at.Most)
	s.tell("all on the newest after SIGCONT, ms", ms(at.Last-went))
	if again-sent != float64(stopped) {
		return fmt.Errorf("%v snapshots for %d instances", again-sent, stopped)
	}
	return nil
}

// restart kills the control plane under all instances, with a release open whose other instance doesn't come back.
func (s *scene) restart(ctx context.Context) error {
	all, err := s.herd("many", s.o.n, s.agents()...)
	if err != nil {
		return err
	}
	back, err := s.herd("back", 1, soloAgent)
	if err != nil {
		return err
	}
	away, err := s.herd("away", 1, soloAgent)
	if err != nil {
		return err
	}
	if _, err := s.rests(ctx); err != nil {
		return err
	}
	if err := away.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	from, err := back.State()
	if err != nil {
		return err
	}
	files := harness.Files{}
	s.agent(files, soloAgent, soloAgent)
	files[soloAgent+"/model.json"] = `{"model": "another", "baseUrl": "http://127.0.0.1:9/v1"}`
	if _, err := s.api.Apply(ctx, files); err != nil {
		return err
	}
	if _, err := back.Above(from.Newest, settleTime); err != nil {
		return err
	}
	if _, err := all.Reset(); err != nil {
		return err
	}
	s.cp.Kill()
	killed := herd.Now()
	for {
		st, err := all.State()
		if err != nil {
			return err
		}
		if st.Confirmed == 0 {
			break
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	if err := s.cp.Restart(ctx); err != nil {
		return err
	}
	ready := herd.Now()
	early, err := s.settledEarly(ctx)
	if err != nil {
		return err
	}
	st, err := all.Confirmed(settleTime)
	if err != nil {
		return err
	}
	s.tell("control plane ready after the kill, ms", ms(ready-killed))
	s.tell("last instance confirmed after the kill, ms, at most 30000", ms(st.LastConfirmed-killed))
	s.tell("goodbyes for coming too early", st.Goodbyes)
	s.tell("content bytes", st.Bytes)
	s.tell("release settled before fleet_complete", early)
	if st.Bytes != 0 || early {
		return errors.New("content was sent or a release settled too early")
	}
	return nil
}

// settledEarly watches the open release until the fleet is complete.
func (s *scene) settledEarly(ctx context.Context) (bool, error) {
	for {
		r, err := s.api.Status.GetStatus(ctx, connect.NewRequest(&releasev1.GetStatusRequest{Namespace: "default", Agent: soloAgent}))
		if err != nil {
			return false, err
		}
		st := r.Msg.GetStatus()
		if st.GetFleetComplete() {
			return false, nil
		}
		if st.GetStableRevision() == st.GetDesiredRevision() {
			return true, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return false, err
		}
	}
}
