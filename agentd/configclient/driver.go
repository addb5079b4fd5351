package configclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

// heldBound is how many received configs are kept to resolve later ones from.
const heldBound = 8

// driver is the one goroutine that owns an instance's state towards the control plane. Links, attempts and timers send to
// it; it never waits for any of them.
type driver struct {
	*Client
	log     *slog.Logger
	events  chan event
	results chan result
	wg      sync.WaitGroup

	// The stream.
	rota      *rota
	link      *link
	links     uint64
	failures  int // in a row, without a confirmed snapshot
	reconnect *time.Timer
	welcome   *time.Timer
	beat      *time.Timer
	holding   bool // Hello waits for the start from last good
	hold      *time.Timer
	missed    manifest.Hash // the hash whose resources were missing, so the stream was begun anew

	// What runs, and what should.
	running  *Update
	verdict  Verdict // of what runs
	state    phase.ConfigState
	desired  manifest.Token
	rejected *Verdict      // of the desired one
	reason   string        // why there is nothing (newer) to run
	disk     string        // why there was nothing on disk to start from
	local    []phase.Fault // of that, what counts as a fault of this instance
	away     string        // why there is no stream
	job      *job          // the desired one while it isn't settled
	inFlight *job          // the attempt that runs, perhaps of an older job
	next     func()        // what to do when that attempt has ended
	received *time.Timer
	retry    *time.Timer
	held     []Update        // newest last
	skip     map[uint64]bool // generations that were refused at this start
}

func newDriver(c *Client) *driver {
	return &driver{
		Client: c, log: c.cfg.Log, rota: newRota(c.cfg.Addresses), events: make(chan event), results: make(chan result, 1),
		reconnect: stopped(), welcome: stopped(), beat: stopped(), hold: stopped(), received: stopped(), retry: stopped(),
		skip: map[uint64]bool{},
	}
}

// stopped makes a timer that doesn't run.
func stopped() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func (d *driver) run(ctx context.Context) {
	defer d.wg.Wait()
	for _, n := range d.cfg.State.notes {
		d.log.LogAttrs(ctx, slog.LevelWarn, "state is not readable", slog.String("reason", n))
	}
	d.cfg.Applier.SetDenied(d.cfg.State.recall().Overlay.Denied)
	d.startFromDisk(ctx)
	d.connect(ctx)
	for ctx.Err() == nil {
		health := d.cfg.Applier.Health()
		if d.inFlight != nil {
			health = nil // it may be of the set that is being swapped in, whose verdict must come first
		}
		select {
		case <-ctx.Done():
		case e := <-d.events:
			d.onEvent(ctx, e)
		case r := <-d.results:
			d.onResult(ctx, r)
		case v := <-health:
			d.onHealth(ctx, v)
		case <-d.reconnect.C:
			d.connect(ctx)
		case <-d.welcome.C:
			d.endLink(ctx, "no welcome in time")
		case <-d.hold.C:
			d.releaseHello(ctx)
		case <-d.received.C:
			d.onSlow(ctx)
		case <-d.retry.C:
			d.attempt(ctx)
		case <-d.beat.C:
			d.sendBeat(ctx)
		}
		d.publish()
	}
	d.leave(context.WithoutCancel(ctx))
}

// leave ends the attempt and the stream cleanly, and waits for both.
func (d *driver) leave(ctx context.Context) {
	if j := d.inFlight; j != nil {
		j.cancel()
		if r := <-d.results; r.job.lastGood {
			d.note(ctx, "clear boot attempt", d.cfg.State.booted(r.job.sequence))
		}
		d.inFlight = nil
	}
	if d.link == nil {
		return
	}
	if !d.link.left {
		d.link.left = true
		close(d.link.out)
	}
	limit := time.NewTimer(d.pace.leave)
	defer limit.Stop()
	for {
		select {
		case e := <-d.events:
			if e.err != nil {
				return
			}
		case <-limit.C:
			d.link.cancel()
		}
	}
}

// connect opens a stream to the next address.
func (d *driver) connect(ctx context.Context) {
	address := d.rota.take()
	d.links++
	// The stream outlives ctx by a clean leave; leave cancels it.
	lctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d.link = &link{id: d.links, address: address, out: make(chan *pushv1.StreamRequest, outBound), cancel: cancel}
	d.welcome.Reset(d.pace.welcome)
	l := d.link
	d.wg.Go(func() {
		defer cancel()
		l.run(lctx, d.cfg.Dial, d.events)
	})
}

// endLink gives the stream up; its end arrives as an event.
func (d *driver) endLink(ctx context.Context, why string) {
	if d.link == nil {
		return
	}
	if d.link.ended == "" {
		d.link.ended = why
	}
	d.log.LogAttrs(ctx, slog.LevelDebug, "stream given up", slog.String("address", d.link.address), slog.String("reason", why))
	d.link.cancel()
}

func (d *driver) onEvent(ctx context.Context, e event) {
	if e.link != d.link {
		return
	}
	switch {
	case e.err != nil:
		d.onClosed(ctx, e.err)
	case e.opened:
		e.link.opened = true
		d.hello(ctx)
	default:
		d.onMessage(ctx, e.msg)
	}
}

