// Command chaos is the fault suite: real etcd members, control planes and agents under work, one fault after another from a seed, and
// everything judged. `make chaos SEED=7 DURATION=60m` runs it; see docs/reliability.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/chaos/faults"
	"github.com/agentry/agentry/test/chaos/run"
	"github.com/agentry/agentry/test/chaos/world"
	"github.com/agentry/agentry/test/harness/herd"
)

func main() {
	if herd.Main() { // this program again, as simulated instances
		return
	}
	o := options{}
	flag.Uint64Var(&o.seed, "seed", 1, "what all choices come from")
	flag.DurationVar(&o.duration, "duration", 10*time.Minute, "how long faults happen; 0: each kind once")
	flag.DurationVar(&o.every, "every", 5*time.Second, "least time between the end of one fault and the next; at most twice as long")
	flag.StringVar(&o.scenario, "scenario", "faults", "faults, smoke, lose-one, outage, leader-kill, herd or mutations")
	flag.StringVar(&o.only, "only", "", "kinds of faults, or mutations, by comma; empty: all")
	flag.IntVar(&o.n, "n", 50, "of leader-kill: how often; of herd: how many")
	flag.IntVar(&o.draw, "draw", 0, "of mutations: how many, drawn from the seed; 0: all")
	flag.DurationVar(&o.outage, "for", 5*time.Minute, "of outage: how long")
	flag.IntVar(&o.updates, "updates", 1000, "of lose-one: hot updates in all")
	flag.StringVar(&o.world.Bin, "bin", "", "folder of the binaries, which then have no failpoints; empty: they are built with them, into .tmp/chaos")
	flag.StringVar(&o.builds, "build", "", "folder to build in, which two runs must not share; empty: .tmp/chaos in the module")
	flag.StringVar(&o.world.Root, "root", ".", "the module's root")
	flag.StringVar(&o.world.Base, "dir", "", "folder below which the run keeps everything; empty: the system's temporary one")
	flag.StringVar(&o.report, "report", "", "where to write the report, without .json and .md; empty: the run's folder, which is then kept")
	flag.BoolVar(&o.keep, "keep", false, "keep the run's folder without violations too")
	flag.Parse()
	o.logf = func(format string, args ...any) {
		fmt.Printf("%s "+format+"\n", append([]any{time.Now().Format("15:04:05.000")}, args...)...)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

type options struct {
	seed            uint64
	duration, every time.Duration
	scenario, only  string
	n, updates      int
	draw            int
	outage          time.Duration
	world           world.Options
	report, builds  string
	caCert, caKey   string // of herd
	keep            bool
	kit             faults.Kit
	logf            func(format string, args ...any)
}

func (o options) run(ctx context.Context) error {
	if err := o.build(ctx); err != nil {
		return err
	}
	if o.scenario == "mutations" {
		return o.mutations(ctx)
	}
	play, ok := map[string]func(context.Context, options, *run.Stage) (run.Minimum, error){
		"faults": faultsForAWhile, "smoke": smoke,
		"lose-one": func(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
			return s.LoseOne(ctx, o.updates)
		},
		"outage": func(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
			return s.Outage(ctx, o.outage)
		},
		"herd": func(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
			return s.Herd(ctx, o.n, o.caCert, o.caKey)
		},
		"leader-kill": func(ctx context.Context, o options, s *run.Stage) (run.Minimum, error) {
			return s.LeaderKill(ctx, o.n)
		},
	}[o.scenario]
	if !ok {
		return fmt.Errorf("--scenario: %q", o.scenario)
	}
	if o.scenario == "faults" || o.scenario == "smoke" {
		if err := o.skewed(ctx); err != nil {
			return err
		}
		if err := o.lay(ctx); err != nil {
			return err
		}
		defer o.takeUp()
	}
	// Updates name their prompts by version: some faults have good configs refused, which must leave no prompt behind.
	cfg := run.Config{World: o.world, Seed: o.seed, Logf: o.logf, Pinned: true}
	switch o.scenario {
	case "lose-one":
		cfg.Pinned, cfg.Updates, cfg.Look = false, 200*time.Millisecond, 200*time.Millisecond
	case "leader-kill":
		cfg.NoUpdates = true
	case "herd":
		dir, err := os.MkdirTemp(o.world.Base, "agentry-ca-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
		if o.caCert, o.caKey, err = run.Authority(&cfg.World, dir); err != nil {
			return err
		}
		cfg.Rate, cfg.Updates, cfg.Look = 20, 500*time.Millisecond, 200*time.Millisecond
	}
	s, err := run.Begin(ctx, cfg)
	if err != nil {
		return err
	}
	minimum, err := play(ctx, o, s)
	if err != nil && !errors.Is(err, context.Canceled) {
		s.Findings.Violate("harness", "%v", err)
	}
	r := s.End(ctx)
	r.Scenario = o.scenario
	if ctx.Err() == nil {
		minimum.Hold(r, s)
	}
	return run.Finish(s, r, o.report, o.keep)
}
