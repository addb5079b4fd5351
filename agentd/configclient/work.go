package configclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// origin is the message that an answer belongs to. The zero origin is none: what is said is unasked.
type origin struct {
	link  uint64
	nonce uint64
}

// job is one config on its way to be live: attempts until a verdict stands or something newer comes.
type job struct {
	update   Update
	from     origin
	cluster  string
	lastGood bool
	sequence uint64 // of the generation it came from

	cancel   context.CancelFunc
	started  time.Time
	attempts int
	slow     bool          // RECEIVED was reported for taking long
	faults   []phase.Fault // of the last attempt, while it is retried
}

// result is the end of one attempt.
type result struct {
	job     *job
	verdict Verdict
}

// startFromDisk begins with last good, if one can be used. Hello waits for it a little, so that the control plane hears what
// runs instead of sending it again.
func (d *driver) startFromDisk(ctx context.Context) {
	good, crashed, faults := d.cfg.State.boot(d.cfg.Version, d.skip)
	for _, f := range faults {
		d.log.LogAttrs(ctx, slog.LevelWarn, "last good passed over", slog.Any("error", f))
		d.disk = f.Error()
		if errors.Is(f, errStateKey) {
			d.local = []phase.Fault{{Resource: manifest.KindAgent + "/" + d.cfg.Agent, Code: phase.StateKey, Severity: phase.Error, Message: f.Error()}}
		}
	}
	for _, g := range crashed {
		d.keep(g.update)
		d.note(ctx, "remember refusal", d.cfg.State.refuse(Refusal{Token: g.update.Token, Version: d.cfg.Version, Faults: []phase.Fault{{
			Resource: manifest.KindAgent + "/" + d.cfg.Agent, Code: phase.BootCrash, Severity: phase.Error,
			Message: fmt.Sprintf("%d starts from this config died before they were ready", bootLimit),
		}}}))
	}
	for _, g := range d.cfg.State.generations() {
		if len(g.update.Lines) > 0 {
			d.keep(g.update)
		}
	}
	if good == nil {
		d.releaseHello(ctx)
		return
	}
	d.learn(good.update)
	d.holding = true
	d.hold.Reset(d.pace.hold)
	d.desired = good.update.Token
	d.begin(ctx, &job{update: good.update, cluster: good.cluster, lastGood: true, sequence: good.sequence})
}

// settle does then once no attempt runs: at once, or after ending the one that does. The newest call wins.
func (d *driver) settle(then func()) {
	d.dropJob()
	if d.inFlight == nil {
		then()
		return
	}
	d.inFlight.cancel()
	d.next = then
}

// dropJob forgets the desired config's work, without a verdict.
func (d *driver) dropJob() {
	d.job = nil
	d.received.Stop()
	d.retry.Stop()
}

// begin makes j the work to do and starts its first attempt. No attempt may be running.
func (d *driver) begin(ctx context.Context, j *job) {
	d.job, d.rejected = j, nil
	j.started = time.Now()
	j.update.Commit = d.commit(j)
	if !j.lastGood {
		d.received.Reset(d.pace.received)
	}
	d.attempt(ctx)
}

// attempt applies the job once, on a goroutine of its own; the answer comes back as a result.
func (d *driver) attempt(ctx context.Context) {
	j := d.job
	if j == nil || d.inFlight != nil {
		return
	}
	d.retry.Stop()
	j.attempts++
	actx, cancel := context.WithTimeout(ctx, d.cfg.ApplyDeadline)
	j.cancel = cancel
	d.inFlight = j
	d.wg.Go(func() {
		defer cancel()
		d.results <- result{job: j, verdict: d.cfg.Applier.Apply(actx, j.update)}
	})
}

// commit is the step before the swap: the fence, then last good; at a start from that, its boot attempt is cleared.
func (d *driver) commit(j *job) func(context.Context) error {
	return func(ctx context.Context) error {
		if j.lastGood { // ready from here on: a kill right after it is no death on the way
			d.note(ctx, "clear boot attempt", d.cfg.State.booted(j.sequence))
			return nil
		}
		st, t := d.cfg.State, j.update.Token
		// gofail: var mutateNoFenceAtCommit struct{}
		// return st.saveGood(j.cluster, j.update)

		if f := st.recall().Fence; f.ClusterID == j.cluster && f.Below(t) {
			return ErrFenced
		}
		err := st.saveGood(j.cluster, j.update)
		st.raiseUnsaved(j.cluster, t)
		return err
	}
}

