package stream

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/controlplane/fleet"
	"github.com/agentry/agentry/controlplane/snapshot"
	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
)

type serverStream = grpc.BidiStreamingServer[pushv1.StreamRequest, pushv1.StreamResponse]

// conn is one stream. The handler's goroutine has what there is to send sent, or a worker of the line does; one reader takes what the
// instance says. Both goroutines end with the stream.
// Memory is constant: a slot, a wake-up token, and a share in what publish rendered.
type conn struct {
	hub    *Hub
	stream serverStream
	key    fleet.Key // set when the hub enters it, then constant
	caller Caller
	joined time.Time

	hello chan *pushv1.Hello // the first message
	ready chan struct{}      // closed when the instance is registered: reports count from here
	wake  chan struct{}      // look again, at stops and aged too; one token
	stops chan end           // how to end; the first counts
	gone  chan struct{}      // closed when the handler returns

	puzzled bool                     // something unknown was logged; the reader's own
	refused func(manifest.Hash) bool // whether the instance remembers having refused a config

	lined   bool          // stands in the line; guarded by its mutex
	writing atomic.Bool   // write runs and isn't held up by a slow reader
	aged    atomic.Bool   // its age's timer has run out
	old     atomic.Bool   // it ends as soon as nothing is unanswered
	epoch   atomic.Uint64 // by which Welcome; 0: not welcomed yet

	sending sync.Mutex       // held by who composes and sends; guards the two that follow
	handed  map[string]int64 // the version of each credential that was handed out
	over    bool             // the handler says goodbye: no worker sends any more

	mu       sync.Mutex // guards what follows; not held while building or sending
	slot     slot
	offered  offered  // to the fleet table, last
	denied   []string // the overlay sent last
	deniedAt int64    // 0: none sent
	unread   int      // bytes sent that no answer confirmed
	since    int      // of those, sent after the last nonce
}

// end is how a stream ends.
type end struct {
	err    error
	goaway *pushv1.Goaway
	clean  bool // the instance closed it
}

// Stream serves one instance: semantics.md 4.
func (h *Hub) Stream(s serverStream) error {
	if err := h.open(); err != nil {
		return err
	}
	defer h.closed()
	if early := h.gate.admit(time.Now()); early != nil {
		h.counts.early.Add(1)
		return s.Send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: early}})
	}
	caller, err := h.cfg.Identify(s.Context())
	if err != nil {
		return err
	}
	c := &conn{
		hub: h, stream: s, caller: caller, joined: time.Now(),
		hello: make(chan *pushv1.Hello, 1), ready: make(chan struct{}), wake: make(chan struct{}, 1),
		stops: make(chan end, 1), gone: make(chan struct{}),
	}
	c.refused = func(hash manifest.Hash) bool { return h.cfg.Fleet.Refused(c.key, hash) }
	defer close(c.gone)
	h.begins(c)
	h.children.Add(1)
	go c.read()
	in, err := c.introduced()
	if err == nil {
		err = h.admits(s.Context(), c, in.ID)
	}
	if err != nil {
		h.begun(c)
		return err
	}
	return h.serve(c, in)
}

// introduced waits for a valid Hello.
func (c *conn) introduced() (introduction, error) {
	t := time.NewTimer(c.hub.cfg.HelloWait)
	defer t.Stop()
	select {
	case w := <-c.hello:
		return introduce(w)
	case e := <-c.stops:
		if e.err != nil {
			return introduction{}, e.err
		}
		return introduction{}, errs.New(errs.Invalid, "the stream ended before a hello")
	case <-t.C:
		return introduction{}, errs.New(errs.Timeout, "no hello within %s", c.hub.cfg.HelloWait)
	}
}

