// Command store measures a control plane on a large store: it fills one by the public API, adds what instances would have
// reported, starts a real control plane process on it and prints what start, memory and every kind of call cost.
// docs/performance.md holds the results with machine and date.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/agentry/agentry/test/harness"
)

// size is what the store holds.
type size struct {
	agents, revisions, prompts, mcp int
}

// options are the command's flags.
type options struct {
	size

	bin, store, label string
	profiles          string
	applies           int
	watch             time.Duration
}

func main() {
	o := options{}
	flag.StringVar(&o.bin, "bin", "bin", "folder of the binaries")
	flag.StringVar(&o.store, "store", "", "folder of a filled store to measure on a copy of; it is filled if it isn't there (default: a new one each time)")
	flag.StringVar(&o.label, "label", "measured", "heading of the column")
	flag.StringVar(&o.profiles, "profiles", "", "folder for a CPU profile of the applies and a heap profile of the end (default: none)")
	flag.IntVar(&o.agents, "agents", 10_000, "agents")
	flag.IntVar(&o.revisions, "revisions", 5, "revisions of each agent")
	flag.IntVar(&o.prompts, "prompts", 5_000, "prompts")
	flag.IntVar(&o.mcp, "mcp", 500, "MCP entries")
	flag.IntVar(&o.applies, "applies", 500, "how many single agents are applied")
	flag.DurationVar(&o.watch, "watch", 10*time.Second, "how long an idle watch of all statuses is observed")
	small := flag.Bool("small", false, "a size for continuous integration: 500 agents x 2, 250 prompts, 25 MCP entries")
	flag.Parse()
	if *small {
		o.size, o.applies, o.watch = size{agents: 500, revisions: 2, prompts: 250, mcp: 25}, 100, 2*time.Second
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	err := run(ctx, o, os.Stdout)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench store: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	env, err := harness.New(o.bin, "")
	if err != nil {
		return err
	}
	defer func() { _ = env.Remove() }()
	data := filepath.Join(env.Dir, "controlplane")
	if o.store != "" {
		if _, err := os.Stat(o.store); err == nil {
			if err := copyTree(data, o.store); err != nil {
				return fmt.Errorf("copy the filled store: %w", err)
			}
			return measureAt(ctx, env, o, out)
		}
	}
	began := time.Now()
	if err := fill(ctx, env, o.size, out); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	fmt.Fprintf(out, "filled in %.0f s\n", time.Since(began).Seconds())
	if o.store != "" {
		if err := copyTree(o.store, data); err != nil {
			return fmt.Errorf("keep the filled store: %w", err)
		}
	}
	return measureAt(ctx, env, o, out)
}

// copyTree copies a folder; like the original, it is its owner's only.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path) //nolint:gosec // a folder that the caller names
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600) //nolint:gosec // the run's own folder
	})
}
