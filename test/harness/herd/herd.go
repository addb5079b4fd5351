// Package herd simulates many instances in one process of their own, so that a test or a bench can stop and continue all of them
// by signals while others go on. Each has its own connection and stream, answers every offer with APPLIED at once, and comes back
// as agentd does: with full jitter, reset by a confirmed answer, and not before a goodbye's time. A program that starts herds calls
// Main first thing; it never ends up in the product.
package herd

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"

	"github.com/agentry/agentry/test/harness/pki"
)

// Config says whom to simulate.
type Config struct {
	Target string `json:"target"` // of the control plane's runtime door, host:port
	// Targets are the runtime doors of several replicas, instead of Target: an instance begins at any of them, and goes on to the next
	// when a stream ends.
	Targets []string `json:"targets,omitempty"`
	// CACert and CAKey are the files of the control plane's authority (pki.CA.WriteFiles): each agent's instances share a certificate.
	CACert string `json:"caCert"`
	CAKey  string `json:"caKey"`
	N      int    `json:"n"`
	// Agents are the names that the instances are spread over in turn; Prefix begins their ids.
	Agents []string `json:"agents"`
	Prefix string   `json:"prefix"`
}

// State is where a herd stands. Times are of the machine's monotonic clock, comparable between processes.
type State struct {
	Confirmed int   `json:"confirmed"` // instances whose stream is up and answered something
	Oldest    int64 `json:"oldest"`    // the least generation that an instance runs
	Newest    int64 `json:"newest"`
	// Since the last reset.
	Snapshots int   `json:"snapshots"`
	Most      int   `json:"most"`  // snapshots of one instance
	Bytes     int64 `json:"bytes"` // of content
	Goodbyes  int   `json:"goodbyes"`
	// Of the instances' last confirmations and last applied snapshots.
	Last          time.Duration `json:"last"`
	P50           time.Duration `json:"p50"`
	P99           time.Duration `json:"p99"`
	LastConfirmed time.Duration `json:"lastConfirmed"`
}

// Now is the clock of State.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // Linux always has it
	}
	return time.Duration(ts.Nano())
}

// group is the process's instances.
type group struct {
	cfg   Config
	creds map[string]credentials.TransportCredentials // by agent

	mu      sync.Mutex // guards what follows and the counters of members
	members []*member
	changed chan struct{} // closed and made anew when a member changed
}

func newGroup(cfg Config) (*group, error) {
	if len(cfg.Targets) == 0 {
		cfg.Targets = []string{cfg.Target}
	}
	g := &group{cfg: cfg, changed: make(chan struct{})}
	var err error
	if g.creds, err = transports(cfg); err != nil {
		return nil, err
	}
	for i := range cfg.N {
		g.members = append(g.members, &member{
			group: g, agent: cfg.Agents[i%len(cfg.Agents)], id: fmt.Sprintf("%s-%05d", cfg.Prefix, i),
			target: rand.N(len(cfg.Targets)), //nolint:gosec // spreads load
		})
	}
	return g, nil
}

// transports gives the TLS settings of each agent's instances, which resume sessions as agentd does.
func transports(cfg Config) (map[string]credentials.TransportCredentials, error) {
	ca, err := pki.Load(cfg.CACert, cfg.CAKey)
	if err != nil {
		return nil, err
	}
	out := map[string]credentials.TransportCredentials{}
	for _, agent := range cfg.Agents {
		leaf, err := ca.Agent("default", agent, "")
		if err != nil {
			return nil, err
		}
		out[agent] = credentials.NewTLS(ca.Client(leaf, tls.NewLRUClientSessionCache(1)))
	}
	return out, nil
}

// run keeps all instances in step until ctx ends.
func (g *group) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, m := range g.members {
		all.Go(func() { m.run(ctx) })
	}
	all.Wait()
}

func (g *group) note(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait waits until a condition holds.
func (g *group) wait(ctx context.Context, holds func(*member) bool) error {
	for {
		g.mu.Lock()
		left, changed := 0, g.changed
		for _, m := range g.members {
			if !holds(m) {
				left++
			}
		}
		g.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d instances are not there: %w", left, len(g.members), ctx.Err())
		case <-changed:
		}
		select { // a look costs as much as there are members
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}