// serve registers the instance and sends until the stream ends.
func (h *Hub) serve(c *conn, in introduction) error {
	ctx := c.stream.Context()
	h.greet(ctx)
	in.Running.Revision = h.revision(in)
	// gofail: var mutateLostResume struct{}
	// in.Running, in.held = fleet.Ref{}, nil

	c.slot.running, c.slot.held = in.Running, in.held
	g := h.enter(c, in.Hello)
	h.begun(c)
	close(c.ready)
	how := fleet.Lost
	defer func() { h.leave(c, how) }()
	if g.Takeovers >= 3 {
		h.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "instance id is used by several processes: give each its own state directory or AGENTD_INSTANCE_ID",
			c.who(), slog.Int("takeovers_in_a_minute", g.Takeovers))
	}
	cluster := h.cfg.View.Cluster()
	if cluster.Restoring != nil { // it began since open; Renew may have passed before this stream was there
		return c.finish(end{goaway: goaway(restored, restoreSpread)})
	}
	c.epoch.Store(cluster.Epoch)
	if err := c.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Welcome{Welcome: &pushv1.Welcome{
		ClusterId: cluster.ID, ReplicaId: h.cfg.ReplicaID, Epoch: cluster.Epoch,
		ViewRevision: h.cfg.View.Revision(), FleetComplete: h.cfg.Fleet.Complete(time.Now()),
	}}}, 0); err != nil {
		return err
	}
	away, err := h.behind(ctx, in)
	switch {
	case err != nil:
		return err
	case away != nil:
		return c.finish(end{goaway: away})
	}
	c.poke()
	e := c.write()
	if e.clean {
		how = fleet.Stopped
	}
	return c.finish(e)
}

// write sends what there is to send whenever it is woken. It waits for one channel: of several each would cost as much, and the
// reader tells when the stream's context ends.
func (c *conn) write() end {
	c.hub.line.begins(c)
	defer c.ends()
	age := time.AfterFunc(c.left(c.hub.age()), func() {
		c.aged.Store(true)
		c.poke()
	})
	defer age.Stop()
	late := false
	for {
		<-c.wake
		select {
		case e := <-c.stops:
			return e
		default: // it goes on
		}
		if c.aged.Swap(false) {
			if c.ranOut() {
				return end{goaway: goaway("certificate", rebalanceSpread)}
			}
			late = c.old.Swap(true)
			age.Reset(c.left(ageGrace))
		}
		if err := c.apart(); err != nil {
			return end{err: err}
		}
		if c.old.Load() && c.retires(late) {
			return end{goaway: goaway("rebalance", rebalanceSpread)}
		}
	}
}

// finish says goodbye where there is a goodbye to say. A broken stream is the instance's business, not an error of ours.
func (c *conn) finish(e end) error {
	if e.goaway != nil {
		return c.send(&pushv1.StreamResponse{Message: &pushv1.StreamResponse_Goaway{Goaway: e.goaway}}, 0)
	}
	return e.err
}

// who names the instance in logs.
func (c *conn) who() slog.Attr {
	id := c.key.ID
	return slog.Group("instance", slog.String("namespace", id.Namespace), slog.String("agent", id.Agent), slog.String("id", id.Instance))
}

func (c *conn) poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

func (c *conn) stop(e end) {
	select {
	case c.stops <- e:
	default: // it ends already
	}
	c.poke()
}

// read takes what the instance says until the stream ends. It outlives the handler by a moment; Shutdown waits for it.
func (c *conn) read() {
	defer c.hub.children.Done()
	m, err := c.stream.Recv()
	if err == nil {
		hello := m.GetHello()
		if hello == nil {
			c.stop(end{err: errs.New(errs.Invalid, "the first message must be a hello")})
			return
		}
		c.hello <- hello
		select {
		case <-c.ready:
		case <-c.gone:
			return
		}
	}
	for err == nil {
		m, err = c.stream.Recv()
		if err == nil {
			err = c.heard(m)
		}
	}
	if errors.Is(err, io.EOF) {
		c.stop(end{clean: true})
		return
	}
	c.stop(end{err: fmt.Errorf("stream: %w", err)})
}

func (c *conn) heard(m *pushv1.StreamRequest) error {
	switch m := m.GetMessage().(type) {
	case *pushv1.StreamRequest_Report:
		return c.reported(m.Report)
	case *pushv1.StreamRequest_Beat:
		return c.beat(m.Beat)
	case nil:
		c.odd("a kind of message that this release doesn't know")
		return nil
	default:
		return errs.New(errs.Invalid, "a hello must come once, and nothing but reports and beats after it")
	}
}

// odd notes what a newer agentd says and this release can't read. It is passed over, never fatal: the instance says what
// counts in words that both know.
func (c *conn) odd(what string) {
	c.hub.counts.unknown.Add(1)
	if !c.puzzled {
		c.puzzled = true
		c.hub.cfg.Logger.LogAttrs(c.stream.Context(), slog.LevelWarn, "instance says what this control plane can't read; it is passed over",
			c.who(), slog.String("what", what))
	}
}

