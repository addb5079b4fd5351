package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"

	releasev1 "github.com/agentry/agentry/gen/agentry/release/v1"
	"github.com/agentry/agentry/internal/phase"
)

// fate is what became of a revision that was applied.
type fate int

const (
	fateOpen fate = iota
	fateStable
	fateRefused
	fateSuperseded
)

// fateOf judges one status of an agent after revision was applied. A status of before the write is open.
func fateOf(d statusDoc, revision int64) fate {
	switch {
	case d.refused(revision) || d.refusedUnproven(revision):
		return fateRefused
	case d.Condition == string(phase.CondDeleted), d.Revision.Desired > revision && d.Revision.Stable != revision:
		return fateSuperseded
	case d.Revision.Stable != revision:
		return fateOpen
	case d.Condition == string(phase.CondUnproven) && d.anyLive():
		return fateOpen // stable by name; an instance that is there has not yet answered
	case d.Condition == string(phase.CondUnproven) && !d.FleetComplete:
		return fateOpen // "no instance at all" is not concluded yet
	default:
		return fateStable
	}
}

// refusedUnproven reports a refusal of a revision that stays desired for want of another.
func (d statusDoc) refusedUnproven(revision int64) bool {
	r := d.LastRefusal
	return r != nil && r.Revision == revision && r.Action == "held"
}

func (d statusDoc) anyLive() bool {
	return slices.ContainsFunc(d.Instances, live)
}

// settle waits until every agent of an apply is stable at its revision (0), refused or superseded (1), or the time is over (7).
func (c *cli) settle(ctx context.Context, cl *client, doc applyDoc, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	code := exitOK
	for _, r := range doc.Results {
		if r.Kind != kindAgent || r.Action == "refused" {
			continue
		}
		got, last, err := cl.fate(ctx, r)
		switch {
		case errors.Is(err, context.DeadlineExceeded) || connect.CodeOf(err) == connect.CodeDeadlineExceeded:
			return failf(exitTimeout, "agentctl status "+r.Name, "agent %q: revision %d is not settled after %s: it is %s", r.Name, r.Revision, timeout, first(last.Condition, "unknown"))
		case err != nil:
			return err
		case got == fateOpen:
			return failf(exitFailure, "", "agent %q: stopped waiting", r.Name)
		case got == fateStable:
			c.note("agent/%s: revision %d is stable", r.Name, r.Revision)
		case got == fateSuperseded:
			code = exitNo
			c.note("agent/%s: revision %d was superseded by %d", r.Name, r.Revision, last.Revision.Desired)
		default:
			code = exitNo
			c.note("agent/%s: revision %d was refused by %s", r.Name, r.Revision, dash(last.LastRefusal.Instance))
			last.printRefusal(c, c.env.Stderr)
		}
	}
	return answered(code)
}

// fate follows one agent until its revision is settled.
func (cl *client) fate(ctx context.Context, r resultDoc) (got fate, last statusDoc, err error) {
	own := *cl
	own.namespace = first(r.Namespace, cl.namespace)
	err = own.eachStatus(ctx, r.Name, func(s *releasev1.AgentStatus) (bool, error) {
		last = toStatus(s)
		got = fateOf(last, r.Revision)
		return got != fateOpen, nil
	})
	if err == nil && got == fateOpen && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return got, last, fmt.Errorf("wait for agent %q: %w", r.Name, err)
	}
	return got, last, nil
}
