package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentry/agentry/test/chaos/faults"
	"github.com/agentry/agentry/test/chaos/run"
	"github.com/agentry/agentry/test/chaos/world"
)

// kinds gives those of some faults that can be made here; the others are noted as left out.
func (o options) kinds(s *run.Stage, all []world.Fault) ([]world.Fault, error) {
	var out []world.Fault
	for name := range strings.SplitSeq(o.only, ",") {
		if o.only != "" && !slices.ContainsFunc(all, func(f world.Fault) bool { return f.Name() == name }) {
			return nil, fmt.Errorf("--only: no fault %q", name)
		}
	}
	for _, f := range all {
		if o.only != "" && !contains(o.only, f.Name()) {
			continue
		}
		if err := f.Needs(s.World); err != nil {
			s.LeaveOut(f, err)
			continue
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no fault can be made here")
	}
	return out, nil
}

// faultsForAWhile lets faults happen until the time is up.
func faultsForAWhile(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
	kinds, err := o.kinds(s, faults.All(o.kit))
	if err != nil {
		return run.Minimum{}, err
	}
	plan := run.NewPlan(kinds, o.seed)
	end := time.Now().Add(o.duration)
	for time.Now().Before(end) && ctx.Err() == nil {
		wait(ctx, plan.Wait(o.every))
		f, r := plan.Next()
		if err := s.Fault(ctx, f, r); err != nil {
			return run.Minimum{}, err
		}
	}
	minutes := int(o.duration / time.Minute)
	return run.Minimum{Checked: 1200 * minutes, Requests: 2400 * minutes, Updates: 20 * minutes, Faults: 2 * minutes, Kinds: min(len(kinds), 2*minutes)}, nil
}

// smoke lets each kind happen once, in the order of the list.
func smoke(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
	kinds, err := o.kinds(s, faults.Smoke(o.kit))
	if err != nil {
		return run.Minimum{}, err
	}
	plan := run.NewPlan(kinds, o.seed)
	for range kinds {
		wait(ctx, time.Second)
		f, r := plan.Next()
		if err := s.Fault(ctx, f, r); err != nil {
			return run.Minimum{}, err
		}
	}
	return run.Minimum{Checked: 40 * len(kinds), Requests: 100 * len(kinds), Updates: len(kinds), Faults: len(kinds), Kinds: len(kinds)}, nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// contains tells whether a name is in a list by comma.
func contains(list, name string) bool { return slices.Contains(strings.Split(list, ","), name) }
