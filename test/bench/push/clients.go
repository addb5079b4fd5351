package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	pushv1 "github.com/agentry/agentry/gen/agentry/push/v1"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"golang.org/x/sync/errgroup"

	"github.com/agentry/agentry/test/bench/push/h2"
)

// The two instances beside the n: one whose agent has no other instance, and one that refuses when told to.
const (
	soloAgent    = "solo"
	refuserAgent = "refuser"
)

func agentName(i int) string { return fmt.Sprintf("agent-%05d", i) }

// crowd is the process of the simulated instances: one TCP connection and one stream each.
type crowd struct {
	system  string
	target  string
	header  []byte // of every stream
	members []*member
	creds   *clientCreds

	round     atomic.Pointer[round]
	contents  atomic.Int64 // bytes of content received
	arrivals  atomic.Int64 // messages received
	refusing  atomic.Bool
	refused   atomic.Int64 // how often something was sent that was or is refused
	last      atomic.Int64 // when the newest of confirmed did
	confirmed atomic.Int64 // members that answered something since they were opened; without the refuser, who may be told nothing
}

// round is one change under way: when each member acknowledged it.
type round struct {
	solo bool
	at   []atomic.Int64
	left atomic.Int64
	done chan struct{}
}

// member is one instance. The goroutine that run starts owns what follows done.
type member struct {
	crowd *crowd
	index int
	agent string

	stop context.CancelFunc
	done chan struct{}

	conn    *h2.Conn // nil: none
	version []byte   // acknowledged last
	running []byte   // push: a marshalled token; nil: nothing
	first   []byte   // push: the first whole content, of member 0
	last    []byte   // push: the newest content
	out     []byte   // room for an answer
	refuses string   // version that it refuses
}

func runClients(ctx context.Context, system, target string, n, agents int) error {
	creds, err := newClientCreds(os.Getenv)
	if err != nil {
		return err
	}
	c, err := newCrowd(system, target, creds, n, agents)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(reply{}); err != nil {
		return err
	}
	return answer(os.Stdin, os.Stdout, func(cmd command) (reply, error) {
		ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
		defer cancel()
		return c.do(ctx, cmd)
	})
}

func newCrowd(system, target string, creds *clientCreds, n, agents int) (*crowd, error) {
	method := pushv1.ConfigService_Stream_FullMethodName
	if system == nameXDS {
		method = discovery.AggregatedDiscoveryService_StreamAggregatedResources_FullMethodName
	}
	header, err := h2.Header(target, method, creds.secure())
	if err != nil {
		return nil, err
	}
	c := &crowd{system: system, target: target, header: header, creds: creds}
	for i := range n {
		c.members = append(c.members, &member{crowd: c, index: i, agent: agentName(i % agents)})
	}
	for _, a := range []string{soloAgent, refuserAgent} {
		c.members = append(c.members, &member{crowd: c, index: len(c.members), agent: a})
	}
	return c, nil
}

func (c *crowd) do(ctx context.Context, cmd command) (reply, error) {
	switch cmd.Op {
	case "open":
		err := c.open(ctx)
		return reply{Content: c.members[0].first, Bytes: c.contents.Load()}, err
	case "leave":
		c.close()
		c.contents.Store(0)
		c.creds.way(cmd.Scope)
		return reply{}, nil
	case "return":
		err := c.open(ctx)
		return reply{Bytes: c.contents.Load(), Last: c.last.Load()}, err
	case "arm":
		r := &round{solo: cmd.Scope == soloAgent, at: make([]atomic.Int64, len(c.members)), done: make(chan struct{})}
		r.left.Store(1)
		if !r.solo {
			r.left.Store(int64(len(c.members) - 2))
		}
		c.round.Store(r)
		return reply{}, nil
	case "wait":
		return c.wait(ctx)
	case "refuse":
		c.refused.Store(0)
		c.refusing.Store(true)
		return reply{}, nil
	case "refused":
		c.refusing.Store(false)
		return reply{Sent: c.refused.Load()}, nil
	default:
		return reply{}, fmt.Errorf("unknown op %q", cmd.Op)
	}
}