func (d *driver) onClosed(ctx context.Context, err error) {
	l := d.link
	d.link = nil
	d.welcome.Stop()
	d.beat.Stop()
	if l.confirmed {
		d.failures = 0
	}
	why := l.ended
	if why == "" {
		why = err.Error()
		if errors.Is(err, io.EOF) {
			why = "closed by the control plane"
		}
	}
	wait := max(l.retryAfter, backoff(d.failures, d.pace.connectMin, d.pace.connectMax))
	d.failures++
	d.away = "control plane " + l.address + ": " + why
	level := slog.LevelWarn
	if d.failures > 3 {
		level = slog.LevelDebug
	}
	d.log.LogAttrs(ctx, level, "stream ended", slog.String("address", l.address), slog.String("reason", why), slog.Duration("retry_in", wait))
	d.reconnect.Reset(wait)
}

// hello sends the first message, once the start from last good has had its chance.
func (d *driver) hello(ctx context.Context) {
	if d.link == nil || !d.link.opened || d.link.greeted || d.holding {
		return
	}
	d.link.greeted = true
	st, m := d.cfg.State, d.cfg.State.recall()
	p, faults := d.shown()
	h := &pushv1.Hello{
		Namespace: d.cfg.Namespace, Agent: d.cfg.Agent, Instance: st.instance, AgentdVersion: d.cfg.Version,
		Capabilities: d.cfg.Capabilities, Labels: d.cfg.Labels, Endpoints: d.cfg.Endpoints,
		Phase: phaseToWire(p), Faults: faultsToWire(faults), ConfigState: stateToWire(d.state),
		Refusals: refusalsToWire(m.Refusals), Held: linesToWire(d.heldLines()),
	}
	if d.running != nil {
		h.Running = tokenToWire(d.running.Token)
	}
	if m.Fence.ClusterID != "" {
		h.Fence = &pushv1.Fence{ClusterId: m.Fence.ClusterID, Epoch: m.Fence.Epoch, Generation: m.Fence.Generation}
	}
	d.send(ctx, &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Hello{Hello: h}})
}

func (d *driver) releaseHello(ctx context.Context) {
	if !d.holding {
		return
	}
	d.holding = false
	d.hold.Stop()
	d.hello(ctx)
}

// send queues a message; a full queue ends the stream: the control plane doesn't read.
func (d *driver) send(ctx context.Context, m *pushv1.StreamRequest) {
	if d.link == nil || d.link.left {
		return
	}
	select {
	case d.link.out <- m:
	default:
		d.endLink(ctx, "the control plane does not read")
	}
}

func (d *driver) sendBeat(ctx context.Context) {
	d.beat.Reset(jittered(d.pace.beat))
	b := &pushv1.Beat{ConfigState: stateToWire(d.state)}
	if d.running != nil {
		b.Running = tokenToWire(d.running.Token)
	}
	if d.cfg.Beat != nil && d.link != nil {
		d.cfg.Beat(!d.link.beaten).fill(b)
		d.link.beaten = true
	}
	d.send(ctx, &pushv1.StreamRequest{Message: &pushv1.StreamRequest_Beat{Beat: b}})
}

// heldLines lists what later configs can be resolved from; what runs stands last.
func (d *driver) heldLines() []manifest.Line {
	seen := map[string]bool{}
	var out []manifest.Line
	all := slices.Clone(d.held)
	if d.running != nil {
		all = append(all, *d.running)
	}
	for _, u := range slices.Backward(all) {
		for _, l := range u.Lines {
			if text := l.Text(); l.Kind != manifest.KindCredential && !seen[text] {
				seen[text] = true
				out = append(out, l)
			}
		}
	}
	slices.Reverse(out)
	return out
}

// keep keeps a received config for later ones; the oldest goes.
func (d *driver) keep(u Update) {
	d.held = slices.DeleteFunc(d.held, func(o Update) bool { return o.Token.Hash == u.Token.Hash })
	d.held = append(d.held, u)
	d.held = slices.Delete(d.held, 0, max(0, len(d.held)-heldBound))
}

// shown gives the instance's phase and faults towards what it should run.
func (d *driver) shown() (phase.Phase, []phase.Fault) {
	switch {
	case d.job != nil && len(d.job.faults) > 0:
		return phase.Received, d.job.faults
	case d.job != nil && d.job.slow:
		return phase.Received, nil
	case d.rejected != nil:
		return phase.Rejected, d.rejected.Faults
	case d.running != nil:
		return d.verdict.Phase, d.verdict.Faults
	default:
		return phase.Pending, d.local
	}
}

// publish makes the state readable from outside.
func (d *driver) publish() {
	p, faults := d.shown()
	st := Status{Phase: p, Faults: faults, ConfigState: d.state, Desired: d.desired, Reason: d.why()}
	if d.link != nil {
		st.Connected, st.Address = d.link.welcomed, d.link.address
	}
	if d.running != nil {
		st.Running, st.Revision = d.running.Token, d.running.Revision
	}
	d.mu.Lock()
	d.status = st
	d.mu.Unlock()
}

// why puts every reason for not running the newest config in one line.
func (d *driver) why() string {
	parts := []string{d.disk, d.reason, d.away}
	if d.running != nil {
		parts = parts[1:]
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}

// note logs a local fault that nothing else can be done about.
func (d *driver) note(ctx context.Context, what string, err error) {
	if err != nil {
		d.log.LogAttrs(ctx, slog.LevelWarn, "state directory", slog.String("step", what), slog.Any("error", err))
	}
}
