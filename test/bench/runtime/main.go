// Command runtime measures what a turn costs in agentd: latency, throughput, CPU and memory, beside a direct call of the model and a floor,
// the least that an agent can be in the standard library. Stub model, stub MCP server, floor, agentd and load run on one machine in one
// run, taking turns, so that ratios count. docs/performance.md says what each number means and holds results.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

type options struct {
	bin      string
	rounds   int
	each     time.Duration
	workers  int
	idle     int
	soak     time.Duration
	push     time.Duration
	profiles string
	only     string
	asJSON   bool
	keep     bool
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "folder of the binaries")
	flag.IntVar(&o.rounds, "rounds", 5, "how often each system is measured, taking turns; medians are shown")
	flag.DurationVar(&o.each, "each", 1500*time.Millisecond, "how long one measurement is")
	flag.IntVar(&o.workers, "c", 16, "requests side by side where there are many")
	flag.IntVar(&o.idle, "idle", 50, "idle instances whose memory is read; 0: none")
	flag.DurationVar(&o.soak, "soak", time.Minute, "how long memory is watched under load; 0: not at all")
	flag.DurationVar(&o.push, "push", 30*time.Second, "how long a revision is pushed every second under load; 0: not at all")
	flag.StringVar(&o.profiles, "profiles", "", "folder for CPU and allocation profiles of agentd and the floor, taken in a round of their own; \"\": none")
	flag.StringVar(&o.only, "only", "", "measure this scenario alone, by its name in the table")
	flag.BoolVar(&o.asJSON, "json", false, "print JSON instead of a table")
	flag.BoolVar(&o.keep, "keep", false, "keep the run's folder with the logs")
	role := flag.String("role", "", "internal: stubs or floor")
	upstream := flag.String("upstream", "", "internal: where the floor finds the stubs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	switch *role {
	case "stubs":
		err = serve(ctx, stubs(), os.Stdout)
	case "floor":
		err = serveFloor(ctx, *upstream, os.Stdout)
	default:
		err = run(ctx, o, os.Stdout)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench runtime: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer w.close()
	var doc document
	doc.Load = loadAverage()
	for _, s := range scenarios(o) {
		if o.only != "" && s.name != o.only {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", s.name)
		r, err := s.measure(ctx, o, w)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		doc.Scenarios = append(doc.Scenarios, r)
		if o.profiles != "" {
			if err := s.profile(ctx, o, w); err != nil {
				return fmt.Errorf("profile %s: %w", s.name, err)
			}
		}
	}
	for _, part := range []struct {
		name    string
		asked   bool
		measure func(context.Context, options, *world, *document) error
	}{{"idle", o.idle > 0, idle}, {"soak", o.soak > 0, soak}, {"push", o.push > 0, push}} {
		if !part.asked || o.only != "" && o.only != part.name {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", part.name)
		if err := part.measure(ctx, o, w, &doc); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	doc.judge()
	if o.asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(doc)
	}
	doc.table(out)
	return nil
}
