// Package a2adoor offers the agent by the A2A protocol 1.0: its card, JSON-RPC at /a2a, HTTP+JSON at /a2a/v1 and gRPC, all three over the same
// operations. Package task keeps what goes on; package run does the work. The app mounts the Door at Patterns and calls Run and Close;
// who calls is the front's to say.
package a2adoor

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	old "github.com/a2aproject/a2a-go/a2apb"
	pb "github.com/a2aproject/a2a-go/v2/a2apb/v1"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"

	"github.com/agentry/agentry/agentd/run"
	"github.com/agentry/agentry/agentd/task"
	"github.com/agentry/agentry/internal/egress"
	"github.com/agentry/agentry/internal/errs"
)

// The defaults of Config.
const (
	DefaultMaxBody    = 4 << 20
	DefaultMaxRunning = 4096
	DefaultMaxStreams = 8192
	DefaultKeepAlive  = 15 * time.Second
)

// How long things may take.
const (
	bodyTimeout  = 30 * time.Second // a request's body
	writeTimeout = 30 * time.Second // one write to a reader who is slow
	storeTimeout = 5 * time.Second  // a write into the store that the caller's leaving does not stop
	lookAgain    = 500 * time.Millisecond
	// holdTask is how long a task is not told of while the model may still answer by a lone message; startTask while it may still be refused.
	holdTask  = time.Second
	startTask = 100 * time.Millisecond
	// flushText gathers pieces of an answer that come faster.
	flushText = 20 * time.Millisecond
)

// Config is what the door needs. Runner and Store are required.
type Config struct {
	Runner *run.Runner
	Store  task.Store // the process's own: of configs that name no place for tasks (Runner.Tasks)
	// Base gives the address at which callers reach the door, such as "https://agents.example.com"; "" (or a nil Base): the one that the
	// request was sent to.
	Base func() string
	// Names reports whether a host that a request was sent to is this agent's, where Base says nothing; nil: this machine, by an address of its own or a name
	// that nobody can register. Cards are signed for no other: whoever asks chooses the Host, and would take home a signed card that leads to them.
	Names func(host string) bool
	// Guard makes the connections of push notifications; nil: one that reaches public addresses only.
	Guard      *egress.Guard
	Extensions []Extension // that the card names
	MaxBody    int64       // of a gRPC message; HTTP bodies are the front's to bound, and bounded by this without one
	MaxRunning int         // tasks that are worked on at a time
	MaxStreams int         // open streams
	KeepAlive  time.Duration
	Propagator propagation.TextMapPropagator // nil: W3C trace context
	Log        *slog.Logger                  // nil: none
	Now        func() time.Time              // nil: the wall clock; of the states' timestamps

	patience patience
}

// patience is how long the door goes on where the store of tasks is gone.
type patience struct {
	try   time.Duration // to write a piece of an answer
	end   time.Duration // to write a task's end
	loose time.Duration // to see that a task should be worked on and isn't: more than any step of its beginning or end takes
	sweep int           // how many tasks of this process are looked at at a time
}

// Extension is a protocol extension that the agent supports.
type Extension struct {
	URI         string
	Description string
	Required    bool // requests that don't name it are refused
}

// Door is an http.Handler for Patterns.
type Door struct {
	cfg  Config
	grpc *grpc.Server
	push *pusher

	mu      sync.Mutex // guards what follows
	running map[task.Ref]*execution
	waiting map[task.Ref]waits     // tasks that wait for an answer or for somebody's consent
	loose   map[task.Ref]time.Time // tasks that should be worked on, and aren't, with when that was seen first
	swept   round
	own     *place   // the process's
	current *place   // where the config keeps tasks
	places  []*place // all but own
	streams int
	closed  bool
	work    sync.WaitGroup // executions
	care    sync.WaitGroup // what hears of the others, for each place
	keys    keyCache

	closing chan struct{} // closed by Close
	ended   sync.Once
}

// New makes a Door.
func New(cfg Config) (*Door, error) {
	if cfg.Runner == nil || cfg.Store == nil {
		return nil, errs.New(errs.Invalid, "a2a door: no runner or no store")
	}
	cfg.MaxBody = orElse(cfg.MaxBody, DefaultMaxBody)
	cfg.MaxRunning = orElse(cfg.MaxRunning, DefaultMaxRunning)
	cfg.MaxStreams = orElse(cfg.MaxStreams, DefaultMaxStreams)
	cfg.KeepAlive = orElse(cfg.KeepAlive, DefaultKeepAlive)
	if cfg.Base == nil {
		cfg.Base = func() string { return "" }
	}
	if cfg.Names == nil {
		cfg.Names = inside
	}
	if cfg.Guard == nil {
		cfg.Guard = egress.New(egress.Config{})
	}
	if cfg.Propagator == nil {
		cfg.Propagator = propagation.TraceContext{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.patience == (patience{}) {
		cfg.patience = patience{try: 10 * time.Second, end: 30 * time.Second, loose: 15 * time.Second, sweep: 1000}
	}
	d := &Door{cfg: cfg, running: map[task.Ref]*execution{}, waiting: map[task.Ref]waits{}, loose: map[task.Ref]time.Time{}, closing: make(chan struct{})}
	d.own = &place{store: cfg.Store, stop: func() {}}
	d.current = d.own
	cfg.Runner.Follow(run.DoorA2A, d.follow)
	d.push = newPusher(cfg.Guard, cfg.Log)
	d.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(int(cfg.MaxBody)))
	pb.RegisterA2AServiceServer(d.grpc, &grpcDoor{door: d})
	old.RegisterA2AServiceServer(d.grpc, &grpcV03{door: d})
	return d, nil
}

func orElse[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Run looks after tasks until ctx ends: those that wait for somebody's decision, and those that other processes left behind. Neither delays
// the other.
func (d *Door) Run(ctx context.Context) error {
	var looks sync.WaitGroup
	looks.Go(func() { every(ctx, func(int) { d.lookAtWaiting(ctx) }) })
	every(ctx, func(n int) {
		d.inherit(ctx)
		if n%sweepEvery == 0 {
			d.sweep(ctx)
			d.vacate()
		}
	})
	looks.Wait()
	return nil
}

// every looks again and again until ctx ends.
func every(ctx context.Context, look func(n int)) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look(n)
		}
	}
}

// Close refuses new tasks, ends those under way, and waits for them and for the notifications that tell of it, until ctx ends. It may be called twice.
func (d *Door) Close(ctx context.Context) error {
	d.ended.Do(func() { close(d.closing) })
	d.mu.Lock()
	d.closed = true
	for _, x := range d.running {
		x.stop(errClosing)
	}
	d.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.work.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	d.mu.Lock()
	places := d.places
	d.places, d.current = nil, d.own
	d.mu.Unlock()
	for _, p := range places {
		p.stop()
	}
	d.care.Wait()
	d.grpc.Stop()
	return d.push.close(ctx)
}

func (d *Door) now() time.Time { return task.At(d.cfg.Now()) }

var _ http.Handler = (*Door)(nil)