// reported takes a report, tells the fleet, and wakes the sender if there is something to send now.
func (c *conn) reported(w *pushv1.Report) error {
	running, err := tokenOf(w.GetRunning())
	if err != nil {
		return err
	}
	desired, err := tokenOf(w.GetDesired())
	if err != nil {
		return err
	}
	p := phaseOf(w.GetPhase())
	if p == "" && w.GetPhase() != pushv1.Phase_PHASE_UNSPECIFIED {
		c.odd("phase " + w.GetPhase().String())
		return nil
	}
	if p == "" {
		return errs.New(errs.Invalid, "a report without a phase")
	}
	faults := faultsOf(w.GetFaults())
	retryable := slices.ContainsFunc(faults, func(f phase.Fault) bool { return f.Retryable && f.Severity == phase.Error })
	c.mu.Lock()
	if c.slot.stale(w.GetNonce()) {
		c.mu.Unlock()
		return nil
	}
	if w.GetNonce() != 0 {
		c.unread = c.since
	}
	settled := c.slot.settles(w.GetNonce(), p)
	c.slot.answered(answer{nonce: w.GetNonce(), phase: p, running: running, retryable: retryable}, c.hub.known(c.key.ID))
	r := fleet.Report{
		Phase: p, Desired: desired, Running: c.slot.running, Faults: faults, Unasked: w.GetNonce() == 0, Proven: c.slot.last.proven,
	}
	c.mu.Unlock()
	if settled && c.hub.cfg.Answered != nil {
		c.hub.cfg.Answered(Answer{Token: desired, Phase: p, Faults: faults, Joined: c.joined})
	}
	// gofail: var betweenAckAndRecord struct{}
	// go panic("failpoint betweenAckAndRecord")
	// select {}

	now := time.Now()
	c.hub.cfg.Fleet.Report(c.key, r, now)
	c.look(now)
	c.hub.line.answered()
	return nil
}

func (c *conn) beat(w *pushv1.Beat) error {
	running, err := tokenOf(w.GetRunning())
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.slot.runs(running, c.hub.known(c.key.ID))
	adrift := c.slot.adrift()
	now := c.slot.running
	c.mu.Unlock()
	if adrift {
		c.hub.counts.adrift.Add(1)
		c.hub.cfg.Fleet.Drifted(c.key)
		c.hub.cfg.Logger.LogAttrs(c.stream.Context(), slog.LevelWarn, "instance runs something else than it acknowledged; its config is offered again",
			c.who(), slog.String("running", now.Config()))
	}
	at := time.Now()
	c.hub.cfg.Fleet.Beat(c.key, now, stateOf(w.GetConfigState()), at)
	c.hub.cfg.Fleet.Used(c.key, w.GetInFlight(), usageOf(w.GetUsage()))
	if told := serversOf(w.GetDependencies()); len(told) > 0 {
		c.hub.cfg.Fleet.Servers(c.key, told)
	}
	c.look(at)
	return nil
}

// revision finds what an instance runs, first in what it should run, which is free.
func (h *Hub) revision(in introduction) int64 {
	hash := in.Running.Token.Hash
	if hash.IsZero() {
		return 0
	}
	never := func(manifest.Hash) bool { return false }
	if r, err := h.cfg.Targets.Target(in.ID, -1, never); err == nil && r.Snapshot.Token.Hash == hash {
		return r.Snapshot.Revision
	}
	return h.known(in.ID)(hash)
}

// known finds the revision of a config that an instance runs; -1: one we don't know.
func (h *Hub) known(id snapshot.InstanceID) func(manifest.Hash) int64 {
	return func(hash manifest.Hash) int64 {
		if hash.IsZero() {
			return 0
		}
		for _, a := range h.cfg.View.AppliedConfigs(id.Namespace, id.Agent) {
			if a.Hash == hash {
				return a.Revision
			}
		}
		return -1
	}
}

// drop ends the retry, if there is one.
func (c *conn) drop() bool {
	c.mu.Lock()
	retrying, last := c.slot.retrying, c.slot.last
	c.slot.dropping = retrying
	c.mu.Unlock()
	if retrying {
		c.hub.cfg.Fleet.Refuse(c.key, last.token, last.proven, time.Now())
		c.poke()
	}
	return retrying
}