func (d *driver) onResult(ctx context.Context, r result) {
	j, v := r.job, r.verdict
	d.inFlight = nil
	// gofail: var afterSwapBeforeReport struct{}
	// go panic("failpoint afterSwapBeforeReport")
	// select {}

	d.clean(v.Faults)
	if v.Phase.Serving() {
		d.live(j, v)
	}
	if j.lastGood && v.Phase != phase.Received {
		d.note(ctx, "clear boot attempt", d.cfg.State.booted(j.sequence))
	}
	if d.job == j {
		d.judge(ctx, j, v)
	}
	d.releaseHello(ctx)
	if d.next != nil && d.inFlight == nil {
		next := d.next
		d.next = nil
		next()
	}
}

// live notes that j's config runs now, whatever was asked since.
func (d *driver) live(j *job, v Verdict) {
	u := j.update
	d.running, d.verdict = &u, v
	d.state = phase.Live
	if j.lastGood {
		d.state = phase.LastGood
	}
	d.keep(u)
}

// judge deals with the verdict of the desired config.
func (d *driver) judge(ctx context.Context, j *job, v Verdict) {
	d.received.Stop()
	v.Took = time.Since(j.started)
	level := slog.LevelInfo
	if v.Phase != phase.Applied {
		level = slog.LevelWarn
	}
	switch v.Phase {
	case phase.Applied, phase.Degraded:
		d.dropJob()
		if !j.lastGood {
			d.reason = ""
		}
		d.confirm(j.from)
	case phase.Received:
		d.retryLater(ctx, j, v)
		return
	case phase.Fenced:
		d.dropJob()
	default:
		v.Phase = phase.Rejected
		d.dropJob()
		d.rejected = &v
		d.reason = "refused: " + summary(v.Faults)
		d.note(ctx, "remember refusal", d.cfg.State.refuse(Refusal{Token: j.update.Token, Version: d.cfg.Version, Faults: v.Faults}))
		d.confirm(j.from)
	}
	d.log.LogAttrs(ctx, level, "config settled", slog.String("config", j.update.Config()), slog.String("phase", string(v.Phase)),
		slog.Duration("took", v.Took), slog.Bool("last_good", j.lastGood), slog.String("faults", summary(v.Faults)))
	d.answer(ctx, j.from, v, j.update.Token)
	if j.lastGood && v.Phase == phase.Rejected {
		d.skip[j.sequence] = true
		d.startFromDisk(ctx)
	}
}

// retryLater tries again from the same bytes; the control plane hears of it when what is wrong is news.
func (d *driver) retryLater(ctx context.Context, j *job, v Verdict) {
	news := j.attempts == 1 || !sameFaults(j.faults, v.Faults)
	j.faults = v.Faults
	if len(j.faults) == 0 {
		j.faults = []phase.Fault{{
			Resource: manifest.KindAgent + "/" + d.cfg.Agent, Code: phase.Timeout, Message: "not assembled within the apply deadline",
			Severity: phase.Error, Retryable: true,
		}}
	}
	d.reason = "trying again: " + summary(j.faults)
	wait := spread(j.attempts-1, d.pace.retryMin, d.pace.retryMax)
	d.retry.Reset(wait)
	level := slog.LevelDebug
	if news {
		level = slog.LevelWarn
		d.answer(ctx, j.from, Verdict{Phase: phase.Received, Faults: j.faults, Took: v.Took}, j.update.Token)
	}
	d.log.LogAttrs(ctx, level, "config tried again", slog.String("config", j.update.Config()), slog.Int("attempt", j.attempts),
		slog.Duration("retry_in", wait), slog.String("faults", summary(j.faults)))
}

// onSlow reports RECEIVED for an attempt that takes long.
func (d *driver) onSlow(ctx context.Context) {
	j := d.job
	if j == nil || len(j.faults) > 0 {
		return
	}
	j.slow = true
	d.answer(ctx, j.from, Verdict{Phase: phase.Received, Took: time.Since(j.started)}, j.update.Token)
}

// onHealth takes a change in the running set's health.
func (d *driver) onHealth(ctx context.Context, v Verdict) {
	if d.running == nil || (v.Phase == d.verdict.Phase && sameFaults(v.Faults, d.verdict.Faults)) {
		return
	}
	d.clean(v.Faults)
	d.verdict = v
	d.log.LogAttrs(ctx, slog.LevelInfo, "health changed", slog.String("phase", string(v.Phase)), slog.String("faults", summary(v.Faults)))
	if d.job == nil && d.rejected == nil {
		d.answer(ctx, origin{}, v, d.running.Token)
	}
}

// learn makes a config's secrets known to the redactor.
func (d *driver) learn(u Update) {
	for _, c := range u.Credentials {
		d.cfg.Redactor.Add(c.Value)
	}
}

// clean redacts faults in place before they are shown or sent: errors of a transport may quote a URL.
func (d *driver) clean(faults []phase.Fault) {
	for i := range faults {
		faults[i].Message = d.cfg.Redactor.Redact(faults[i].Message)
	}
}