// handshakes is how many connections are being made at a time. A server that is asked for thousands at once would not finish one before
// its client gave up, and agentd's come apart by their backoff.
const handshakes = 256

// open opens every stream and waits until each was answered and nothing more comes for half a second.
func (c *crowd) open(ctx context.Context) error {
	c.confirmed.Store(0)
	g, opening := errgroup.WithContext(ctx)
	g.SetLimit(handshakes)
	for _, m := range c.members {
		g.Go(func() error { return m.open(opening) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var quiet time.Duration
	for last := int64(-1); c.confirmed.Load() < int64(len(c.members)-1) || quiet < 500*time.Millisecond; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d instances confirmed: %w", c.confirmed.Load(), len(c.members)-1, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
		if at := c.arrivals.Load(); at != last {
			last, quiet = at, 0
		} else {
			quiet += 50 * time.Millisecond
		}
		if c.system == nameXDS && quiet > 2*time.Second {
			return nil // it may say nothing to a client that is up to date
		}
	}
	return nil
}

func (c *crowd) close() {
	for _, m := range c.members {
		if m.stop != nil {
			m.stop()
		}
	}
	for _, m := range c.members {
		if m.done != nil {
			<-m.done
		}
	}
}

func (c *crowd) wait(ctx context.Context) (reply, error) {
	r := c.round.Load()
	select {
	case <-r.done:
	case <-ctx.Done():
		return reply{}, fmt.Errorf("%d instances did not acknowledge: %w", r.left.Load(), ctx.Err())
	}
	var at []int64
	for i := range r.at {
		if t := r.at[i].Load(); t != 0 {
			at = append(at, t)
		}
	}
	slices.Sort(at)
	return reply{Last: at[len(at)-1], P50: at[len(at)/2], P99: at[len(at)*99/100]}, nil
}

// open starts the instance and waits until its connection, with its handshake, and its stream are open.
func (m *member) open(ctx context.Context) error {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop, m.done = stop, make(chan struct{})
	started := make(chan error, 1)
	go func() {
		defer close(m.done)
		defer m.hangUp()
		var err error
		if m.crowd.system == nameXDS {
			err = m.runXDS(run, started)
		} else {
			err = m.runPush(run, started)
		}
		if run.Err() == nil {
			fmt.Fprintf(os.Stderr, "instance %d of %s: stream ended: %v\n", m.index, m.agent, err)
			os.Exit(1) // nothing that follows would mean anything
		}
	}()
	select {
	case err := <-started:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call opens a stream with its first message, on the connection that is there or on a new one, which ends with ctx.
func (m *member) call(ctx context.Context, first []byte) error {
	if m.conn == nil {
		cfg, err := m.crowd.creds.of(m.agent)
		if err != nil {
			return err
		}
		if m.conn, err = h2.Dial(ctx, h2.Config{Target: m.crowd.target, TLS: cfg, Header: m.crowd.header}); err != nil {
			return err
		}
	}
	return m.conn.Open(first)
}

func (m *member) hangUp() {
	if m.conn != nil {
		_ = m.conn.Close()
		m.conn = nil
	}
}

// answered counts the first answer on a stream.
func (c *crowd) answered() {
	c.last.Store(int64(now()))
	c.confirmed.Add(1)
}

// acked records the acknowledgement of a version.
func (m *member) acked(version []byte) {
	first := len(m.version) == 0
	if bytes.Equal(version, m.version) {
		return
	}
	m.version = append(m.version[:0], version...)
	if !first {
		m.record()
	}
}

func (m *member) record() {
	c := m.crowd
	r := c.round.Load()
	n := len(c.members) - 2
	if r == nil || (r.solo && m.index != n) || (!r.solo && m.index >= n) {
		return
	}
	if r.at[m.index].CompareAndSwap(0, int64(now())) && r.left.Add(-1) == 0 {
		close(r.done)
	}
}
