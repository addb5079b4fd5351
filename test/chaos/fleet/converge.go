package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/test/chaos/world"
)

// Converged waits until every instance runs what the store wants, by what the instances say themselves, and answers how long that took
// from a moment on. Nobody may change configs meanwhile.
func (w *Watch) Converged(ctx context.Context, doors []*world.Door, since time.Time, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithDeadline(ctx, since.Add(limit))
	defer cancel()
	var last error
	for {
		if last = w.onDesired(ctx, doors); last == nil {
			return time.Since(since), nil
		}
		select {
		case <-ctx.Done():
			return time.Since(since), fmt.Errorf("not within %s: %w", limit, last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (w *Watch) onDesired(ctx context.Context, doors []*world.Door) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	var all []error
	add := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, err)
	}
	for _, a := range w.World.Fleet() {
		st, err := Desired(ctx, doors, a.Name)
		if err != nil {
			return err
		}
		for _, n := range w.World.Instances(a.Name) {
			wg.Go(func() {
				d, err := w.Look(ctx, n)
				if err != nil {
					add(err)
					return
				}
				if d.Loaded == nil || d.Loaded.Config != st.GetConfig() {
					add(fmt.Errorf("%s runs %s, %s wants %s (%s; %s)", n.Name, config(d), a.Name, st.GetConfig(), st.GetCondition(), d.Client.Reason))
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(all...)
}

func config(d Dump) string {
	if d.Loaded == nil {
		return "nothing"
	}
	return d.Loaded.Config
}

// Desired asks any replica that answers what an agent is to run now.
func Desired(ctx context.Context, doors []*world.Door, agent string) (*releasev1.AgentStatus, error) {
	var all []error
	for _, d := range doors {
		one, cancel := context.WithTimeout(ctx, 3*time.Second)
		resp, err := d.Status.GetStatus(world.Linearizable(one), connect.NewRequest(&releasev1.GetStatusRequest{Agent: agent}))
		cancel()
		if err == nil {
			return resp.Msg.GetStatus(), nil
		}
		all = append(all, fmt.Errorf("%s: %w", d.Node.Name, err))
	}
	return nil, errors.Join(all...)
}

// Settled waits until every replica shows every agent settled: no release open, every instance there and on what it should run.
func (w *Watch) Settled(ctx context.Context, doors []*world.Door, since time.Time, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithDeadline(ctx, since.Add(limit))
	defer cancel()
	var last error
	for {
		if last = w.settled(ctx, doors); last == nil {
			return time.Since(since), nil
		}
		select {
		case <-ctx.Done():
			return time.Since(since), fmt.Errorf("not within %s: %w", limit, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (w *Watch) settled(ctx context.Context, doors []*world.Door) error {
	var all []error
	for _, d := range doors {
		for _, a := range w.World.Fleet() {
			one, cancel := context.WithTimeout(ctx, 3*time.Second)
			resp, err := d.Status.GetStatus(one, connect.NewRequest(&releasev1.GetStatusRequest{Agent: a.Name}))
			cancel()
			if err != nil {
				all = append(all, fmt.Errorf("%s: %w", d.Node.Name, err))
				break
			}
			if err := Terminal(resp.Msg.GetStatus(), a.Instances); err != nil {
				all = append(all, fmt.Errorf("%s: %w", d.Node.Name, err))
			}
		}
	}
	return errors.Join(all...)
}

// Terminal tells what keeps an agent from being settled: synced, with every instance on the desired config.
func Terminal(st *releasev1.AgentStatus, instances int) error {
	if c := st.GetCondition(); c != string(phase.CondSynced) {
		return fmt.Errorf("%s is %s", st.GetAgent(), c)
	}
	if !st.GetFleetComplete() {
		return fmt.Errorf("the fleet of %s isn't complete", st.GetAgent())
	}
	if st.GetDesiredRevision() != st.GetStableRevision() {
		return fmt.Errorf("%s: revision %d is open, %d is stable", st.GetAgent(), st.GetDesiredRevision(), st.GetStableRevision())
	}
	on := 0
	for _, i := range st.GetInstances() {
		if (i.GetPhase() == string(phase.Applied) || i.GetPhase() == string(phase.Degraded)) && i.GetRunning().GetConfig() == st.GetConfig() {
			on++
		}
	}
	if on != instances {
		return fmt.Errorf("%s: %d of %d instances are shown on %s", st.GetAgent(), on, instances, st.GetConfig())
	}
	return nil
}
