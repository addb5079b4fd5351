// Package run plays the fault suite: it brings a world up, keeps its work going, lets one fault happen after another, and judges.
package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/agentry/agentry/test/chaos/fleet"
	"github.com/agentry/agentry/test/chaos/history"
	"github.com/agentry/agentry/test/chaos/register"
	"github.com/agentry/agentry/test/chaos/report"
	"github.com/agentry/agentry/test/chaos/traffic"
	"github.com/agentry/agentry/test/chaos/world"
)

// Config says what to run.
type Config struct {
	World world.Options
	Seed  uint64
	// Rate is requests per second at the agents' doors; default 50.
	Rate int
	// Updates is the time between two hot updates; default 1 s. 0 with NoUpdates: nobody updates but who asks for it.
	Updates   time.Duration
	NoUpdates bool
	// Pinned has updates name prompts by their versions: where configs are refused.
	Pinned bool
	// Clients of the API's registers, and how long each waits between two operations; default 8 and 130 ms.
	Clients int
	Think   time.Duration
	// Look is how often every instance is asked what it runs; default 500 ms.
	Look time.Duration
	Logf func(format string, args ...any)
}

func (c *Config) defaults() {
	if c.Rate == 0 {
		c.Rate = 50
	}
	if c.Updates == 0 {
		c.Updates = time.Second
	}
	if c.Clients == 0 {
		c.Clients = 8
	}
	if c.Think == 0 {
		c.Think = 130 * time.Millisecond
	}
	if c.Look == 0 {
		c.Look = 500 * time.Millisecond
	}
	c.World.Logf = c.Logf
}

// Stage is a world at work, with everything that judges it.
type Stage struct {
	cfg      Config
	World    *world.World
	Findings *report.Findings
	Fleet    *fleet.Watch
	Writer   *traffic.Writer
	Load     *traffic.Load

	judge     *traffic.Judge
	excuses   *traffic.Excuses
	registers *register.Suite
	store     *history.Store
	watches   *history.APIWatches
	memory    *memory
	doors     []*world.Door

	began     time.Time
	ready     time.Duration // from the start to the first request
	stop      []func()      // ends work, in order
	wg        sync.WaitGroup
	refusable map[*world.Node]bool // instances whose memory of refusals was taken from them
	doings    []report.Doing
	leftOut   []report.LeftOut
	figures   map[string]any
}

// Begin starts everything and returns when all work goes on.
func Begin(ctx context.Context, cfg Config) (*Stage, error) {
	cfg.defaults()
	s := &Stage{cfg: cfg, Findings: &report.Findings{Logf: cfg.Logf}, began: time.Now(), excuses: &traffic.Excuses{}, refusable: map[*world.Node]bool{}}
	w, err := world.Start(ctx, cfg.World)
	if err != nil {
		return nil, err
	}
	s.World = w
	cfg.Logf("started %d etcd members and %d control planes in %s; everything is kept there", len(w.Etcds), len(w.Planes), w.Dir)
	if err := s.begin(ctx); err != nil {
		w.Stop()
		return nil, fmt.Errorf("%w (logs in %s)", err, w.Dir)
	}
	s.ready = time.Since(s.began)
	cfg.Logf("everything is at work after %s", s.ready.Round(time.Millisecond))
	return s, nil
}

func (s *Stage) begin(ctx context.Context) error {
	w := s.World
	s.doors = w.Doors()
	var err error
	if s.store, err = history.New(ctx, w, s.Findings); err != nil {
		return err
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.background(work, func(ctx context.Context) { s.store.Follow(ctx) })
	s.watches = s.store.NewAPIWatches()
	s.background(work, s.watches.Follow)
	name := filepath.Base(w.Dir)
	s.judge = traffic.NewJudge(s.Findings)
	s.Fleet = &fleet.Watch{World: w, Findings: s.Findings, Every: s.cfg.Look}
	s.Writer = &traffic.Writer{World: w, Findings: s.Findings, Judge: s.judge, Name: name, Seed: s.cfg.Seed, Every: s.cfg.Updates, Pinned: s.cfg.Pinned, Acked: s.acked}
	if err := s.Writer.Begin(ctx); err != nil {
		stop()
		return err
	}
	keys, err := keysCount(ctx, s.doors)
	if err != nil {
		stop()
		return err
	}
	s.registers, err = register.New(ctx, register.Config{
		World: w, Findings: s.Findings, Run: name, Seed: s.cfg.Seed, Registers: 4, Clients: s.cfg.Clients, Think: s.cfg.Think,
		Reads: 0.6, Chunk: 400, KeysCount: keys, Acked: s.store.Acked,
	})
	if err != nil {
		stop()
		return err
	}
	if err := w.StartAgents(ctx); err != nil {
		stop()
		return err
	}
	if _, err := s.Fleet.Converged(ctx, s.doors, time.Now(), time.Minute); err != nil {
		stop()
		return fmt.Errorf("the fleet doesn't come up: %w", err)
	}
	s.memory = newMemory(w)
	s.background(work, s.memory.run)
	s.background(work, s.Fleet.Run)
	s.stop = append(s.stop, stop)
	s.Load = &traffic.Load{World: w, Findings: s.Findings, Judge: s.judge, Excuses: s.excuses, Rate: s.cfg.Rate, Seed: s.cfg.Seed}
	s.work(ctx, s.Load.Run)
	s.work(ctx, func(ctx context.Context) {
		if err := s.registers.Run(ctx); err != nil {
			s.Findings.Violate("harness", "registers: %v", err)
		}
	})
	if !s.cfg.NoUpdates {
		s.work(ctx, s.Writer.Run)
	}
	return nil
}

func (s *Stage) acked(u traffic.Update) {
	if u.StoreRevision != 0 {
		s.store.Acked(u.StoreRevision, u.Head)
	}
	s.Fleet.Expect(u.Agent, u.Revision, u.At)
}

// background runs f until the world goes down.
func (s *Stage) background(ctx context.Context, f func(context.Context)) {
	s.wg.Go(func() { f(ctx) })
}

// work runs f until the work is to end, before what judges it does.
func (s *Stage) work(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	s.stop = append([]func(){func() { cancel(); <-done }}, s.stop...)
}

// errViolations is the answer of a run that found something.
var errViolations = errors.New("violations were found")
