package configclient

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// answer reports a verdict on desired. An answer to a message of an earlier stream carries nonce 0.
func (d *driver) answer(ctx context.Context, to origin, v Verdict, desired manifest.Token) {
	if d.link == nil || !d.link.welcomed {
		return // the next Hello says it
	}
	r := &pushv1.Report{
		Phase: phaseToWire(v.Phase), Desired: tokenToWire(desired), Faults: faultsToWire(v.Faults), Took: durationToWire(v.Took),
	}
	if to.link == d.link.id {
		r.Nonce = to.nonce
	}
	if d.running != nil {
		r.Running = tokenToWire(d.running.Token)
	}
	d.send(ctx, &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Report{Report: r}})
}

// answerAsIs reports what the instance does now, towards what it should run.
func (d *driver) answerAsIs(ctx context.Context, to origin) {
	p, faults := d.shown()
	if p == phase.Pending {
		p = phase.Received // nothing runs, nothing is refused: it waits
	}
	desired := d.desired
	if p.Serving() && d.running != nil {
		desired = d.running.Token
	}
	d.answer(ctx, to, Verdict{Phase: p, Faults: faults}, desired)
}

// confirm notes that the stream brought something that was answered for good.
func (d *driver) confirm(from origin) {
	if d.link != nil && d.link.id == from.link {
		d.link.confirmed = true
	}
}

func (d *driver) onCommand(ctx context.Context, m *pushv1.Command) {
	from := d.here(m.GetNonce())
	switch m.GetKind() {
	case pushv1.CommandKind_COMMAND_KIND_DROP:
		d.drop(ctx, from)
	case pushv1.CommandKind_COMMAND_KIND_DRAIN:
		if d.cfg.Drain != nil {
			d.cfg.Drain()
		}
		d.answerAsIs(ctx, from)
	case pushv1.CommandKind_COMMAND_KIND_RELOAD:
		d.reload(ctx, from)
	case pushv1.CommandKind_COMMAND_KIND_RESEND_REPORT:
		d.answerAsIs(ctx, from)
	default:
		d.log.LogAttrs(ctx, slog.LevelWarn, "unknown command passed over", slog.Int("kind", int(m.GetKind())))
		d.answerAsIs(ctx, from)
	}
}

// drop ends a retry: the control plane's verdict fell, so the config counts as refused with the faults it was retried for.
func (d *driver) drop(ctx context.Context, from origin) {
	j := d.job
	if j == nil || j.lastGood {
		d.answerAsIs(ctx, from)
		return
	}
	d.settle(func() {
		if d.running != nil && d.running.Token.Hash == j.update.Token.Hash {
			d.answerAsIs(ctx, from) // it came up meanwhile
			return
		}
		d.note(ctx, "remember refusal", d.cfg.State.refuse(Refusal{Token: j.update.Token, Version: d.cfg.Version, Faults: j.faults}))
		d.refuse(ctx, from, j.update.Token, j.faults)
	})
}

// reload applies what runs once more, from the bytes held.
func (d *driver) reload(ctx context.Context, from origin) {
	if d.running == nil || d.job != nil {
		d.answerAsIs(ctx, from)
		return
	}
	u, cluster := *d.running, d.link.cluster
	d.settle(func() { d.begin(ctx, &job{update: u, from: from, cluster: cluster}) })
}

// fill writes a beat's extras to the wire.
func (b Beat) fill(w *pushv1.Beat) {
	w.InFlight = uint32(max(0, b.InFlight)) //nolint:gosec // far below 2^32
	for _, u := range b.Usage {
		w.Usage = append(w.Usage, &pushv1.Usage{
			Config: u.Config, Requests: u.Requests, Errors: u.Errors, LatencyBuckets: u.Latency,
			InputTokens: u.InputTokens, OutputTokens: u.OutputTokens,
		})
	}
	for _, dep := range b.Dependencies {
		wd := &pushv1.Dependency{Resource: dep.Resource, Healthy: dep.Healthy, Message: dep.Message}
		for _, t := range dep.Tools {
			wd.Tools = append(wd.Tools, &pushv1.Tool{Name: t.Name, Description: t.Description, DefinitionSha256: t.Definition[:]})
		}
		w.Dependencies = append(w.Dependencies, wd)
	}
}

func sameFaults(a, b []phase.Fault) bool { return slices.Equal(a, b) }

// summary puts faults in one line.
func summary(faults []phase.Fault) string {
	parts := make([]string, 0, len(faults))
	for _, f := range faults {
		where := f.Resource
		if f.Field != "" {
			where += " " + f.Field
		}
		parts = append(parts, fmt.Sprintf("%s: %s: %s", where, f.Code, f.Message))
	}
	return strings.Join(parts, "; ")
}
