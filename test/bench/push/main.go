// Command push measures the push path: one change of one head until the last of n simulated instances has acknowledged it, for the
// real control plane with its embedded etcd, for a yardstick (the least that a push server does) and for go-control-plane, one after
// the other in one run, on the same machine, with the same bytes and the same gRPC settings. docs/performance.md says what each
// number means and holds results. It has its own module, so that go-control-plane never gets into the product's.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/agentry/agentry/test/harness/herd"
)

// The systems, as the frozen JSON names them.
const (
	nameAgentry   = "agentry"
	nameYardstick = "yardstick"
	nameXDS       = "go-control-plane"
)

type options struct {
	n, agents, rounds int
	singles           int
	reconnects        int
	bin, profiles     string
	systems           string
	asJSON            bool
	keep              bool
	scenario          string
	tls               bool
	ca                authority
}

func main() {
	if herd.Main() {
		return
	}
	var o options
	flag.IntVar(&o.n, "n", 1000, "instances")
	flag.IntVar(&o.agents, "agents", 1, "agents that they are spread over; one prompt is shared by all")
	flag.IntVar(&o.rounds, "rounds", 10, "changes to all that are measured")
	flag.IntVar(&o.singles, "singles", 100, "changes to one instance that are measured; 0: none")
	flag.IntVar(&o.reconnects, "reconnects", 3, "how often all leave and come back, with TLS sessions to resume and without; 0: not at all")
	flag.BoolVar(&o.asJSON, "json", false, "print JSON instead of a table")
	flag.StringVar(&o.bin, "bin", "../../../bin", "folder of the binaries")
	flag.StringVar(&o.systems, "systems", nameAgentry+","+nameYardstick+","+nameXDS, "which are measured")
	flag.StringVar(&o.profiles, "profiles", "", "folder for CPU and heap profiles of the servers; \"\": none")
	flag.BoolVar(&o.keep, "keep", false, "keep the run's folder with the logs")
	flag.StringVar(&o.scenario, "scenario", "", "run stuck, restart, shared, latency or replicas against agentry alone instead of the comparison")
	flag.BoolVar(&o.tls, "tls", true, "mutual TLS for the two to compare with, too; agentry's is always on")
	role := flag.String("role", "", "internal: serve or clients")
	system := flag.String("system", "", "internal: which one this process is for")
	target := flag.String("target", "", "internal: where the clients connect")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := raiseFiles()
	if err == nil {
		switch *role {
		case "serve":
			err = serve(ctx, *system)
		case "clients":
			err = runClients(ctx, *system, *target, o.n, o.agents)
		default:
			err = run(ctx, o, os.Stdout)
		}
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench push: %v\n", err)
		os.Exit(1)
	}
}

// raiseFiles lifts this process's limit of open files to what the system allows it.
func raiseFiles() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}

// limit bounds one system's measurement.
const limit = 15 * time.Minute

func run(ctx context.Context, o options, out io.Writer) error {
	if o.n < 1 || o.agents < 1 || o.agents > o.n || o.rounds < 1 || o.singles < 0 || o.reconnects < 0 {
		return errors.New("-n, -agents and -rounds must be positive, -singles and -reconnects not negative, and -agents not above -n")
	}
	dir, err := os.MkdirTemp("", "bench-push-")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(os.Stderr, "folder:", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	if o.ca, err = newAuthority(dir); err != nil {
		return err
	}
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o750); err != nil {
			return err
		}
	}
	if o.scenario == "replicas" {
		return runReplicas(ctx, o, filepath.Join(dir, o.scenario), out)
	}
	if o.scenario != "" {
		return runScenario(ctx, o, o.scenario, dir, out)
	}
	systems := strings.Split(o.systems, ",")
	if !slices.Contains(systems, nameAgentry) {
		return errors.New("-systems must contain agentry: the others send what it sends")
	}
	var results []result
	var content []byte
	for _, name := range systems {
		fmt.Fprintf(os.Stderr, "measuring %s: %d instances of %d agents\n", name, o.n, o.agents)
		bounded, cancel := context.WithTimeout(ctx, limit)
		r, c, err := measureOne(bounded, o, name, filepath.Join(dir, name), content)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if content == nil {
			content = c
		}
		results = append(results, r)
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(struct {
			N       int      `json:"n"`
			Systems []result `json:"systems"`
		}{o.n, results})
	}
	table(out, o, len(content), results)
	return nil
}
