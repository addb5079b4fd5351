package configclient

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/agentry/agentry/internal/errs"
	"github.com/agentry/agentry/internal/manifest"
	"github.com/agentry/agentry/internal/phase"
	"github.com/agentry/agentry/internal/secret"
)

// ErrFenced is Commit's answer to content below the fence: drop what was built, keep the old.
var ErrFenced = errors.New("below the fence")

// Conn is a connection to one control plane address.
type Conn interface {
	grpc.ClientConnInterface
	io.Closer
}

// Config is what a Client needs.
type Config struct {
	Namespace    string
	Agent        string
	Version      string // of this agentd
	Capabilities []string
	Labels       map[string]string
	Endpoints    []string // where others reach this instance
	Addresses    []string // of control planes' replicas, tried in turn, in an order of this process's own
	// Dial makes a connection; it may connect later. The stream ends it.
	Dial    func(ctx context.Context, address string) (Conn, error)
	State   *State
	Applier Applier
	// ApplyDeadline bounds one attempt, default 10 s.
	ApplyDeadline time.Duration
	// BeatInterval is the mean time between beats, default 15 s.
	BeatInterval time.Duration
	// Beat gives what a beat tells beside the running token; nil: nothing. first is true for the first of a stream. It returns at once.
	Beat func(first bool) Beat
	// Drain is called once for Command drain; nil: ignored. It returns at once.
	Drain func()
	// Redactor learns every credential value that arrives and cleans the faults' messages; nil: a private one.
	Redactor *secret.Redactor
	Log      *slog.Logger
}

// Beat is what an instance tells every 15 s: counters since the last one.
type Beat struct {
	InFlight     int
	Usage        []Usage
	Dependencies []Dependency // changes only
}

// Usage counts requests of one config.
type Usage struct {
	Config       string
	Requests     uint64
	Errors       uint64
	Latency      []uint64 // per bound of push.proto
	InputTokens  uint64
	OutputTokens uint64
}

// Dependency is the health of something that a config needs.
type Dependency struct {
	Resource string
	Healthy  bool
	Message  string
	Tools    []DependencyTool
}

// DependencyTool is one discovered tool.
type DependencyTool struct {
	Name        string
	Description string
	Definition  manifest.Hash
}

// Status is where a Client stands, for people.
type Status struct {
	Connected   bool              `json:"connected"`
	Address     string            `json:"address"` // of the control plane
	Reason      string            `json:"reason"`  // why nothing newer is there, in words; empty when all is well
	Phase       phase.Phase       `json:"phase"`
	Faults      []phase.Fault     `json:"faults"`
	ConfigState phase.ConfigState `json:"configState"`
	Desired     manifest.Token    `json:"desired"`
	Running     manifest.Token    `json:"running"`
	Revision    int64             `json:"revision"`
	Fence       manifest.Fence    `json:"fence"`
	Overlay     Overlay           `json:"overlay"`
	Endpoints   []Endpoint        `json:"endpoints"`
	EndpointsAt time.Time         `json:"endpointsAt"`
	Refusals    []Refusal         `json:"refusals"`
}

// Client keeps one instance in step with the control plane.
type Client struct {
	cfg  Config
	pace pace

	mu     sync.Mutex // guards status
	status Status
}

// pace is how long things wait; tests go faster.
type pace struct {
	received   time.Duration // until RECEIVED is reported
	retryMin   time.Duration
	retryMax   time.Duration
	connectMin time.Duration
	connectMax time.Duration
	welcome    time.Duration // from dialling to the first message
	hold       time.Duration // how long Hello waits for the start from last good
	beat       time.Duration
	leave      time.Duration // how long a clean leave waits for the server's end
}

func defaultPace() pace {
	return pace{
		received: 200 * time.Millisecond,
		retryMin: 200 * time.Millisecond, retryMax: 5 * time.Second,
		connectMin: 200 * time.Millisecond, connectMax: 30 * time.Second,
		welcome: 10 * time.Second, hold: 1500 * time.Millisecond, beat: 15 * time.Second, leave: time.Second,
	}
}

// New makes a Client. Nothing happens before Run.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Agent == "" || cfg.Namespace == "":
		return nil, errs.New(errs.Invalid, "config client: agent and namespace are needed")
	case len(cfg.Addresses) == 0:
		return nil, errs.New(errs.Invalid, "config client: no control plane address")
	case cfg.Dial == nil || cfg.State == nil || cfg.Applier == nil || cfg.Log == nil:
		return nil, errs.New(errs.Invalid, "config client: dial, state, applier and log are needed")
	}
	if cfg.ApplyDeadline <= 0 {
		cfg.ApplyDeadline = 10 * time.Second
	}
	if cfg.Redactor == nil {
		cfg.Redactor = &secret.Redactor{}
	}
	c := &Client{cfg: cfg, pace: defaultPace()}
	if cfg.BeatInterval > 0 {
		c.pace.beat = cfg.BeatInterval
	}
	c.status = Status{Phase: phase.Pending, Reason: "connecting to the control plane"}
	return c, nil
}

// Status gives where the client stands. The slices are not to be changed.
func (c *Client) Status() Status {
	c.mu.Lock()
	st := c.status
	c.mu.Unlock()
	m := c.cfg.State.recall()
	st.Fence, st.Overlay, st.Endpoints, st.EndpointsAt, st.Refusals = m.Fence, m.Overlay, m.Endpoints, m.EndpointsAt, m.Refusals
	return st
}

// Run starts from last good and the control plane at once, and goes on until ctx ends. It is called once. It waits for
// everything it started.
func (c *Client) Run(ctx context.Context) error {
	d := newDriver(c)
	d.run(ctx)
	return nil
}
