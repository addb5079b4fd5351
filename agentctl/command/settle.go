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

// fateOfShared judges one status of an agent that the apply left as it is while things it may refer to changed: every live instance
// has to run what it should now.
func fateOfShared(s *releasev1.AgentStatus) fate {
	got := fateStable
	for _, i := range s.GetInstances() {
		same := i.GetDesired().GetHash() == i.GetRunning().GetHash()
		switch p := phase.Phase(i.GetPhase()); {
		case same || i.GetLagging() || p == phase.Offline || p == phase.Stale:
		case p == phase.Rejected:
			return fateRefused
		default:
			got = fateOpen
		}
	}
	return got
}

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
	moved := slices.ContainsFunc(doc.Results, func(r resultDoc) bool { return r.Kind != kindAgent && r.Action != "unchanged" })
	for _, r := range doc.Results {
		if r.Kind != kindAgent || r.Action == "refused" {
			continue
		}
		got, last, err := cl.fate(ctx, r, moved && r.Action == "unchanged")
		switch {
		case errors.Is(err, context.DeadlineExceeded) || connect.CodeOf(err) == connect.CodeDeadlineExceeded:
			return failf(exitTimeout, "agentctl status "+r.Name, "agent %q: revision %d is not settled after %s: it is %s", r.Name, r.Revision, timeout, first(last.Condition, "unknown"))
		case err != nil:
			return err
		case got == fateOpen:
			return failf(exitFailure, "", "agent %q: stopped waiting", r.Name)
		case got == fateStable && last.anyLive():
			c.note("agent/%s: revision %d is stable, config %s is served", r.Name, r.Revision, last.Config)
		case got == fateStable:
			c.note("agent/%s: revision %d is stable", r.Name, r.Revision)
		case got == fateSuperseded:
			code = exitNo
			c.note("agent/%s: revision %d was superseded by %d", r.Name, r.Revision, last.Revision.Desired)
		case last.LastRefusal == nil: // it says so before the refusal is recorded
			code = exitNo
			c.note("agent/%s: config %s was refused; see agentctl status %s", r.Name, last.Config, r.Name)
		default:
			code = exitNo
			c.note("agent/%s: revision %d was refused by %s", r.Name, r.Revision, dash(last.LastRefusal.Instance))
			last.printRefusal(c, c.env.Stderr)
		}
	}
	return answered(code)
}

// fate follows one agent until its revision is settled, with shared also what the instances run of others' versions.
func (cl *client) fate(ctx context.Context, r resultDoc, shared bool) (got fate, last statusDoc, err error) {
	own := *cl
	own.namespace = first(r.Namespace, cl.namespace)
	err = own.eachStatus(ctx, r.Name, func(s *releasev1.AgentStatus) (bool, error) {
		last = toStatus(s)
		if got = fateOf(last, r.Revision); shared && got == fateStable {
			got = fateOfShared(s)
		}
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
